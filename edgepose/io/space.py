"""Positions in space drawn beside the picture they were found in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from edgepose.errors import MissingPackageError
from edgepose.io.overlay import side_color
from edgepose.io.video import VideoReader, video_file
from edgepose.model.skeletons import Skeleton

MOST_SHOWN = 4  # people; more would be too small to see
REACH_M = 1.1  # of the axes from the root on: a person with arms up fits
NOBODY = "nobody with positions"
DPI = 100
SMALLEST_PX, ASPECT = 240, 1.5  # of a drawing: its least height, and its width as a share of it
VIEWS = (("from the camera", 10, -90), ("from the right", 10, 0))  # name, elevation and azimuth in degrees


def find_matplotlib() -> SimpleNamespace:
    """What is taken from matplotlib: `Figure` and `FigureCanvasAgg`, which need no display.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("matplotlib", "plot") from error
    return SimpleNamespace(Figure=Figure, FigureCanvasAgg=FigureCanvasAgg)


def draw_positions(xyz: np.ndarray, skeleton: Skeleton, names: Sequence[str], size_hw: tuple[int, int]) -> np.ndarray:
    """Stick figures of up to MOST_SHOWN people, as the camera sees them and from the right side.

    One or two people have a row each, more stand two in a row.

    Colours are the overlay's: the person's left is orange, right is blue, the rest green. Axes are metres.

    Args:
        xyz: (N, K, 3) metres around the root, x to the right, y down, z away from the camera. Points that are not
            finite are left out, and the limbs that end in them.
        names: N, one for each person.
        size_hw: of the drawing, px.

    Returns:
        (H, W, 3) uint8 RGB; of nobody it says so.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    figures = find_matplotlib()
    height, width = size_hw
    figure = figures.Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
    canvas = figures.FigureCanvasAgg(figure)
    shown = min(len(xyz), MOST_SHOWN)
    in_a_row = 1 if shown <= 2 else 2
    rows = -(-shown // in_a_row)
    for person in range(shown):
        for number, (view, elevation, azimuth) in enumerate(VIEWS):
            place = person * len(VIEWS) + number + 1
            axes = figure.add_subplot(rows, in_a_row * len(VIEWS), place, projection="3d")
            _draw_person(axes, xyz[person], skeleton)
            axes.view_init(elev=elevation, azim=azimuth)
            axes.set_title(f"{names[person]}, {view}" if in_a_row == 1 else f"{names[person]}\n{view}", fontsize=9)
    if not shown:
        figure.text(0.5, 0.5, NOBODY, ha="center", va="center", color="0.5")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_person(axes: Any, xyz: np.ndarray, skeleton: Skeleton) -> None:
    """Matplotlib's axes have z upwards: x is x, depth is y, and up is against the image's y."""
    x, depth, up = xyz[:, 0], xyz[:, 2], -xyz[:, 1]
    known = np.isfinite(xyz).all(axis=1)
    for a, b in skeleton.limbs:
        if known[a] and known[b]:
            color = _color(skeleton.keypoints[b], skeleton.keypoints[a])
            axes.plot(x[[a, b]], depth[[a, b]], up[[a, b]], color=color, linewidth=2.5, solid_capstyle="round")
    colors = [_color(name) for name, is_known in zip(skeleton.keypoints, known, strict=True) if is_known]
    axes.scatter(x[known], depth[known], up[known], c=colors, s=14, depthshade=False)
    for set_limits in (axes.set_xlim, axes.set_ylim, axes.set_zlim):
        set_limits(-REACH_M, REACH_M)
    axes.set_box_aspect((1, 1, 1))
    for set_ticks in (axes.set_xticks, axes.set_yticks, axes.set_zticks):
        set_ticks((-1, 0, 1))
    axes.tick_params(labelsize=7, pad=-2)


def _color(*names: str) -> tuple[float, float, float]:
    """The side's colour, 0 to 1; a limb whose first end is of the middle has its second's."""
    red, green, blue = side_color(names[0])
    return red / 255, green / 255, blue / 255


def with_positions(picture: np.ndarray, xyz: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(H, W + W', 3): the picture with its people's positions beside it, numbered from 1 on in the order of `xyz`.

    People without positions, whom a bottom-up network saw in part, leave their place to others.
    """
    height = picture.shape[0]
    size_hw = (max(height, SMALLEST_PX), max(round(height * ASPECT), round(SMALLEST_PX * ASPECT)))
    known = _with_any(xyz)
    return beside(picture, draw_positions(xyz[known], skeleton, [f"person {row + 1}" for row in known], size_hw))


def _with_any(xyz: np.ndarray) -> np.ndarray:
    """Rows of the first MOST_SHOWN people who have a position."""
    return np.flatnonzero(np.isfinite(xyz).all(axis=2).any(axis=1))[:MOST_SHOWN]


def for_page(xyz: np.ndarray, skeleton: Skeleton, track_ids: np.ndarray | None = None) -> dict[str, Any]:
    """What serve_space.js draws: (N, K, 3) metres as `people`, null for a point that is not finite, and `limbs`.

    Up to MOST_SHOWN people who have positions. A limb is two indices and a CSS colour, the overlay's. `ids` are the
    numbers of these people, of `track_ids` (N,); none where nobody is followed.
    """
    shown = _with_any(xyz)
    people = [
        [point if known else None for point, known in zip(points, np.isfinite(one).all(axis=1), strict=True)]
        for one, points in ((one, one.astype(np.float64).round(3).tolist()) for one in xyz[shown])
    ]
    names = skeleton.keypoints
    limbs = [(a, b, "rgb({}, {}, {})".format(*side_color(names[b]))) for a, b in skeleton.limbs]
    return {"people": people, "limbs": limbs, "ids": [] if track_ids is None else track_ids[shown].tolist()}


def add_positions(video: Path, frames: Sequence[np.ndarray], skeleton: Skeleton) -> None:
    """Write a video anew with its people's positions, (N, K, 3) for each frame, beside its pictures.

    Raises:
        InputError, EdgeposeError: it cannot be read or written; it is then as it was.
    """
    with closing(VideoReader(video)) as reader, video_file(video, reader.fps) as written:
        for picture, xyz in zip(reader, frames, strict=False):
            written.write(with_positions(picture, xyz, skeleton))


def beside(picture: np.ndarray, drawing: np.ndarray) -> np.ndarray:
    """(H, W + W', 3) uint8: the drawing to the right of the picture, scaled to its height."""
    height = picture.shape[0]
    width = max(1, round(drawing.shape[1] * height / drawing.shape[0]))
    return np.concatenate([picture, cv2.resize(drawing, (width, height), interpolation=cv2.INTER_AREA)], axis=1)
