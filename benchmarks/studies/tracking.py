"""How well ids stay on people: rendered walkers with known truth, as a detector would see them.

    python -m edgepose.benchmarks.studies.tracking

People enter, cross each other at different depths, hide one another, and leave. Boxes and key points get a detector's
errors: jitter, misses, and boxes where nobody is; who is hidden for the most part is not detected. IDF1 (Ristani et
al., ECCV 2016), switches and fragmentations (Bernardin and Stiefelhagen, 2008) are those of py-motmetrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import click
import numpy as np

from edgepose.model.skeletons import COCO17
from edgepose.stages.similarity import box_iou
from edgepose.stages.smoothing import Smoother
from edgepose.stages.tracking import Tracker, TrackingSettings

FRAME_HW, FPS = (720, 1280), 25
HIDDEN = 0.6  # of a box covered by somebody nearer: nobody detects that
# a standing person's key points in shares of the box, COCO's order
STANDING = np.array(
    [(.5, .07), (.54, .05), (.46, .05), (.58, .07), (.42, .07), (.7, .2), (.3, .2), (.76, .37), (.24, .37),
     (.78, .52), (.22, .52), (.62, .52), (.38, .52), (.62, .75), (.38, .75), (.62, .97), (.38, .97)]
)  # fmt: skip


@dataclass(frozen=True)
class Errors:
    """Of a detector: shares of a box's size, of the people, and boxes a frame."""

    jitter: float = 0.03
    missed: float = 0.05
    false: float = 0.1


@dataclass(frozen=True)
class Frame:
    """Truth: ids (T,) and boxes (T, 4); what is detected of it: boxes (N, 4), scores (N,) and poses (N, K, 2)."""

    ids: np.ndarray
    boxes: np.ndarray
    found: np.ndarray
    scores: np.ndarray
    poses: np.ndarray


def walk(people: int, frames: int, errors: Errors, rng: np.random.Generator) -> Iterator[Frame]:
    """A scene of walkers; whoever leaves comes back as somebody new."""
    width = FRAME_HW[1]
    alive = [_walker(rng, width) for _ in range(people)]
    ids, next_id = list(range(people)), people
    for frame in range(frames):
        for i, one in enumerate(alive):
            one["x"] += one["speed"] * (1 + 0.3 * np.sin(frame / 17 + one["phase"]))
            if not -100 < one["x"] < width + 100:
                alive[i] = _walker(rng, width, at_edge=True)
                ids[i], next_id = next_id, next_id + 1
        boxes = np.array([_box(one, frame) for one in alive])
        shown = (boxes[:, 2] > 20) & (boxes[:, 0] < width - 20)
        yield _detected(np.array(ids)[shown], boxes[shown], frame, errors, rng)


def _walker(rng: np.random.Generator, width: int, *, at_edge: bool = False) -> dict[str, float]:
    speed = float(rng.choice([-1, 1]) * rng.uniform(1.5, 6))
    x = (-60.0 if speed > 0 else width + 60.0) if at_edge else float(rng.uniform(0, width))
    return {"x": x, "depth": float(rng.uniform(0.3, 1)), "speed": speed, "phase": float(rng.uniform(0, 6))}


def _box(one: dict[str, float], frame: int) -> list[float]:
    """A person's box: nearer ones are larger and stand lower."""
    height = 380 * one["depth"]
    width, foot = 0.38 * height, 250 + 430 * one["depth"] + 2 * np.sin(frame / 3 + one["phase"])
    return [one["x"] - width / 2, foot - height, one["x"] + width / 2, foot]


def _detected(ids: np.ndarray, boxes: np.ndarray, frame: int, errors: Errors, rng: np.random.Generator) -> Frame:
    """What a detector tells of them."""
    covered = np.zeros(len(boxes))
    for i, box in enumerate(boxes):
        for other in boxes[boxes[:, 3] > box[3]]:
            common = np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0).prod()
            covered[i] = max(covered[i], common / np.prod(box[2:] - box[:2]))
    seen = (covered < HIDDEN) & (rng.random(len(boxes)) >= errors.missed)
    size = np.tile(boxes[seen, 2:] - boxes[seen, :2], 2)
    found = boxes[seen] + rng.normal(0, errors.jitter, size.shape) * size
    swing = 0.12 * np.sin(frame / 4 + np.arange(len(found)))[:, None] * (STANDING[:, 1] > 0.6)
    shares = STANDING[None] + np.stack([swing, np.zeros_like(swing)], axis=2)
    poses = boxes[seen, None, :2] + shares * (boxes[seen, None, 2:] - boxes[seen, None, :2])
    poses = poses + rng.normal(0, errors.jitter, poses.shape) * size[:, None, :2]
    scores = np.clip(rng.normal(0.75, 0.12, len(found)) - 0.4 * covered[seen], 0.1, 1)
    if rng.random() < errors.false:
        corner, side = rng.uniform(0, (1000, 400)), rng.uniform(40, 250)
        found = np.vstack([found, [*corner, corner[0] + 0.4 * side, corner[1] + side]])
        poses = np.vstack([poses, (corner + STANDING * (0.4 * side, side))[None]])
        scores = np.append(scores, rng.uniform(0.1, 0.6))
    order = rng.permutation(len(found))
    return Frame(ids, boxes, found[order], scores[order], poses[order])


