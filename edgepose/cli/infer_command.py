"""edgepose infer: key points in images and videos."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepose.infer import InferReport

from edgepose.cli.options import THREADS, Number


@click.command("infer")
@click.option("--engine", type=click.Path(path_type=Path), required=True, help="Model file, its passport beside it.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="PATH...",
    help="Images, folders, globs and videos; - reads image paths from stdin, one a line.",
)
@click.argument("more", nargs=-1, metavar="[PATH]...")
@click.option(
    "--boxes", type=click.Path(path_type=Path), help="COCO annotations or detections; else an image is a person."
)
@click.option("--min-box-score", type=Number(), help="Leave out boxes of a lower score.  [default: none]")
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    help="Folder for keypoints.json and overlays/; - for JSON lines on stdout.  [default: poses]",
)
@click.option("--flip-test", is_flag=True, help="Average with the mirrored crop: better, and twice the work.")
@click.option("--save-overlay/--no-save-overlay", default=True, show_default=True, help="Write annotated copies.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("json", "jsonl")),
    default="json",
    show_default=True,
    help="json: COCO results in keypoints.json (lines with --out -); jsonl: a line for each image on stdout, as it is "
    "done.",
)
@click.option(
    "--lift",
    type=click.Path(path_type=Path),
    help="A lifter's ONNX: adds xyz, metres around the pelvis, to every person, and draws it beside the picture.",
)
@click.option("--backend", type=click.Choice(("openvino", "onnxruntime")), help="Default: the best installed.")
@click.option("--threads", type=THREADS, help="CPU threads.  [default: the runtime's]")
@click.option(
    "--cuda-graphs/--no-cuda-graphs", default=True, show_default=True, help="On a GPU: launch the network as a whole."
)
def command(
    engine: Path,
    inputs: tuple[str, ...],
    more: tuple[str, ...],
    boxes: Path | None,
    min_box_score: float | None,
    out: str | None,
    flip_test: bool,
    save_overlay: bool,
    form: str,
    lift: Path | None,
    backend: str | None,
    threads: int | None,
    cuda_graphs: bool,
) -> None:
    """Find the key points of every person in images and videos.

    Rotations noted in EXIF are ignored, as in COCO's annotations. Exit status 3: done, but some files could not be
    read.
    """
    from contextlib import closing

    from edgepose.backends import load_backend
    from edgepose.cli import warn_of_random_weights
    from edgepose.cli.progress import progress
    from edgepose.errors import InputError
    from edgepose.estimate.lift import open_lifter
    from edgepose.infer import infer
    from edgepose.io.images import IMAGE_SUFFIXES, find_images
    from edgepose.io.video import VIDEO_SUFFIXES
    from edgepose.model.passport import read_passport

    named = [path for path in (*inputs, *more) if path != "-"]
    if not inputs and not more:
        raise click.UsageError("give images with --input")
    paths = find_images(named, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    if "-" in (*inputs, *more):
        lines = [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip()]
        if any("\0" in line for line in lines):
            raise InputError("stdin has a zero byte: give the paths one a line (find -print, not -print0)")
        paths += map(Path, lines)
    if not paths:
        raise InputError("stdin names no file: give paths, one a line")
    streaming = form == "jsonl" or out == "-"
    folder = None if out == "-" or (streaming and out is None) else Path(out or "poses")
    if read_passport(engine).spec.head.kind in ("fields", "tags"):
        if boxes is not None or lift is not None or min_box_score is not None:
            raise click.UsageError("--boxes, --min-box-score and --lift go with crops of people, not with whole images")
        from edgepose.backends import load_runtime
        from edgepose.infer_maps import infer_maps

        runtime = load_runtime(engine, backend=backend, threads=threads)
        warn_of_random_weights(engine, runtime.passport)
        _tell(
            infer_maps(
                runtime,
                paths,
                folder=folder,
                stream=sys.stdout if streaming else None,
                flip_test=flip_test,
                save_overlays=save_overlay,
                watch=progress,
            ),
            streaming,
        )
        return
    with closing(load_backend(engine, backend=backend, threads=threads, cuda_graphs=cuda_graphs)) as loaded:
        warn_of_random_weights(engine, loaded.passport)
        lifter = None if lift is None else open_lifter(lift, threads=threads)
        report = infer(
            loaded,
            paths,
            boxes_file=boxes,
            min_box_score=-math.inf if min_box_score is None else min_box_score,
            folder=folder,
            stream=sys.stdout if streaming else None,
            flip_test=flip_test,
            save_overlays=save_overlay,
            lifter=lifter,
            watch=progress,
        )
    _tell(report, streaming)


def _tell(report: InferReport, streaming: bool) -> None:
    """Say what was done; exit status 3 where some files could not be read."""
    from edgepose.cli import SOME_UNREADABLE

    for line in report.warnings():
        click.echo(line, err=True)
    click.echo(report.summary(), err=streaming)
    if report.unreadable:
        sys.exit(SOME_UNREADABLE)
