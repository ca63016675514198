"""What is lost and won when a detector looks at every Nth frame of a video only.

    python -m edgepose.benchmarks.studies.detect_every --engine POSE --detector DETECTOR --video VIDEO

The truth is the same run with a detection in every frame: of its people, how many are found again (IoU over 0.5), how
many boxes are new, how far their key points moved, and how many ids people were given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgepose.backends import load_backend
from edgepose.estimate.detect import load_detector
from edgepose.estimate.follow import Following, follow
from edgepose.io.sources import FileSource
from edgepose.stages.gpu_frame import on_cpu
from edgepose.stages.poses import Poses
from edgepose.stages.similarity import box_iou
from edgepose.timing import measured

DETECTING = ("letterbox", "detect", "boxes")  # stages
VARIANTS: tuple[int | None, ...] = (1, 2, 3, 5, 10, None)


def run(pose: Any, detector: Any, frames: Sequence[np.ndarray], fps: float, every: int | None) -> dict[str, Any]:
    """The poses of all frames, and milliseconds a frame: all of it, and the detector's part."""
    start = time.perf_counter()
    with measured() as times:
        poses = list(follow(pose, detector, ((image, t / fps) for t, image in enumerate(frames)), Following(every)))
    whole = time.perf_counter() - start
    count = len(frames)
    return {
        "poses": poses,
        "ms": 1e3 * whole / count,
        "detector ms": 1e3 * sum(times.seconds[name] for name in DETECTING) / count,
    }


def compare(truth: Sequence[Poses], found: Sequence[Poses]) -> dict[str, float]:
    """Shares of people found again and of new boxes, the median and 95th percentile of key points' shifts (px), ids."""
    again = people = new = boxes = 0
    shifts: list[float] = []
    for one, other in zip(truth, found, strict=True):
        iou = box_iou(one.boxes_xyxy, other.boxes_xyxy)
        same = iou.max(axis=1, initial=0) > 0.5
        again, people = again + int(same.sum()), people + len(one)
        new, boxes = new + int((iou.max(axis=0, initial=0) <= 0.5).sum()), boxes + len(other)
        for row in np.flatnonzero(same):
            column = int(iou[row].argmax())
            sure = (one.scores[row] > 0.3) & (other.scores[column] > 0.3)
            shifts += np.linalg.norm(one.xy[row] - other.xy[column], axis=1)[sure].tolist()
    ids = max((int(p.track_ids.max(initial=0)) for p in found if p.track_ids is not None), default=0)
    return {
        "again": again / max(people, 1),
        "new": new / max(boxes, 1),
        "median": float(np.median(shifts)) if shifts else 0.0,
        "p95": float(np.percentile(shifts, 95)) if shifts else 0.0,
        "ids": ids,
    }


def table(pose: Any, detector: Any, frames: Sequence[np.ndarray], fps: float) -> list[str]:
    """The lines of the table, one variant each."""
    lines = [
        "| detect every | ms a frame | of it the detector | found again | new boxes | shift, median px | 95 % | ids |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    truth = run(pose, detector, frames, fps, 1)
    for every in VARIANTS:
        result = truth if every == 1 else run(pose, detector, frames, fps, every)
        row = compare(truth["poses"], result["poses"])
        lines.append(
            f"| {every or 'auto'} | {result['ms']:.1f} | {result['detector ms']:.1f} | {row['again']:.3f} | "
            f"{row['new']:.3f} | {row['median']:.2f} | {row['p95']:.2f} | {row['ids']:.0f} |"
        )
    return lines


@click.command()
@click.option("--engine", "model", type=click.Path(path_type=Path), required=True)
@click.option("--detector", type=click.Path(path_type=Path), required=True)
@click.option("--video", type=click.Path(path_type=Path), required=True)
@click.option("--frames", type=click.IntRange(1), default=200, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(model: Path, detector: Path, video: Path, frames: int, threads: int) -> None:
    """Print the table."""
    with closing(FileSource(video)) as source:
        images = [on_cpu(shot.image) for shot, _ in zip(source, range(frames), strict=False)]
        fps = source.fps
    with closing(load_backend(model, threads=threads)) as pose, closing(load_detector(detector, threads=threads)) as d:
        click.echo("\n".join(table(pose, d, images, fps)))


if __name__ == "__main__":
    main()
