"""edgepose sensitivity: which layers INT8 costs most."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgepose.cli.source_options import calibration_people, calibration_people_options


@click.command("sensitivity")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--images", multiple=True, required=True, metavar="PATH", help="Folder, file or glob; may be given several times."
)
@calibration_people_options
@click.option(
    "--method",
    type=click.Choice(("minmax", "percentile", "entropy", "mse", "max")),
    default="mse",
    show_default=True,
    help="How a range is taken from what was seen.",
)
@click.option(
    "--crops", type=click.IntRange(1), default=64, show_default=True, help="People to compare on, held-out ones first."
)
@click.option(
    "--device",
    metavar="NAME|FILE",
    default="orin-nano",
    show_default=True,
    help="Whose predicted time is shared out: orin-nano, orin-nx, agx-orin, thor, cpu or a JSON file's device.",
)
@click.option(
    "--limit", type=click.IntRange(1), default=512, show_default=True, help="Most people to take ranges from."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which, where there are more.")
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), help="[default: beside the model]")
def command(
    model: Path,
    images: tuple[str, ...],
    boxes: str | None,
    detector: Path | None,
    method: str,
    crops: int,
    device: str,
    limit: int,
    seed: int,
    output_dir: Path | None,
) -> None:
    """Measure what INT8 in each layer and each tensor of an FP32 ONNX does to the key points.

    Of each: that one alone in INT8, and all but that one: how far key points move from FP32's, px of the input, and
    the signal to noise ratio of the outputs; the range and what lies beyond it. Tensors are tried on a quarter of the
    crops, at least 16. Computed exactly as ONNX defines INT8. Writes NAME.sensitivity.json, and the table of ranges
    that calibrate uses too; measures nothing again while weights, people and method stay the same.

    Exit status 3: done, but some images could not be read.
    """
    from edgepose.calibration import require_workstation

    require_workstation()
    from edgepose.calibration.costs import read_device
    from edgepose.calibration.dataset import unread
    from edgepose.calibration.scene import set_scene
    from edgepose.calibration.study import study
    from edgepose.cli import SOME_UNREADABLE, warn_of_random_weights
    from edgepose.cli.progress import progress

    peaks = read_device(device)
    with calibration_people(boxes, detector) as people:
        scene = set_scene(
            model, images, **people, method=method, limit=limit, seed=seed, output_dir=output_dir, watch=progress
        )
    warn_of_random_weights(model, scene.passport)
    done = study(scene, crops, peaks)
    for line in unread(done.unreadable):
        click.echo(line, err=True)
    click.echo(done.summary())
    if done.unreadable:
        sys.exit(SOME_UNREADABLE)
