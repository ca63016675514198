"""edgepose calibrate: INT8 from your own images."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("calibrate")
@click.option("--images", multiple=True, metavar="PATH", help="Folder, file or glob; may be given several times.")
@click.option(
    "--tracks",
    type=click.Path(path_type=Path),
    help="For a lifter, in place of images: key points over time; docs/lifting.md says their form.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="FP32 ONNX with its passport.  [default: the only one in this folder]",
)
@click.option(
    "--boxes",
    type=click.Path(path_type=Path),
    help="COCO annotations or detection results with the people's boxes.  [default: each image is one person]",
)
@click.option(
    "--method",
    type=click.Choice(("minmax", "percentile", "entropy", "mse")),
    default="mse",
    show_default=True,
    help="How a range is taken from what was seen.",
)
@click.option(
    "--limit", type=click.IntRange(1), default=512, show_default=True, help="Most people (windows of a lifter) to use."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which, where there are more.")
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), help="[default: beside the model]")
def command(
    images: tuple[str, ...],
    tracks: Path | None,
    model: Path | None,
    boxes: Path | None,
    method: str,
    limit: int,
    seed: int,
    output_dir: Path | None,
) -> None:
    """Quantise an exported model to INT8 with images like those it will see.

    Writes NAME.calibration.json (what was measured; used again while weights, images, boxes, recipe and method stay
    the same) and NAME.int8.onnx (INT8 where it pays, FP16 elsewhere; one file for TensorRT and for the CPU), and
    says what INT8 does to the key points of people it did not calibrate on. A few hundred people are enough.

    Exit status 3: done, but some images could not be read.
    """
    from edgepose.calibration import require_workstation

    require_workstation()
    from edgepose.calibration.pipeline import calibrate, find_model
    from edgepose.cli import SOME_UNREADABLE
    from edgepose.cli.progress import progress
    from edgepose.model.passport import read_passport

    if bool(images) == (tracks is not None):
        raise click.UsageError("give --images, or for a lifter --tracks")
    if tracks is not None:
        from edgepose.calibration.lifters import calibrate_lifter

        if boxes is not None:
            raise click.UsageError("--boxes goes with --images")
        lifter = model or find_model(Path())
        done = calibrate_lifter(
            lifter, tracks, method=method, limit=limit, seed=seed, output_dir=output_dir, watch=progress
        )
        click.echo(done.summary())
        return
    model = model or find_model(Path())
    if read_passport(model).spec.head.kind in ("fields", "tags"):
        from edgepose.calibration.bottom_up import calibrate_maps

        if boxes is not None:
            raise click.UsageError("--boxes goes with crops of people: this network takes whole images")
        people = calibrate_maps(
            model, images, method=method, limit=limit, seed=seed, output_dir=output_dir, watch=progress
        )
        for line in people.unreadable:
            click.echo(line, err=True)
        click.echo(people.summary())
        if people.unreadable:
            sys.exit(SOME_UNREADABLE)
        return
    result = calibrate(
        model,
        images,
        boxes,
        method=method,
        limit=limit,
        seed=seed,
        output_dir=output_dir,
        watch=progress,
    )
    for line in result.warnings():
        click.echo(line, err=True)
    click.echo(result.summary())
    if result.unreadable:
        sys.exit(SOME_UNREADABLE)
