"""Types and texts of options that several commands take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from edgepose.limits import MOST_THREADS

THREADS = click.IntRange(1, MOST_THREADS)

frame_memory_option = click.option(
    "--frame-memory",
    type=click.Choice(("copied", "mapped", "managed")),
    help="Of a plan of heat maps or SimCC: where the GPU reads frames. Copied: its own memory. Mapped: the CPU's, "
    "without a copy, and on a Jetson without the GPU's cache. Managed: cached by both. Measure it.  [default: copied]",
)


def memory_of_plans(frame_memory: str | None, models: Iterable[Path]) -> dict[str, str]:
    """What load_backend takes for --frame-memory; wrong usage where a model is no plan, or the CPU reads its frames."""
    if frame_memory is None:
        return {}
    from edgepose.backends import gpu_reads_frames
    from edgepose.model.passport import read_passport

    for model in models:
        if model.suffix not in (".plan", ".engine"):
            raise click.UsageError(f"--frame-memory goes with TensorRT plans; {model} is none")
        spec = read_passport(model).spec
        if not gpu_reads_frames(spec):
            raise click.UsageError(
                f"--frame-memory goes with heat maps and SimCC of crops; the CPU reads the frames of {model} "
                f"({spec.head.kind})"
            )
    return {"frame_memory": frame_memory}


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
