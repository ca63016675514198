"""edgepose infer: key points in images and videos."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgepose.backends import Backend
    from edgepose.backends.bf16 import ComparedRuntime
    from edgepose.infer.report import InferReport

from edgepose.cli.options import SCALE_HELP, THREADS, Number, frame_memory_option, memory_of_plans
from edgepose.cli.source_options import (
    DETECT_EVERY,
    detector_option,
    following_options,
    parse_address,
    parse_detect_every,
    source_options,
    status_line,
)


@click.command("infer")
@click.option(
    "--engine", "model", type=click.Path(path_type=Path), required=True, help="Model file, its passport beside it."
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="PATH...",
    help="Images, folders, globs and videos; - reads image paths from stdin, one a line.",
)
@source_options
@click.argument("more", nargs=-1, metavar="[PATH]...")
@detector_option
@click.option(
    "--boxes",
    metavar="FILE|whole",
    help="Where people are, instead of a detector: COCO annotations or detections, or that each image is one person.",
)
@click.option(
    "--min-box-score",
    type=Number(),
    help="Leave out people of a lower score.  [default: 0.4 of a detector's, 0.3 of a network that gives people, "
    "else none]",
)
@following_options
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    help="Folder for keypoints.json and overlays/; - for JSON lines on stdout.  [default: poses]",
)
@click.option("--flip-test", is_flag=True, help="Average with the mirrored crop: better, and twice the work.")
@click.option("--scale", "scales", type=click.Path(path_type=Path), multiple=True, help=SCALE_HELP)
@click.option("--save-overlay/--no-save-overlay", default=True, show_default=True, help="Write annotated copies.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("json", "jsonl", "csv")),
    default="json",
    show_default=True,
    help="json: COCO results in keypoints.json (lines with --out -); jsonl: a line for each image on stdout, as it is "
    "done; csv: a table on stdout, a line for each person.",
)
@click.option(
    "--lift",
    type=click.Path(path_type=Path),
    help="A lifter's ONNX: adds xyz, metres around the pelvis, to every person, and draws it beside the picture.",
)
@click.option(
    "--backend",
    type=click.Choice(("openvino", "openvino-bf16", "onnxruntime")),
    help="openvino-bf16: faster where the CPU has BF16, and what it costs in key points is said.  [default: the best "
    "installed, in FP32]",
)
@click.option("--threads", type=THREADS, help="CPU threads.  [default: the runtime's]")
@frame_memory_option
@click.option(
    "--cuda-graphs/--no-cuda-graphs", default=True, show_default=True, help="On a GPU: launch the network as a whole."
)
def command(
    model: Path,
    inputs: tuple[str, ...],
    more: tuple[str, ...],
    sources: tuple[str, ...],
    csi_mode: str,
    raw: str | None,
    show: bool,
    serve: str | None,
    token: str | None,
    max_frames: int | None,
    detector: Path | None,
    boxes: str | None,
    min_box_score: float | None,
    detect_every: str,
    track: bool,
    smooth: bool,
    out: str | None,
    flip_test: bool,
    scales: tuple[Path, ...],
    save_overlay: bool,
    form: str,
    lift: Path | None,
    backend: str | None,
    threads: int | None,
    frame_memory: str | None,
    cuda_graphs: bool,
) -> None:
    """Find the key points of every person in images and videos.

    Rotations noted in EXIF are ignored, as in COCO's annotations. Exit status 3: done, but some files could not be
    read.
    """
    from edgepose.backends import load_runtime
    from edgepose.cli import warn_of_random_weights, warn_of_unverified
    from edgepose.cli.progress import progress
    from edgepose.errors import InputError
    from edgepose.estimate.detect import EMBEDDED_NOTE
    from edgepose.estimate.follow import Following
    from edgepose.estimate.lift import open_lifter
    from edgepose.estimate.whole import finds_everybody
    from edgepose.infer.crops import infer
    from edgepose.infer.stream import LiveOutput
    from edgepose.infer.whole import infer_whole
    from edgepose.model.passport import read_passport

    if not (inputs or more or sources):
        raise click.UsageError("give images with --input, or a video, camera or stream with --source")
    if smooth and not track:
        raise click.UsageError("--smooth needs --track: points are smoothed along one person's frames")
    paths = _paths((*inputs, *more))
    if not (paths or sources):
        raise InputError("stdin names no file: give paths, one a line")
    streaming = form != "json" or out == "-"
    results: dict[str, Any] = {
        "following": Following(parse_detect_every(detect_every), track=track, smooth=smooth),
        "folder": None if out == "-" or (streaming and out is None) else Path(out or "poses"),
        "stream": sys.stdout if streaming else None,
        "table": form == "csv",
        "flip_test": flip_test,
        "save_overlays": save_overlay,
        "watch": progress,
    }
    passport = read_passport(model)
    whole = finds_everybody(passport.spec)
    if whole:
        _check_whole(model, detector or boxes is not None or detect_every != DETECT_EVERY, backend)
    elif scales:
        raise click.UsageError(f"--scale goes with bottom-up networks; {model} takes crops of people")
    on_gpu: dict[str, Any] = {"cuda_graphs": cuda_graphs, **memory_of_plans(frame_memory, [model])}
    _check_boxes(boxes, detector or sources)
    _check_lift(lift, model, passport.spec.gives_depth, len(sources))
    lifter = None if lift is None else open_lifter(lift, threads=threads)
    with ExitStack() as stack:
        if whole:
            load = partial(load_runtime, backend=backend, threads=threads)
            runtime, *others = (stack.enter_context(closing(load(path))) for path in (model, *scales))
            finder = compared = None
            run: Callable[..., InferReport] = partial(
                infer_whole, runtime, paths, min_score=min_box_score, scales=others, lifter=lifter
            )
        else:
            pose, compared = _load_pose(model, backend, threads, on_gpu)
            stack.enter_context(closing(pose))
            finder = None if boxes else stack.enter_context(closing(_load_detector(detector, backend, threads)))
            run = partial(
                infer,
                pose,
                paths,
                boxes_file=None if boxes in (None, "whole") else Path(boxes),
                detector=finder,
                min_box_score=-math.inf if min_box_score is None else min_box_score,
                lifter=lifter,
            )
        warn_of_random_weights(model, passport)
        warn_of_unverified(model, passport)
        opened = _open_sources(sources, raw, csi_mode, alone=not paths)
        for source in opened:
            stack.callback(source.close)
        picture = _open_picture(opened, show, serve, token)
        if picture is not None:
            stack.enter_context(closing(picture))
        live = LiveOutput(picture, max_frames, stack.enter_context(status_line()))
        report = run(sources=opened, live=live, **results)
    notes = [EMBEDDED_NOTE] if finder is not None and detector is None else []
    _tell(report, [*notes, *([compared.cost()] if compared else [])], streaming)


def _check_whole(model: Path, told_boxes: object, backend: str | None) -> None:
    from edgepose.backends import BF16

    if told_boxes:
        raise click.UsageError(
            f"--detector, --detect-every and --boxes go with crops of people; {model} takes whole images"
        )
    if backend == BF16:
        raise click.UsageError(f"--backend {BF16} goes with crops of people; {model} takes whole images")


def _check_boxes(boxes: str | None, others: object) -> None:
    if boxes is not None and others:
        raise click.UsageError("--boxes goes with --input, and without --detector: it tells itself where people are")


def _check_lift(lift: Path | None, model: Path, gives_depth: bool, sources: int) -> None:
    if lift is None:
        return
    if gives_depth:
        raise click.UsageError(f"{model} finds positions in space itself: leave out --lift")
    if sources > 1:
        raise click.UsageError("--lift goes with one --source at a time")


def _tell(report: InferReport, notes: list[str], streaming: bool) -> None:
    """Say what was done; exit status 3 where some files could not be read."""
    from edgepose.cli import SOME_UNREADABLE

    for line in (*notes, *report.warnings()):
        click.echo(line, err=True)
    click.echo(report.summary(), err=streaming)
    if report.unreadable:
        sys.exit(SOME_UNREADABLE)


def _paths(named: Sequence[str]) -> list[Path]:
    """The images and videos that paths, folders, globs and stdin's lines name."""
    from edgepose.errors import InputError
    from edgepose.io.images import IMAGE_SUFFIXES, find_images
    from edgepose.io.video import VIDEO_SUFFIXES

    paths = find_images([name for name in named if name != "-"], (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    if "-" in named:
        lines = [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip()]
        if any("\0" in line for line in lines):
            raise InputError("stdin has a zero byte: give the paths one a line (find -print, not -print0)")
        paths += map(Path, lines)
    return paths


def _load_pose(
    path: Path, backend: str | None, threads: int | None, on_gpu: dict[str, Any]
) -> tuple[Backend, ComparedRuntime | None]:
    """A network of crops, and what can tell the cost of BF16 where that is asked for."""
    from edgepose.backends import BF16, load_backend
    from edgepose.backends.bf16 import compared_in_fp32

    if backend == BF16:
        return compared_in_fp32(path, threads)
    return load_backend(path, backend=backend, threads=threads, **on_gpu), None


def _load_detector(path: Path | None, backend: str | None, threads: int | None) -> Any:
    """The detector of a file, or the embedded one."""
    from edgepose.estimate.detect import load_detector

    return load_detector(path, backend=backend, threads=threads)


def _open_sources(names: Sequence[str], raw: str | None, csi_mode: str, *, alone: bool) -> list[Any]:
    """The sources, of which some may be unopened: that is said now, for a camera's run may last for days."""
    from edgepose.io.sources import CsiMode, RawFormat, UnopenedSource, open_sources

    form = RawFormat.parse(raw) if raw else None
    sources = open_sources(names, raw=form, csi=CsiMode.parse(csi_mode), alone=alone)
    for source in sources:
        if isinstance(source, UnopenedSource):
            click.echo(f"{source.error}; the others go on", err=True)
    return sources


def _open_picture(sources: Sequence[Any], show: bool, serve: str | None, token: str | None) -> Any:
    """A browser's server or a window for the sources' frames, if one is wanted."""
    if not (show or serve):
        return None
    if not sources:
        raise click.UsageError("--serve and --show go with --source")
    if show and serve:
        raise click.UsageError("--serve and --show: give one of them")
    names = [source.name for source in sources]
    if show:
        from edgepose.io.window import Window

        return Window(names)
    from edgepose.io.serve import PictureServer

    server = PictureServer(names, *parse_address(str(serve)), token)
    click.echo(f"watch it: {server.url}", err=True)
    return server
