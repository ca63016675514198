"""Texts that a terminal shows as they are: of files from elsewhere, which might hold its control codes."""

from __future__ import annotations

from typing import Any


def unprintable(value: Any) -> str | None:
    """The first text, key or value, in a JSON value that has a control code, a line's end or half of a character."""
    if isinstance(value, str):
        return None if value.isprintable() else value
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return next((found for found in map(unprintable, value) if found is not None), None)
    return None


def printable(value: Any) -> Any:
    """The JSON value with U+FFFD for what `unprintable` finds: a file's name may be any bytes."""
    if isinstance(value, str):
        return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in value)
    if isinstance(value, dict):
        return {printable(key): printable(each) for key, each in value.items()}
    return [printable(each) for each in value] if isinstance(value, list | tuple) else value
