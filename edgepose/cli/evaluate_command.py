"""edgepose evaluate: accuracy of model files on annotated images."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("evaluate")
@click.option(
    "--engine",
    "engines",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Model file; several are compared with the first.",
)
@click.option("--images", type=click.Path(path_type=Path), required=True, help="The folder of images.")
@click.option("--annotations", type=click.Path(path_type=Path), required=True, help="COCO key-point annotations.")
@click.option("--boxes", default="gt", show_default=True, help="gt: the annotated boxes; or a COCO detections FILE.")
@click.option("--flip-test", is_flag=True, help="Average with the mirrored crop, as published figures do.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images with annotated people.")
@click.option("--backend", type=click.Choice(("openvino", "onnxruntime")), help="Default: the best installed.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: the runtime's]")
@click.option("--json", "json_file", metavar="FILE", help="Write the figures as JSON; - prints them instead.")
def command(
    engines: tuple[Path, ...],
    images: Path,
    annotations: Path,
    boxes: str,
    flip_test: bool,
    limit: int | None,
    backend: str | None,
    threads: int | None,
    json_file: str | None,
) -> None:
    """Measure AP, AR, PCK and PCKh on annotated people, and note them in the models' passports.

    Exit status 3: done, but some images could not be read.
    """
    import json

    from edgepose.cli import SOME_UNREADABLE
    from edgepose.cli.progress import progress
    from edgepose.evaluation import evaluate, record_accuracy
    from edgepose.evaluation_text import notes_on, table_of
    from edgepose.files import write_json

    evaluation = evaluate(
        engines,
        images,
        annotations,
        boxes=None if boxes == "gt" else Path(boxes),
        flip_test=flip_test,
        limit=limit,
        backend=backend,
        threads=threads,
        watch=lambda images: progress("images", images, len(images)),
    )
    click.echo(json.dumps(evaluation.to_json(), indent=2) if json_file == "-" else table_of(evaluation))
    for note in notes_on(evaluation):
        click.echo(note, err=True)
    if json_file not in (None, "-"):
        write_json(Path(str(json_file)), evaluation.to_json())
    try:
        record_accuracy(evaluation)
    except OSError as error:
        click.echo(f"the passports were not updated ({error.strerror or error})", err=True)
    if evaluation.unreadable:
        sys.exit(SOME_UNREADABLE)
