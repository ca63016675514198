"""Latency of model files, stage by stage and end to end from a decoded frame; throughput and energy of each.

Machines drift (clocks, temperature, other work), so every engine runs once in each round, and engines are
compared by the median of their ratios within a round, not by the ratio of their medians. Throughput and energy are
of an engine running alone, frame after frame, as `edgepose infer` runs a video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, runtime_checkable

import numpy as np

from edgepose.backends import Backend
from edgepose.benchmarks.energy import Energy, Meter, Rail
from edgepose.estimate.top_down import estimate_frames
from edgepose.estimate.two_pass import find_keypoints
from edgepose.stages.geometry import Regions
from edgepose.timing import measured

FRAME_HW = (1080, 1920)
WARM_UP_ROUNDS = (3, 30)  # at least, at most
STABLE = 0.05  # warm when the last rounds' median differs from that of those before by less than this share
FEWEST_ROUNDS = 3
ALONE = 0.5  # of the measuring time, for throughput and energy

Progress = Callable[[float], None]  # share of the measuring time that has gone by


@runtime_checkable
class Graphed(Backend, Protocol):
    """A backend that can replay CUDA graphs: it is measured with and without them."""

    cuda_graphs: bool


@dataclass(frozen=True)
class Variant:
    """A backend as it is run: with CUDA graphs, without, or (None) where it knows none."""

    backend: Backend
    cuda_graph: bool | None

    def prepare(self) -> None:
        """Let the backend run so."""
        if self.cuda_graph is not None:
            assert isinstance(self.backend, Graphed)
            self.backend.cuda_graphs = self.cuda_graph

    def is_possible(self) -> bool:
        """False where the backend has just found that its network cannot be recorded as a graph."""
        return not (self.cuda_graph and isinstance(self.backend, Graphed) and not self.backend.cuda_graphs)


@dataclass(frozen=True)
class Latency:
    """One engine at one batch size.

    Attributes:
        engine: the file's name.
        precision, backend: what ran it.
        cuda_graph: whether the network was replayed as a CUDA graph; None where the backend knows none.
        batch: people in the frame.
        rounds: how often it was measured.
        total_ms: p50, p90 and p99 of a frame, from decoded image to key points in image px.
        stages_ms: p50 of each stage; "host" is what is left of the frame.
        people_per_s: alone, frame after frame; where the backend takes several frames at once, so many are under way.
        speedup: median over the rounds of first engine's time / this engine's time.
        joules_per_person: while it ran alone, the machine's own needs in it; None where nothing measures it.
        joules_by_rail: of these, by power rail; those that are not counted, too.
    """

    engine: str
    precision: str
    backend: str
    cuda_graph: bool | None
    batch: int
    rounds: int
    total_ms: tuple[float, float, float]
    stages_ms: dict[str, float]
    people_per_s: float
    speedup: float
    joules_per_person: float | None
    joules_by_rail: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """Rows, and a line for each variant that could not be measured."""

    rows: list[Latency]
    missing: list[str]


def make_frame(people: int) -> tuple[np.ndarray, np.ndarray]:
    """A 1080p frame (H, W, 3) uint8 and (people, 4) boxes of 160 to 900 px height; always the same ones."""
    rng = np.random.default_rng(0)
    height, width = FRAME_HW
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [128 + 100 * np.sin(x / rng.uniform(20, 90) + y / rng.uniform(20, 90)) for _ in range(3)]
    box_h = rng.uniform(160, 900, people)
    box_w = box_h * rng.uniform(0.3, 0.8, people)
    left, top = rng.uniform(0, width - box_w), rng.uniform(0, height - box_h)
    boxes = np.stack([left, top, left + box_w, top + box_h], axis=1).astype(np.float32)
    return np.stack(waves, axis=2).astype(np.uint8), boxes


def measure(
    backends: Sequence[Backend],
    batch: int,
    seconds: float,
    *,
    flip_test: bool = False,
    rails: Sequence[Rail] = (),
    progress: Progress | None = None,
) -> Measured:
    """Measure every backend at one batch size: latency interleaved, then throughput and energy of each alone.

    Args:
        backends: from load_backend; the first is what the others are compared with.
        batch: people in the frame.
        seconds: measuring time for the latency of each row, after the warm-up; half of that again for the rest.
        flip_test: run the mirrored crops as well.
        rails: power rails to sample; from energy.find_rails.
        progress: called after each round.
    """
    image, boxes = make_frame(batch)
    variants, missing = _possible(backends, image, boxes, flip_test)
    totals: list[list[float]] = []
    stages: list[list[dict[str, float]]] = []

    def run_round() -> None:
        runs = [_run(variant, image, boxes, flip_test) for variant in variants]
        totals.append([total for total, _ in runs])
        stages.append([spent for _, spent in runs])

    def report(done: float) -> None:
        if progress is not None:
            progress(min(1.0, done / (1 + ALONE)))

    while not _is_warm(totals):
        run_round()
    totals.clear()
    stages.clear()
    start, wanted = perf_counter(), seconds * len(variants)
    while len(totals) < FEWEST_ROUNDS or perf_counter() - start < wanted:
        run_round()
        report(min(1.0, (perf_counter() - start) / wanted))
    times = np.array(totals)  # (rounds, variants)
    rows = []
    for index, variant in enumerate(variants):
        people_per_s, energy = _run_alone(variant, image, boxes, seconds * ALONE, flip_test, rails)
        report(1 + ALONE * (index + 1) / len(variants))
        row_stages = [row[index] for row in stages]
        rows.append(_summarise(variant, batch, times[:, index], row_stages, times[:, 0], people_per_s, energy))
    return Measured(rows, missing)


def _possible(
    backends: Sequence[Backend], image: np.ndarray, boxes: np.ndarray, flip_test: bool
) -> tuple[list[Variant], list[str]]:
    """How the backends can be run; of those that cannot, a line."""
    variants, missing = [], []
    for backend in backends:
        ways: tuple[bool | None, ...] = (True, False) if isinstance(backend, Graphed) else (None,)
        for way in ways:
            variant = Variant(backend, way)
            _run(variant, image, boxes, flip_test)  # a first run of a size records its graph
            if variant.is_possible():
                variants.append(variant)
            else:
                missing.append(f"{backend.path.name} with a CUDA graph: it cannot be recorded as one")
    return variants, missing


def _run(variant: Variant, image: np.ndarray, boxes: np.ndarray, flip_test: bool) -> tuple[float, dict[str, float]]:
    """Seconds of one frame, in all and by stage."""
    backend = variant.backend
    variant.prepare()
    with measured() as times:
        start = perf_counter()
        find_keypoints(backend, image, Regions.around(boxes, backend.spec), flip_test=flip_test)
        total = perf_counter() - start
    spent = {name: value for name, value in times.seconds.items() if value > 0}
    return total, {**spent, "host": total - sum(spent.values())}


def _run_alone(
    variant: Variant, image: np.ndarray, boxes: np.ndarray, seconds: float, flip_test: bool, rails: Sequence[Rail]
) -> tuple[float, Energy | None]:
    """People a second, and what they took."""
    end = perf_counter() + seconds
    frames = 0

    def endless() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while frames < FEWEST_ROUNDS or perf_counter() < end:
            yield image, boxes

    variant.prepare()
    with Meter(list(rails)) as meter:
        start = perf_counter()
        for _ in estimate_frames(variant.backend, endless(), flip_test=flip_test):
            frames += 1
        elapsed = perf_counter() - start
    people = frames * len(boxes)
    energy = meter.energy
    return people / elapsed, energy and energy.per(people)


def _is_warm(totals: list[list[float]]) -> bool:
    least, most = WARM_UP_ROUNDS
    if len(totals) < 2 * least:
        return False
    table = np.array(totals)
    late, early = np.median(table[-least:], axis=0), np.median(table[-2 * least : -least], axis=0)
    return len(totals) >= most or bool((np.abs(late / early - 1) < STABLE).all())


def _summarise(
    variant: Variant,
    batch: int,
    totals: np.ndarray,
    stages: list[dict[str, float]],
    first: np.ndarray,
    people_per_s: float,
    energy: Energy | None,
) -> Latency:
    p50, p90, p99 = np.percentile(totals * 1e3, [50, 90, 99])
    names = list(dict.fromkeys(name for row in stages for name in row if name != "host"))
    backend = variant.backend
    return Latency(
        engine=backend.path.name,
        precision=backend.passport.precision,
        backend=backend.name,
        cuda_graph=variant.cuda_graph,
        batch=batch,
        rounds=len(totals),
        total_ms=(float(p50), float(p90), float(p99)),
        stages_ms={name: float(np.median([row.get(name, 0.0) for row in stages]) * 1e3) for name in (*names, "host")},
        people_per_s=people_per_s,
        speedup=float(np.median(first / totals)),
        joules_per_person=energy.total if energy else None,
        joules_by_rail=energy.joules if energy else {},
    )
