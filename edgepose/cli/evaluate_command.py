"""edgepose evaluate: accuracy of model files on annotated images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepose.cli.options import SCALE_HELP, THREADS

if TYPE_CHECKING:
    from edgepose.evaluation.report import Report


@click.command("evaluate")
@click.option(
    "--engine",
    "models",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Model file; several are compared with the first.",
)
@click.option("--images", type=click.Path(path_type=Path), help="The folder of images.")
@click.option("--annotations", type=click.Path(path_type=Path), help="COCO key-point annotations.")
@click.option(
    "--annotations-3d",
    type=click.Path(path_type=Path),
    help="For lifters, in place of both: tracks with positions; docs/lifting.md says their form.",
)
@click.option(
    "--boxes",
    metavar="gt|FILE",
    default="gt",
    show_default=True,
    help="gt: the annotated boxes; or a COCO detections FILE.",
)
@click.option(
    "--detector", type=click.Path(path_type=Path), help="Find the boxes with this detector, in place of --boxes."
)
@click.option("--flip-test", is_flag=True, help="Average with the mirrored crop, as published figures do.")
@click.option("--scale", "scales", type=click.Path(path_type=Path), multiple=True, help=SCALE_HELP)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images with annotated people.")
@click.option("--backend", type=click.Choice(("openvino", "onnxruntime")), help="Default: the best installed.")
@click.option("--threads", type=THREADS, help="CPU threads.  [default: the runtime's]")
@click.option(
    "--exact-fp16",
    is_flag=True,
    help="Of ONNX files: round every FP16 result as a GPU stores it; several times slower.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write the figures as JSON; - prints them instead.")
def command(
    models: tuple[Path, ...],
    images: Path | None,
    annotations: Path | None,
    annotations_3d: Path | None,
    boxes: str,
    detector: Path | None,
    flip_test: bool,
    scales: tuple[Path, ...],
    limit: int | None,
    backend: str | None,
    threads: int | None,
    exact_fp16: bool,
    json_file: str | None,
) -> None:
    """Measure AP, AR, PCK and PCKh on annotated people, and note them in the models' passports.

    Of hands, faces and other key points that have no AP: PCK within 0.2 of the box, AUC, EPE in px, and NME. Of person
    detectors COCO's box AP of persons. Of lifters, with --annotations-3d, MPJPE, N-MPJPE and P-MPJPE in mm.

    Exit status 3: done, but some images could not be read.
    """
    run_by: dict[str, Any] = {"backend": backend, "threads": threads}
    if annotations_3d is not None:
        if images or annotations or boxes != "gt" or limit:
            raise click.UsageError(
                "--annotations-3d holds the key points: leave out --images, --annotations, --boxes and --limit"
            )
        from edgepose.evaluation.lifting import evaluate_lifter_files

        _report(json_file, partial(evaluate_lifter_files, models, annotations_3d, flip_test=flip_test, **run_by))
        return
    if images is None or annotations is None:
        raise click.UsageError("give --images and --annotations, or for lifters --annotations-3d")
    if detector is not None and boxes != "gt":
        raise click.UsageError("--detector finds the boxes: leave out --boxes")
    from edgepose.cli.progress import progress
    from edgepose.estimate.whole import finds_everybody
    from edgepose.model.passport import read_passport

    options = {"limit": limit, "watch": progress, **run_by}
    if all(read_passport(model).spec.head.kind == "detections" for model in models):
        from edgepose.evaluation.detectors import evaluate_detectors

        _report(json_file, partial(evaluate_detectors, models, images, annotations, **options))
        return
    options["flip_test"] = flip_test
    if finds_everybody(read_passport(models[0]).spec):
        if boxes != "gt":
            raise click.UsageError("--boxes goes with crops of people: these networks take whole images")
        from edgepose.evaluation.bottom_up import evaluate_maps

        _report(json_file, partial(evaluate_maps, models, images, annotations, scales=scales, **options))
        return
    if scales:
        raise click.UsageError(f"--scale goes with bottom-up networks; {models[0]} takes crops of people")
    options |= {"boxes": None if boxes == "gt" else Path(boxes), "store_fp16": exact_fp16}
    _report(json_file, partial(_of_crops, models, images, annotations, detector, **options))


def _of_crops(
    models: tuple[Path, ...], images: Path, annotations: Path, detector: Path | None, **options: Any
) -> Report:
    from edgepose.estimate.detect import load_detector
    from edgepose.evaluation.evaluate import evaluate

    if detector is None:
        return evaluate(models, images, annotations, **options)
    finder = load_detector(detector, backend=options["backend"], threads=options["threads"], exact=True)
    with closing(finder):
        return evaluate(models, images, annotations, detector=finder, **options)


def _report(json_file: str | None, measure: Callable[[], Report]) -> None:
    """Measure, note the figures in the passports, and show them."""
    import json

    from edgepose.cli import SOME_UNREADABLE
    from edgepose.errors import ModelFileError
    from edgepose.evaluation.report import record_accuracy, table_of
    from edgepose.files import whole_file

    # opened before the work, so that a FILE which cannot be written is known by then
    with nullcontext() if json_file in (None, "-") else whole_file(Path(json_file)) as written:
        report = measure()
        try:
            record_accuracy(report)
        except (OSError, ModelFileError) as error:  # the figures are worth more than their note
            click.echo(f"the passports were not updated ({error})", err=True)
        figures = json.dumps(report.to_json(), indent=2)
        click.echo(figures if json_file == "-" else table_of(report))
        for note in report.notes():
            click.echo(note, err=True)
        if written:
            written.write_text(figures + "\n")
    if report.unreadable:
        sys.exit(SOME_UNREADABLE)
