"""edgepose evaluate: accuracy of model files on annotated images."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path

import click

from edgepose.cli.options import THREADS


@click.command("evaluate")
@click.option(
    "--engine",
    "engines",
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
    engines: tuple[Path, ...],
    images: Path | None,
    annotations: Path | None,
    annotations_3d: Path | None,
    boxes: str,
    detector: Path | None,
    flip_test: bool,
    limit: int | None,
    backend: str | None,
    threads: int | None,
    exact_fp16: bool,
    json_file: str | None,
) -> None:
    """Measure AP, AR, PCK and PCKh on annotated people, and note them in the models' passports.

    Of person detectors COCO's box AP of persons. Of lifters, with --annotations-3d, MPJPE, N-MPJPE and P-MPJPE in mm.

    Exit status 3: done, but some images could not be read.
    """
    import json

    from edgepose.cli import SOME_UNREADABLE
    from edgepose.cli.progress import progress
    from edgepose.errors import ModelFileError
    from edgepose.estimate.detect import load_detector
    from edgepose.evaluation.evaluate import evaluate, record_accuracy
    from edgepose.evaluation.text import notes_on, table_of
    from edgepose.files import whole_file
    from edgepose.model.passport import read_passport

    if annotations_3d is not None:
        if images or annotations or boxes != "gt" or limit:
            raise click.UsageError(
                "--annotations-3d holds the key points: leave out --images, --annotations, --boxes and --limit"
            )
        _evaluate_lifters(engines, annotations_3d, flip_test, backend, threads, json_file)
        return
    if images is None or annotations is None:
        raise click.UsageError("give --images and --annotations, or for lifters --annotations-3d")
    if detector is not None and boxes != "gt":
        raise click.UsageError("--detector finds the boxes: leave out --boxes")
    if all(read_passport(engine).spec.head.kind == "detections" for engine in engines):
        _evaluate_detectors(engines, images, annotations, limit, backend, threads, json_file)
        return
    if read_passport(engines[0]).spec.head.kind in ("fields", "tags"):
        if boxes != "gt":
            raise click.UsageError("--boxes goes with crops of people: these networks take whole images")
        _evaluate_maps(engines, images, annotations, flip_test, limit, backend, threads, json_file)
        return
    to_file = json_file not in (None, "-")
    with ExitStack() as stack:
        # opened before the work, so that a FILE which cannot be written is known by then
        written = stack.enter_context(whole_file(Path(str(json_file)))) if to_file else None
        finder = None
        if detector is not None:
            finder = load_detector(detector, backend=backend, threads=threads, exact=True)
            stack.callback(finder.close)
        evaluation = evaluate(
            engines,
            images,
            annotations,
            boxes=None if boxes == "gt" else Path(boxes),
            detector=finder,
            flip_test=flip_test,
            limit=limit,
            backend=backend,
            threads=threads,
            store_fp16=exact_fp16,
            watch=progress,
        )
        try:
            record_accuracy(evaluation)
        except (OSError, ModelFileError) as error:  # the figures are worth more than their note
            click.echo(f"the passports were not updated ({error})", err=True)
        figures = json.dumps(evaluation.to_json(), indent=2)
        click.echo(figures if json_file == "-" else table_of(evaluation))
        for note in notes_on(evaluation):
            click.echo(note, err=True)
        if written:
            written.write_text(figures + "\n")
    if evaluation.unreadable:
        sys.exit(SOME_UNREADABLE)


def _evaluate_detectors(
    engines: tuple[Path, ...],
    images: Path,
    annotations: Path,
    limit: int | None,
    backend: str | None,
    threads: int | None,
    json_file: str | None,
) -> None:
    import json

    from edgepose.cli import SOME_UNREADABLE
    from edgepose.cli.progress import progress
    from edgepose.errors import ModelFileError
    from edgepose.evaluation.detectors import evaluate_detectors, record_detectors
    from edgepose.files import whole_file

    to_file = json_file not in (None, "-")
    with whole_file(Path(str(json_file))) if to_file else nullcontext() as written:
        evaluation = evaluate_detectors(
            engines,
            images,
            annotations,
            limit=limit,
            backend=backend,
            threads=threads,
            watch=progress,
        )
        try:
            record_detectors(evaluation)
        except (OSError, ModelFileError) as error:  # the figures are worth more than their note
            click.echo(f"the passports were not updated ({error})", err=True)
        figures = json.dumps(evaluation.to_json(), indent=2)
        click.echo(figures if json_file == "-" else evaluation.table())
        for line in evaluation.unreadable:
            click.echo(line, err=True)
        if written:
            written.write_text(figures + "\n")
    if evaluation.unreadable:
        sys.exit(SOME_UNREADABLE)


def _evaluate_maps(
    engines: tuple[Path, ...],
    images: Path,
    annotations: Path,
    flip_test: bool,
    limit: int | None,
    backend: str | None,
    threads: int | None,
    json_file: str | None,
) -> None:
    import json

    from edgepose.cli import SOME_UNREADABLE
    from edgepose.cli.progress import progress
    from edgepose.errors import ModelFileError
    from edgepose.evaluation.bottom_up import evaluate_maps, record_maps_accuracy
    from edgepose.files import whole_file

    to_file = json_file not in (None, "-")
    with whole_file(Path(str(json_file))) if to_file else nullcontext() as written:
        evaluation = evaluate_maps(
            engines,
            images,
            annotations,
            flip_test=flip_test,
            limit=limit,
            backend=backend,
            threads=threads,
            watch=progress,
        )
        try:
            record_maps_accuracy(evaluation)
        except (OSError, ModelFileError) as error:  # the figures are worth more than their note
            click.echo(f"the passports were not updated ({error})", err=True)
        figures = json.dumps(evaluation.to_json(), indent=2)
        click.echo(figures if json_file == "-" else evaluation.table())
        if written:
            written.write_text(figures + "\n")
    if evaluation.unreadable:
        sys.exit(SOME_UNREADABLE)


def _evaluate_lifters(
    engines: tuple[Path, ...],
    annotations_3d: Path,
    flip_test: bool,
    backend: str | None,
    threads: int | None,
    json_file: str | None,
) -> None:
    import json
    from dataclasses import asdict

    from edgepose.errors import ModelFileError
    from edgepose.estimate.lift import open_lifter
    from edgepose.evaluation.lifting import evaluate_lifters, record_errors, table_of
    from edgepose.files import whole_file
    from edgepose.io.tracks import read_tracks

    to_file = json_file not in (None, "-")
    with whole_file(Path(str(json_file))) if to_file else nullcontext() as written:
        tracks = read_tracks(annotations_3d, with_positions=True)
        lifters = [open_lifter(path, backend=backend, threads=threads) for path in engines]
        figures = evaluate_lifters(lifters, tracks, flip_test=flip_test)
        try:
            record_errors(engines, figures, tracks, flip_test=flip_test)
        except (OSError, ModelFileError) as error:  # the figures are worth more than their note
            click.echo(f"the passports were not updated ({error})", err=True)
        listed = [{"engine": str(path), **asdict(found)} for path, found in zip(engines, figures, strict=True)]
        text = json.dumps({"annotations": tracks.name, "flip_test": flip_test, "engines": listed}, indent=2)
        click.echo(text if json_file == "-" else table_of(engines, figures))
        if written:
            written.write_text(text + "\n")
