"""Whether a package that could not be imported is absent, or there and broken: the cures differ."""

from __future__ import annotations


def is_absent(error: Exception, package: str) -> bool:
    """Whether an import failed because that very package, and not one that it needs, is not there."""
    return isinstance(error, ModuleNotFoundError) and error.name == package


def load_failure(error: Exception, package: str) -> str:
    """Why a package that is there cannot be imported, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{package} is installed but does not load ({': '.join([type(error).__name__, *lines[:1]])})"
