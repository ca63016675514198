"""Latency of a person detector, stage by stage, from a decoded 1080p frame to boxes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter

from edgepose.benchmarks.latency import FEWEST_ROUNDS, make_frame
from edgepose.estimate.detect import Detector, find_people
from edgepose.timing import measured

STAGES = ("letterbox", "detect", "boxes")


@dataclass(frozen=True)
class DetectorLatency:
    """One detector: medians in ms of a frame and of each of STAGES, over `rounds` frames."""

    detector: str
    precision: str
    runtime: str
    rounds: int
    total_ms: float
    stages_ms: dict[str, float]

    def text(self) -> str:
        """One line."""
        stages = ", ".join(f"{name} {ms:.2f}" for name, ms in self.stages_ms.items())
        return (
            f"detector {self.detector}, {self.precision.upper()} {self.runtime}: {self.total_ms:.2f} ms a frame "
            f"({stages})"
        )


def measure_detector(detector: Detector, seconds: float) -> DetectorLatency:
    """Run the detector on one frame again and again for so many seconds, three times at least."""
    frame, _ = make_frame(1)
    find_people(detector, frame)  # the first run is slow
    totals: list[float] = []
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    end = perf_counter() + seconds
    while len(totals) < FEWEST_ROUNDS or perf_counter() < end:
        start = perf_counter()
        with measured() as times:
            find_people(detector, frame)
        totals.append(perf_counter() - start)
        for name in STAGES:
            stages[name].append(times.seconds[name])
    runtime = detector.runtime
    return DetectorLatency(
        runtime.path.name,
        runtime.passport.precision,
        runtime.name,
        len(totals),
        1e3 * statistics.median(totals),
        {name: 1e3 * statistics.median(values) for name, values in stages.items()},
    )