def measure(frames: list[Frame], tracker: Tracker) -> dict[str, float]:
    """IDF1, switches and fragmentations of one run; and of how many frames one id was on two people (must be none)."""
    import motmetrics

    accumulator, twice = motmetrics.MOTAccumulator(auto_id=True), 0
    for frame in frames:
        ids = tracker.update(frame.found, frame.scores, frame.poses)
        told = ids > 0
        twice += len(set(ids[told].tolist())) < int(told.sum())
        distance = 1 - box_iou(frame.boxes, frame.found[told])
        accumulator.update(frame.ids, ids[told], np.where(distance > 0.5, np.nan, distance))
    names = ["idf1", "num_switches", "num_fragmentations", "num_unique_objects", "num_objects"]
    row = motmetrics.metrics.create().compute(accumulator, metrics=names).iloc[0]
    return {**{name: float(row[name]) for name in names}, "twice": twice}


def jitter(frames: int, noise: float, speed: float, rng: np.random.Generator) -> dict[str, float]:
    """Mean acceleration (px a frame^2) of still points, raw and smoothed; and how far a moving one lags (px).

    Args:
        noise: standard deviation of a key point, px.
        speed: of the moving points, px a second.
    """
    still = np.zeros((frames, 1, 17, 2))
    moving = still + np.linspace(0, speed * frames / FPS, frames)[:, None, None, None] * np.array([1, 0])
    result = {}
    for name, truth in (("still", still), ("moving", moving)):
        smoother, raw = Smoother(), truth + rng.normal(0, noise, truth.shape)
        smooth = np.array([smoother.smooth(xy, np.array([1]), t / FPS) for t, xy in enumerate(raw)])
        for kind, values in (("raw", raw), ("smooth", smooth)):
            half = values[frames // 2 :]
            result[f"{name} {kind}"] = float(np.linalg.norm(np.diff(half, n=2, axis=0), axis=-1).mean())
        result[f"{name} lag"] = float((truth - smooth)[frames // 2 :, ..., 0].mean())
    return result


@click.command()
@click.option("--frames", type=click.IntRange(2), default=1500, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
def main(frames: int, seeds: int) -> None:
    """Print IDF1, switches and fragmentations for few and many people, with and without each part of the tracker."""
    usual = TrackingSettings()
    sigmas = np.array(COCO17.sigmas)
    variants = {
        "boxes and poses": (sigmas, usual),
        "boxes alone": (None, usual),
        "no velocity": (sigmas, replace(usual, agility=0.0)),
        "no survival": (sigmas, replace(usual, survive_frames=0)),
    }
    click.echo(f"{'people':>6} {'variant':<20} {'IDF1':>6} {'switches':>9} {'fragments':>10} {'persons':>8}")
    for people in (4, 8, 16):
        scenes = [list(walk(people, frames, Errors(), np.random.default_rng(seed))) for seed in range(seeds)]
        for name, (of_points, settings) in variants.items():
            rows = [measure(scene, Tracker(of_points, settings)) for scene in scenes]
            assert not any(row["twice"] for row in rows)
            mean = {key: sum(row[key] for row in rows) / seeds for key in rows[0]}
            click.echo(
                f"{people:>6} {name:<20} {mean['idf1']:6.3f} {mean['num_switches']:9.1f} "
                f"{mean['num_fragmentations']:10.1f} {mean['num_unique_objects']:8.1f}"
            )

    click.echo(
        "\nnoise px, speed px/s: acceleration of still points raw and smoothed, px/frame^2; lag of moving ones, px"
    )
    for noise, speed in ((1.0, 50.0), (1.0, 200.0), (3.0, 200.0)):
        row = jitter(frames, noise, speed, np.random.default_rng(0))
        click.echo(
            f"{noise:4.1f} {speed:6.0f}: {row['still raw']:6.2f} {row['still smooth']:6.2f} {row['moving lag']:6.2f}"
        )


if __name__ == "__main__":
    main()
