"""Latency of networks that find everybody in a whole image: letterbox, network, peaks, grouping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from edgepose.backends.runtime import Runtime
from edgepose.benchmarks.energy import Rail
from edgepose.benchmarks.latency import Latency, Progress, Work, measure_works
from edgepose.estimate.whole import estimate_people


def measure_whole(
    runtimes: Sequence[Runtime],
    image: np.ndarray,
    seconds: float,
    *,
    flip_test: bool = False,
    scales: Sequence[Runtime] = (),
    rails: Sequence[Rail] = (),
    progress: Progress | None = None,
) -> list[Latency]:
    """Measure every runtime on one image: latency interleaved, then throughput and energy of each alone.

    Args:
        runtimes: from `load_runtime`; the first is what the others are compared with.
        image: (H, W, 3) uint8 RGB; people in it are what grouping takes its time for.
        seconds, rails, progress: see `measure`.
        flip_test, scales: see `estimate_people`.
    """
    works = [_work(runtime, image, flip_test, scales) for runtime in runtimes]
    return measure_works(works, seconds, rails=rails, progress=progress)


def _work(runtime: Runtime, image: np.ndarray, flip_test: bool, scales: Sequence[Runtime]) -> Work:
    find = partial(estimate_people, runtime, image, flip_test=flip_test, scales=scales)
    poses, _ = find()  # the first run is slow

    def frames(ticks: Iterator[None]) -> Iterable[object]:
        return (find() for _ in ticks)

    return Work(runtime, None, len(poses), lambda: None, find, frames)
