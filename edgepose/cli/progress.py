"""Progress on stderr, for a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click


def progress(step: str, items: Iterable[Any], count: int) -> Iterator[Any]:
    """Pass the items on; at a terminal, show how many of `count` have passed, where there are several."""
    if not sys.stderr.isatty() or count < 2:
        yield from items
        return
    with click.progressbar(items, length=count, label=step, file=sys.stderr) as bar:
        yield from bar


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows phase, steps done and steps in all on one line, which is cleared in the end."""
    if not sys.stderr.isatty():
        yield lambda phase, done, total: None
        return
    try:
        yield lambda phase, done, total: click.echo(f"\r\033[K{phase[:60]} {done}/{total}", err=True, nl=False)
    finally:
        click.echo("\r\033[K", err=True, nl=False)
