"""edgepose verify: is a plan right on this device?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("verify")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--images", type=click.Path(path_type=Path), help="Pictures of people, each one person.  [default: drawn]"
)
@click.option("--onnx", type=click.Path(path_type=Path), help="What it was built from.  [default: beside the plan]")
@click.option(
    "--repeats", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Frames run twice over."
)
@click.option("--json", "as_json_", is_flag=True, help="All that was compared, as JSON.")
@click.pass_context
def command(
    ctx: click.Context, plan: Path, images: Path | None, onnx: Path | None, repeats: int, as_json_: bool
) -> None:
    """Compare PLAN with the ONNX that it was built from, computed exactly on the CPU.

    Heat maps and key points for one, an odd number and the most people, with and without flip test and CUDA graph, from
    RGB, BGR and NV12 frames (BT.601 and BT.709, both ranges). Of SimCC and volumes, whose crops the CPU cuts out, their
    outputs and key points, without graph and from RGB. Where they differ it says which part is wrong, and of a
    network which layer is the first to differ. The verdict goes into the plan's passport.

    Exit status 1: the plan is wrong.
    """
    import json

    from edgepose.evaluation.verify import as_json, as_table, verify_plan

    check, passport = verify_plan(plan, pictures_of(images), onnx=onnx, repeats=repeats, tell=_tell)
    if as_json_:
        click.echo(json.dumps(as_json(check, passport), indent=2))
    else:
        click.echo("\n".join([*as_table(check), f"{plan} {check.verdict}"]))
    ctx.exit(1 if check.fault else 0)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def pictures_of(images: Path | None) -> list[Any]:
    """The user's pictures, each one person, or drawn ones: (image, boxes)."""
    import numpy as np

    if images is not None:
        from edgepose.io.images import find_images, read_image

        read = [read_image(path) for path in find_images([images])[:8]]
        return [(image, np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)) for image in read]
    from edgepose.export.drawn.scene import draw_scene

    return [draw_scene(3, seed) for seed in range(3)]
