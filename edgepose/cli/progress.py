"""A progress bar on stderr, for a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click


def progress(step: str, items: Iterable[Any], count: int) -> Iterator[Any]:
    """Pass the items on; at a terminal, show how many of `count` have passed, where there are several."""
    if not sys.stderr.isatty() or count < 2:
        yield from items
        return
    with click.progressbar(items, length=count, label=step, file=sys.stderr) as bar:
        yield from bar
