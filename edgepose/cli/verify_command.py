"""edgepose verify: is a plan right on this device?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

MOST = 8  # of the user's pictures


@click.command("verify")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Pictures of people, each one person; of a bottom-up network of any.  [default: drawn]",
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
    RGB, BGR and NV12 frames (BT.601 and BT.709, both ranges). Of networks whose crops the CPU cuts out (volumes,
    RTMW3D), their outputs and key points, without graph and from RGB. Of bottom-up networks their maps, and the people
    whom no threshold decides. Where they differ it says which part is wrong, and of a network which layer is the first
    to differ. The verdict goes into the plan's passport.

    Exit status 1: the plan is wrong. 3: it is right, but some images could not be read.
    """
    import json

    from edgepose.cli import SOME_UNREADABLE
    from edgepose.evaluation.verify import as_json, as_table, verify_plan

    pictures, unreadable = pictures_of(images)
    check, passport = verify_plan(plan, pictures, onnx=onnx, repeats=repeats, tell=_tell)
    if as_json_:
        click.echo(json.dumps(as_json(check, passport), indent=2))
    else:
        click.echo("\n".join([*as_table(check), f"{plan} {check.verdict}"]))
    ctx.exit(1 if check.fault else SOME_UNREADABLE if unreadable else 0)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def pictures_of(images: Path | None) -> tuple[list[Any], int]:
    """The user's pictures, MOST at most, each one person, or drawn ones: (image, boxes); and how many are unreadable.

    Raises:
        InputError: there is no such file or folder, or none of its pictures can be read.
    """
    import numpy as np

    from edgepose.errors import InputError

    if images is None:
        from edgepose.export.drawn.scene import draw_scene

        return [draw_scene(3, seed) for seed in range(3)], 0
    from edgepose.io.images import find_images, read_image

    read: list[Any] = []
    problems: list[InputError] = []
    for path in find_images([images]):
        if len(read) == MOST:
            break
        try:
            image = read_image(path)
        except InputError as error:
            problems.append(error)
            continue
        read.append((image, np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)))
    if not read:
        raise problems[0]
    for problem in problems:
        _tell(f"{problem}; the others are compared")
    return read, len(problems)
