"""What BF16 costs in key points, on drawn people: a benchmark has no photographs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from edgepose.backends.bf16 import compared_in_fp32
from edgepose.estimate.top_down import estimate_poses
from edgepose.export.drawn.scene import draw_scene

SCENES, PEOPLE = 8, 4


def cost_of_bf16(model: Path, threads: int | None) -> str:
    """How far BF16 moves the key points of drawn people; one line."""
    backend, runtime = compared_in_fp32(model, threads)
    with closing(backend):
        for seed in range(SCENES):
            estimate_poses(backend, *draw_scene(PEOPLE, seed))
    return f"{runtime.cost()}; of drawn people: infer tells of yours"
