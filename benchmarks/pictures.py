"""Latency of networks that find everybody in a whole image, from a decoded 1080p frame to key points, by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from edgepose.backends.runtime import Runtime
from edgepose.benchmarks.latency import FEWEST_ROUNDS, make_frame
from edgepose.estimate.whole import estimate_people
from edgepose.io.columns import aligned
from edgepose.timing import measured

STAGES = ("letterbox", "network", "decode")
WARM_UP = 3  # rounds


@dataclass(frozen=True)
class PictureLatency:
    """One network.

    Attributes:
        engine: the file's name.
        precision, backend: what ran it.
        rounds: how often it was measured.
        people: that it found in the frame, of which decoding takes longer the more there are.
        total_ms: p50, p90 and p99 of a frame.
        stages_ms: p50 of each of STAGES.
        speedup: median over the rounds of first engine's time / this engine's time.
    """

    engine: str
    precision: str
    backend: str
    rounds: int
    people: int
    total_ms: tuple[float, float, float]
    stages_ms: dict[str, float]
    speedup: float


def measure_pictures(
    runtimes: Sequence[Runtime], seconds: float, *, flip_test: bool = False, frame: np.ndarray | None = None
) -> list[PictureLatency]:
    """Run every network once in each round, for so many seconds a network, three rounds at least.

    Args:
        frame: (H, W, 3) uint8 RGB; None: always the same waves, in which there is nobody.
    """
    image = make_frame(1)[0] if frame is None else frame
    people = [len(estimate_people(runtime, image, flip_test=flip_test)[0]) for runtime in runtimes]
    totals: list[list[float]] = []
    stages: list[list[dict[str, float]]] = []
    start = perf_counter()
    while len(totals) < WARM_UP + FEWEST_ROUNDS or perf_counter() - start < seconds * len(runtimes):
        runs = [_run(runtime, image, flip_test) for runtime in runtimes]
        totals.append([total for total, _ in runs])
        stages.append([spent for _, spent in runs])
    times = 1e3 * np.array(totals[WARM_UP:])  # (rounds, networks)
    rows = []
    for index, runtime in enumerate(runtimes):
        p50, p90, p99 = np.percentile(times[:, index], [50, 90, 99])
        spent = {name: [1e3 * row[index].get(name, 0.0) for row in stages[WARM_UP:]] for name in STAGES}
        rows.append(
            PictureLatency(
                runtime.path.name,
                runtime.passport.precision,
                runtime.name,
                len(times),
                people[index],
                (float(p50), float(p90), float(p99)),
                {name: float(np.median(values)) for name, values in spent.items()},
                float(np.median(times[:, 0] / times[:, index])),
            )
        )
    return rows


def table(rows: Sequence[PictureLatency]) -> str:
    """A heading, then a line for each row."""
    lines = [["engine", "precision", "backend", "found", "p50 ms", "p90", "p99", *STAGES, "images/s", "speed-up"]]
    for row in rows:
        times = [f"{value:.2f}" for value in (*row.total_ms, *row.stages_ms.values())]
        lines.append([
            row.engine, row.precision, row.backend, str(row.people), *times, f"{1e3 / row.total_ms[0]:.1f}",
            f"{row.speedup:.2f}x",
        ])  # fmt: skip
    return "\n".join(aligned(lines, right=range(3, len(lines[0]))))


def _run(runtime: Runtime, image: np.ndarray, flip_test: bool) -> tuple[float, dict[str, float]]:
    start = perf_counter()
    with measured() as times:
        estimate_people(runtime, image, flip_test=flip_test)
    return perf_counter() - start, times.seconds
