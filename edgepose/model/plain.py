"""Frozen dataclasses as plain JSON values, and back: lists become tuples, and a wrong entry is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from edgepose.errors import ModelFileError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses as objects, without the entries that are None by default; tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((item, getattr(value, item.name)) for item in fields(value))
        return {item.name: to_plain(entry) for item, entry in pairs if entry is not None or item.default is not None}
    if isinstance(value, Mapping):
        return {key: to_plain(entry) for key, entry in value.items()}
    return [to_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def from_plain(kind: type[T], data: Any, what: str) -> T:
    """Read what `to_plain` wrote, or what a user wrote by hand.

    Args:
        kind: a frozen dataclass that checks its values; `what` it is called in messages.

    Raises:
        ModelFileError: it is no object, has unknown or missing entries, or a value that `kind` refuses.
    """
    if not isinstance(data, Mapping):
        raise ModelFileError(f"{what} must be a JSON object, got {type(data).__name__}")
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
    needed = {
        item.name
        for item in fields(kind)  # type: ignore[arg-type]
        if item.default is MISSING and item.default_factory is MISSING
    }
    unknown, missing = sorted(set(data) - known), sorted(needed - set(data))
    if unknown or missing:
        found = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(missing)
        raise ModelFileError(f"{what}: {'; '.join(found)}; it has: {', '.join(sorted(known))}")
    try:
        return kind(**{key: _frozen(value) for key, value in data.items()})
    except (TypeError, ValueError, OverflowError) as error:  # OverflowError: 10**400 is no float
        raise ModelFileError(f"{what}: {error}") from error
    except ModelFileError as error:  # of an entry that is an object itself
        raise ModelFileError(f"{what}: {error}") from error


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _frozen(entry) for key, entry in value.items()}
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value
