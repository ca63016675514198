"""Text from files of others, checked before it is shown: a terminal obeys control codes in it."""

from __future__ import annotations

from typing import Any


def unprintable(value: Any) -> str | None:
    """The first text in a JSON value, key or value, that `str.isprintable` refuses; None if there is none.

    Those are texts with control codes, ends of lines, halves of surrogate pairs, invisible and private characters, and
    any space but the plain one.
    """
    if isinstance(value, str):
        return None if value.isprintable() else value
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return next((found for found in map(unprintable, value) if found is not None), None)
    return None


def printable(value: Any) -> Any:
    """The JSON value with U+FFFD for each character that `unprintable` refuses; tuples become lists."""
    if isinstance(value, str):
        return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in value)
    if isinstance(value, dict):
        return {printable(key): printable(each) for key, each in value.items()}
    return [printable(each) for each in value] if isinstance(value, list | tuple) else value
