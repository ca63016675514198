"""Bottom-up grouping's time as people become more, against the published algorithms, on drawn crowds.

    OPENBLAS_NUM_THREADS=1 python -m edgepose.benchmarks.studies.grouping

Both get the same maps and must find the same people; times are those of the one thread that works. The published
algorithms are those of `published_grouping.py`: plain Python, as lightweight OpenPose's and mmpose's code is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import thread_time
from typing import TypeVar

import click
import cv2
import numpy as np

from edgepose.benchmarks.studies import published_grouping as published
from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.stages.field_grouping import decode_fields, group_points
from edgepose.stages.field_points import find_points
from edgepose.stages.peaks import find_peaks
from edgepose.stages.tag_grouping import decode_tags, group_peaks

MAP_HW = (184, 328)  # of a 368x656 input, enlarged four times from stride 8
Result = TypeVar("Result")

PEOPLE = (1, 2, 5, 10, 20, 30, 50, 100)


@dataclass(frozen=True)
class Row:
    """One way of grouping at one number of people.

    Attributes:
        way: "fields" or "tags".
        people: how many were drawn.
        peaks_ms, group_ms: ours, median milliseconds.
        all_ms: ours from maps to people, of tags with missing key points filled in, median milliseconds.
        published_ms: the published algorithm's, peaks and groups for fields, groups for tags; the least of a few runs.
        equal: whether both found the same people; of tags with our choice among equal assignments.
        found, published_found: how many people each found, the published one with its own choice.
    """

    way: str
    people: int
    peaks_ms: float
    group_ms: float
    all_ms: float
    published_ms: float
    equal: bool
    found: int
    published_found: int

    @property
    def ratio(self) -> float:
        """How many times longer the published algorithm took for what both do."""
        return self.published_ms / (self.group_ms + (self.peaks_ms if self.way == "fields" else 0))


def measure_fields(count: int, rounds: int) -> Row:
    """Heat maps and fields to people."""
    rng = np.random.default_rng(count)
    points = draw_people(count, MAP_HW, rng)
    heatmaps, drawn = draw_maps(points, MAP_HW, rng)
    pafs = draw_fields(points, drawn, MAP_HW, rng)
    head = Fields(MAP_HW, upsample=1)
    found = find_points(heatmaps, head)
    members = group_points(found, pafs, head).members.tolist()
    expected, published_s = _best(
        lambda: published.group_by_fields(published.points_in(heatmaps, head), pafs, head), min(rounds, 3)
    )
    return Row(
        "fields",
        count,
        peaks_ms=_median_ms(lambda: find_points(heatmaps, head), rounds),
        group_ms=_median_ms(lambda: group_points(found, pafs, head), rounds),
        all_ms=_median_ms(lambda: decode_fields(heatmaps, pafs, head), rounds),
        published_ms=published_s * 1e3,
        equal=members == [[person.members.get(kind, -1) for kind in range(18)] for person in expected],
        found=len(members),
        published_found=len(expected),
    )


def measure_tags(count: int, rounds: int) -> Row:
    """Heat maps and tags to people; filling in key points that were not found is in `all_ms` alone."""
    rng = np.random.default_rng(count)
    points = draw_people(count, MAP_HW, rng)[:, COCO17_OF_18]
    heatmaps, drawn = draw_maps(points, MAP_HW, rng)
    maps = draw_tags(points, drawn, MAP_HW, rng)
    head = Tags(MAP_HW, top_k=min(2 * count + 10, 256), max_people=2 * count + 10)
    peaks, counts = find_peaks(heatmaps[None], head.window, head.peak_threshold, head.top_k)
    x, y = peaks[0, ..., :2].transpose(2, 0, 1).astype(int)
    tags = maps[np.arange(17)[:, None], y, x][..., None]
    people = group_peaks(peaks[0], counts[0], tags, head)
    expected, published_s = _best(lambda: published.group_by_tags(peaks[0], counts[0], tags, head), min(rounds, 3))
    return Row(
        "tags",
        count,
        peaks_ms=_median_ms(lambda: find_peaks(heatmaps[None], head.window, head.peak_threshold, head.top_k), rounds),
        group_ms=_median_ms(lambda: group_peaks(peaks[0], counts[0], tags, head), rounds),
        all_ms=_median_ms(lambda: decode_tags(heatmaps, maps, head), rounds),
        published_ms=published_s * 1e3,
        equal=sorted(people.tolist()) == sorted(expected.tolist()),
        found=len(people),
        published_found=len(published.group_by_tags(peaks[0], counts[0], tags, head, nearer=0)),
    )


def _median_ms(call: Callable[[], object], rounds: int) -> float:
    return median(_timed(call)[1] for _ in range(rounds)) * 1e3


def _best(call: Callable[[], Result], rounds: int) -> tuple[Result, float]:
    runs = [_timed(call) for _ in range(rounds)]
    return runs[0][0], min(seconds for _, seconds in runs)


def _timed(call: Callable[[], Result]) -> tuple[Result, float]:
    start = thread_time()
    result = call()
    return result, thread_time() - start


@click.command()
@click.option("--people", type=click.IntRange(1, 120), multiple=True, default=PEOPLE, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
def main(people: tuple[int, ...], rounds: int) -> None:
    """Print a Markdown table of both ways of grouping, in milliseconds."""
    cv2.setNumThreads(1)
    names = ("way", "people", "peaks ms", "grouping ms", "all ms", "published ms", "published / ours", "same people")
    click.echo(f"| {' | '.join(names)} | found | published found |")
    click.echo("|" + " --- |" * 10)
    for measure in (measure_fields, measure_tags):
        for count in people:
            row = measure(count, rounds)
            click.echo(
                f"| {row.way} | {row.people} | {row.peaks_ms:.2f} | {row.group_ms:.2f} | {row.all_ms:.2f} | "
                f"{row.published_ms:.1f} | {row.ratio:.0f}x | {'yes' if row.equal else 'no'} | "
                f"{row.found} | {row.published_found} |"
            )


if __name__ == "__main__":
    main()
