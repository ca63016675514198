"""Options about detectors, sources and what is shown of them, for the commands that have them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgepose.infer.stream import SourceReport

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DETECT_EVERY = "1"


def detector_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--detector, of any command that looks for people."""
    return click.option(
        "--detector",
        type=click.Path(path_type=Path),
        help="Model file that finds people, its passport beside it.  [default: the small one that comes along]",
    )(command)


def calibration_people_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the people are in images to calibrate with."""
    boxes = click.option(
        "--boxes",
        metavar="FILE|whole",
        help="Where people are, instead of a detector: COCO annotations or detections, or that each image is one "
        "person.",
    )
    return boxes(detector_option(command))


@contextmanager
def calibration_people(boxes: str | None, detector: Path | None) -> Iterator[dict[str, Any]]:
    """What these options say to `set_scene`: a boxes file, or the detector that finds the people, or neither.

    That the small detector found them is told when the body has ended well, since it may end before.
    """
    if boxes is not None and detector is not None:
        raise click.UsageError("--detector finds the boxes: leave out --boxes")
    if boxes is not None:
        yield {"boxes": None if boxes == "whole" else Path(boxes), "detector": None}
        return
    from edgepose.estimate.detect import EMBEDDED, EMBEDDED_NOTE

    yield {"boxes": None, "detector": detector or EMBEDDED}
    if detector is None:
        click.echo(EMBEDDED_NOTE, err=True)


def following_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How people are followed through videos."""
    for option in (
        click.option("--smooth", is_flag=True, help="Smooth key points along each person's frames (One-Euro filter)."),
        click.option("--track/--no-track", default=True, show_default=True, help="Give people ids in videos."),
        click.option(
            "--detect-every",
            metavar="N|auto",
            default=DETECT_EVERY,
            show_default=True,
            help="In videos, look for people in every Nth frame, or when somebody is lost; between, boxes come from "
            "key points.",
        ),
    ):
        command = option(command)
    return command


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where frames come from, and where they are shown."""
    for option in (
        click.option("--max-frames", type=click.IntRange(1), help="Of each source.  [default: all]"),
        click.option("--token", help="Whoever watches --serve must know it; wanted if others than this machine can."),
        click.option("--serve", metavar="[HOST:]PORT", help="Show what is found in a browser.  [host: 127.0.0.1]"),
        click.option("--show", is_flag=True, help="Show what is found in a window; q ends."),
        click.option("--raw", metavar="WxH[:FORMAT[:FPS]]", help="Of --source -: bgr24, rgb24, nv12, nv12-bt709."),
        click.option("--csi-mode", metavar="WxH[:FPS]", default="1280x720:30", show_default=True, help="Of csi://N."),
        click.option(
            "--source",
            "sources",
            multiple=True,
            help="Video, /dev/video0 or 0, rtsp:// or http:// stream, csi://0, or - for raw frames on stdin; several "
            "run at once, through each network together.",
        ),
    ):
        command = option(command)
    return command


def parse_detect_every(text: str) -> int | None:
    """`--detect-every`'s number; None for auto."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"{text!r} is neither a whole number over 0 nor auto", param_hint="--detect-every")
    return int(text)


def parse_address(text: str) -> tuple[str, int]:
    """`--serve`'s host and port."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise click.BadParameter(f"{text!r} is no PORT and no HOST:PORT", param_hint="--serve")
    return host.strip("[]") or "127.0.0.1", int(port)


@contextmanager
def status_line() -> Iterator[Callable[[Sequence[SourceReport]], None]]:
    """Give a function that keeps one line on stderr about all sources, where a person sees it."""
    if not sys.stderr.isatty():
        yield lambda reports: None
        return

    def tell(reports: Sequence[SourceReport]) -> None:
        parts = []
        for one in reports:
            far = f"{one.frames}/{one.length}" if one.length else f"{one.frames}"
            dropped = f", {one.dropped} dropped" if one.dropped else ""
            parts.append(f"{Path(one.name).name[-24:]} {far}: {one.fps:.1f} frames/s{dropped}")
        click.echo(f"\r\033[K{' | '.join(parts)[:150]}", err=True, nl=False)

    try:
        yield tell
    finally:
        click.echo("\r\033[K", err=True, nl=False)
