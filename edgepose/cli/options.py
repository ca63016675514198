"""Types and texts of options that several commands take."""

from __future__ import annotations

import math
from typing import Any

import click

from edgepose.limits import MOST_THREADS

THREADS = click.IntRange(1, MOST_THREADS)


SCALE_HELP = (
    "Of a bottom-up network: the same one for another input size. Maps are averaged over the scales, as published "
    "figures of several scales are made. Repeatable."
)


class Number(click.FloatRange):
    """A number in a range; NaN is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; wrong usage if it is none."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number", param, ctx)
        return number
