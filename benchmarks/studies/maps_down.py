"""What grouping asks of a bottom-up network's maps, in bytes and waits for a GPU, and what asking numpy costs a CPU.

python -m edgepose.benchmarks.studies.maps_down

Crowds are drawn as in grouping.py. Bytes are those that `edgepose.cuda.maps` moves for the same questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import process_time

import click
import cv2
import numpy as np

from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.cuda.launch import FOUND, SOME
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.stages.enlarge import enlarge
from edgepose.stages.field_grouping import group_connected, limb_strengths
from edgepose.stages.field_points import choose_points, find_candidates
from edgepose.stages.peaks import find_peaks
from edgepose.stages.tag_grouping import people_of
from edgepose.stages.tag_maps import TagArrays

FIELDS, TAGS = Fields((46, 82)), Tags((128, 128), upsample=2)  # of 368x656 and 512x512


@dataclass
class Asked:
    """Bytes up and down, and waits."""

    up: int = 0
    down: int = 0
    waits: int = 0

    def add(self, up: int, down: int) -> None:
        """One question."""
        self.up, self.down, self.waits = self.up + up, self.down + down, self.waits + 1


@dataclass(frozen=True)
class CountedTags(TagArrays):
    """`TagArrays` that counts."""

    asked: Asked = field(default_factory=Asked)

    def heights(self, kind: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """As of TagMaps."""
        self.asked.add(12 * len(kind), 4 * len(kind))
        return super().heights(kind, y, x)

    def tags(self, kind: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """As of TagMaps."""
        self.asked.add(12 * len(kind) * len(self.numbers), 4 * len(kind) * len(self.numbers))
        return super().tags(kind, y, x)

    def best_places(self, kind: np.ndarray, means: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """As of TagMaps."""
        self.asked.add(4 * len(kind) * (1 + len(means)), FOUND.itemsize * len(kind))
        return super().best_places(kind, means, weight)


def of_fields(count: int, rounds: int) -> tuple[Asked, int, list[float]]:
    """What is asked, bytes of the network's maps, and milliseconds of enlarging, peaks and grouping in numpy."""
    rng = np.random.default_rng(count)
    heatmaps, pafs = (_shrunk(maps, FIELDS.upsample) for maps in _fields_of(count, rng))
    asked = Asked()
    large = enlarge(heatmaps, FIELDS.upsample, "cubic")
    candidates = find_candidates(large, FIELDS.peak_threshold)
    asked.add(FOUND.itemsize, FOUND.itemsize * (1 + max(SOME, len(candidates[0]))))
    points = choose_points(*candidates, large.shape, FIELDS)
    strengths = partial(limb_strengths, enlarge(pafs, FIELDS.upsample, "cubic"), FIELDS)

    def counted(limb: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        asked.add(20 * len(limb), 8 * len(limb))
        return strengths(limb, start, end)

    group_connected(points, counted, FIELDS)
    times = [
        _median_ms(lambda: [enlarge(maps, FIELDS.upsample, "cubic") for maps in (heatmaps, pafs)], rounds),
        _median_ms(lambda: choose_points(*find_candidates(large, FIELDS.peak_threshold), large.shape, FIELDS), rounds),
        _median_ms(lambda: group_connected(points, strengths, FIELDS), rounds),
    ]
    return asked, heatmaps.nbytes + heatmaps[0].nbytes + pafs.nbytes, times


def of_tags(count: int, rounds: int) -> tuple[Asked, int, list[float]]:
    """The same of a head of tags."""
    rng = np.random.default_rng(count)
    large_hw = tuple(TAGS.upsample * side for side in TAGS.size_hw)
    points = draw_people(count, (large_hw[0], large_hw[1]), rng, height=110)[:, COCO17_OF_18]
    heatmaps, drawn = draw_maps(points, (large_hw[0], large_hw[1]), rng)
    numbers = draw_tags(points, drawn, (large_hw[0], large_hw[1]), rng)
    heatmaps, numbers = (_shrunk(maps, TAGS.upsample) for maps in (heatmaps, numbers))
    large, large_tags = (enlarge(maps, TAGS.upsample, "linear") for maps in (heatmaps, numbers))
    peaks, counts = find_peaks(large[None], TAGS.window, TAGS.peak_threshold, TAGS.top_k)
    asked = Asked()
    asked.add(0, peaks.nbytes + counts.nbytes)
    people_of(CountedTags(large, large_tags[None], asked), peaks[0], counts[0], TAGS)
    maps = TagArrays(large, large_tags[None])
    times = [
        _median_ms(lambda: [enlarge(maps, TAGS.upsample, "linear") for maps in (heatmaps, numbers)], rounds),
        _median_ms(lambda: find_peaks(large[None], TAGS.window, TAGS.peak_threshold, TAGS.top_k), rounds),
        _median_ms(lambda: people_of(maps, peaks[0], counts[0], TAGS), rounds),
    ]
    return asked, heatmaps.nbytes + numbers.nbytes, times


def _fields_of(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(18, h, w) and (38, h, w) of the enlarged size."""
    hw = (FIELDS.upsample * FIELDS.size_hw[0], FIELDS.upsample * FIELDS.size_hw[1])
    points = draw_people(count, hw, rng)
    heatmaps, drawn = draw_maps(points, hw, rng, sigma=4.0)
    return heatmaps, draw_fields(points, drawn, hw, rng, width=5.0)


def _shrunk(maps: np.ndarray, factor: int) -> np.ndarray:
    """(C, h, w) as a network gives them, of enlarged ones."""
    size_wh = (maps.shape[2] // factor, maps.shape[1] // factor)
    return np.stack([cv2.resize(one, size_wh, interpolation=cv2.INTER_AREA) for one in maps])


def _median_ms(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = process_time()
        work()
        times.append(1000 * (process_time() - start))
    return median(times)


@click.command()
@click.option("--people", type=click.IntRange(1, 100), multiple=True, default=(1, 5, 10, 30), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True)
def main(people: tuple[int, ...], rounds: int) -> None:
    """Print a Markdown table: of a picture, KiB of the maps and of what is asked of them, and ms in numpy."""
    cv2.setNumThreads(1)
    click.echo("| way | people | maps KiB | down KiB | up KiB | waits | enlarging ms | peaks ms | grouping ms |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for way, measure in (("fields", of_fields), ("tags", of_tags)):
        for count in people:
            asked, nbytes, times = measure(count, rounds)
            kib = [f"{value / 1024:.0f}" for value in (nbytes, asked.down, asked.up)]
            ms = [f"{value:.1f}" for value in times]
            click.echo(f"| {way} | {count} | {' | '.join(kib)} | {asked.waits} | {' | '.join(ms)} |")


if __name__ == "__main__":
    main()
