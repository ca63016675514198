"""Why a package cannot be imported: it is absent, or it is installed and broken. The cures differ."""

from __future__ import annotations


def is_absent(error: Exception, package: str) -> bool:
    """Whether an import failed because this package is not installed, rather than another one that it needs."""
    return isinstance(error, ModuleNotFoundError) and error.name == package


def load_failure(error: Exception, package: str) -> str:
    """One line that says why an installed package cannot be imported."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{package} is installed but does not load ({': '.join([type(error).__name__, *lines[:1]])})"
