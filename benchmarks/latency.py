"""Latency of model files, stage by stage and end to end from a decoded frame; throughput and energy of each.

Machines drift (clocks, temperature, other work), so every model runs once in each round, and models are
compared by the median of their ratios within a round, not by the ratio of their medians. Throughput and energy are
of a model running alone, frame after frame, as `edgepose infer` runs a video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, runtime_checkable

import numpy as np

from edgepose.backends import Backend
from edgepose.backends.runtime import Runtime
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


Opened = Backend | Runtime


@runtime_checkable
class Graphed(Backend, Protocol):
    """A backend that can replay CUDA graphs: it is measured with and without them."""

    cuda_graphs: bool


@dataclass(frozen=True)
class Work:
    """What one model does with a frame, as it is measured.

    Attributes:
        model: what runs the network.
        cuda_graph: with CUDA graphs, without, or (None) where it knows none.
        people: in the frame.
        prepare: lets the model run so.
        frame: from a decoded image to key points in image px.
        frames: the same for as many frames as it is given ticks; a model may work on some ahead.
    """

    model: Opened
    cuda_graph: bool | None
    people: int
    prepare: Callable[[], None]
    frame: Callable[[], object]
    frames: Callable[[Iterator[None]], Iterable[object]]


@dataclass(frozen=True)
class Latency:
    """One model at one batch size.

    Attributes:
        model: the file's name.
        precision, backend: what ran it.
        cuda_graph: whether the network was replayed as a CUDA graph; None where the backend knows none.
        batch: people in the frame; of a network that finds everybody, how many it found.
        rounds: how often it was measured.
        total_ms: p50, p90 and p99 of a frame, from decoded image to key points in image px.
        stages_ms: p50 of each stage; "host" is what is left of the frame.
        people_per_s, frames_per_s: alone, frame after frame; where the backend takes several frames at once, so many
            are under way.
        speedup: median over the rounds of first model's time / this model's time.
        joules_per_person: while it ran alone, the machine's own needs in it; None where nothing measures it, or nobody
            is in the frame.
        joules_by_rail: of these, by power rail; those that are not counted, too.
    """

    model: str
    precision: str
    backend: str
    cuda_graph: bool | None
    batch: int
    rounds: int
    total_ms: tuple[float, float, float]
    stages_ms: dict[str, float]
    people_per_s: float
    frames_per_s: float
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
    works, missing = _works(backends, image, boxes, flip_test)
    return Measured(measure_works(works, seconds, rails=rails, progress=progress), missing)


def measure_works(
    works: Sequence[Work], seconds: float, *, rails: Sequence[Rail] = (), progress: Progress | None = None
) -> list[Latency]:
    """Measure every work: latency interleaved, then throughput and energy of each alone; see `measure`."""
    totals: list[list[float]] = []
    stages: list[list[dict[str, float]]] = []

    def run_round() -> None:
        runs = [_run(work) for work in works]
        totals.append([total for total, _ in runs])
        stages.append([spent for _, spent in runs])

    def report(done: float) -> None:
        if progress is not None:
            progress(min(1.0, done / (1 + ALONE)))

    while not _is_warm(totals):
        run_round()
    totals.clear()
    stages.clear()
    start, wanted = perf_counter(), seconds * len(works)
    while len(totals) < FEWEST_ROUNDS or perf_counter() - start < wanted:
        run_round()
        report(min(1.0, (perf_counter() - start) / wanted))
    times = np.array(totals)  # (rounds, works)
    rows = []
    for index, work in enumerate(works):
        frames_per_s, energy = _run_alone(work, seconds * ALONE, rails)
        report(1 + ALONE * (index + 1) / len(works))
        row_stages = [row[index] for row in stages]
        rows.append(_summarise(work, times[:, index], row_stages, times[:, 0], frames_per_s, energy))
    return rows


def _works(
    backends: Sequence[Backend], image: np.ndarray, boxes: np.ndarray, flip_test: bool
) -> tuple[list[Work], list[str]]:
    """How the backends can be run; of those that cannot, a line."""
    works, missing = [], []
    for backend in backends:
        ways: tuple[bool | None, ...] = (True, False) if isinstance(backend, Graphed) else (None,)
        for way in ways:
            work = _work(backend, way, image, boxes, flip_test)
            _run(work)  # a first run of a size records its graph
            if way and isinstance(backend, Graphed) and not backend.cuda_graphs:
                missing.append(f"{backend.path.name} with a CUDA graph: it cannot be recorded as one")
            else:
                works.append(work)
    return works, missing


def _work(backend: Backend, cuda_graph: bool | None, image: np.ndarray, boxes: np.ndarray, flip_test: bool) -> Work:
    def prepare() -> None:
        if cuda_graph is not None:
            assert isinstance(backend, Graphed)
            backend.cuda_graphs = cuda_graph

    def frame() -> object:
        return find_keypoints(backend, image, Regions.around(boxes, backend.spec), flip_test=flip_test)

    def frames(ticks: Iterator[None]) -> Iterable[object]:
        return estimate_frames(backend, ((image, boxes) for _ in ticks), flip_test=flip_test)

    return Work(backend, cuda_graph, len(boxes), prepare, frame, frames)


def _run(work: Work) -> tuple[float, dict[str, float]]:
    """Seconds of one frame, in all and by stage."""
    work.prepare()
    with measured() as times:
        start = perf_counter()
        work.frame()
        total = perf_counter() - start
    spent = {name: value for name, value in times.seconds.items() if value > 0}
    return total, {**spent, "host": total - sum(spent.values())}


def _run_alone(work: Work, seconds: float, rails: Sequence[Rail]) -> tuple[float, Energy | None]:
    """Frames a second, and what their people took."""
    end = perf_counter() + seconds
    frames = 0

    def endless() -> Iterator[None]:
        while frames < FEWEST_ROUNDS or perf_counter() < end:
            yield

    work.prepare()
    with Meter(list(rails)) as meter:
        start = perf_counter()
        for _ in work.frames(endless()):
            frames += 1
        elapsed = perf_counter() - start
    people = frames * work.people
    return frames / elapsed, meter.energy.per(people) if meter.energy and people else None


def _is_warm(totals: list[list[float]]) -> bool:
    least, most = WARM_UP_ROUNDS
    if len(totals) < 2 * least:
        return False
    table = np.array(totals)
    late, early = np.median(table[-least:], axis=0), np.median(table[-2 * least : -least], axis=0)
    return len(totals) >= most or bool((np.abs(late / early - 1) < STABLE).all())


def _summarise(
    work: Work,
    totals: np.ndarray,
    stages: list[dict[str, float]],
    first: np.ndarray,
    frames_per_s: float,
    energy: Energy | None,
) -> Latency:
    p50, p90, p99 = np.percentile(totals * 1e3, [50, 90, 99])
    names = list(dict.fromkeys(name for row in stages for name in row if name != "host"))
    return Latency(
        model=work.model.path.name,
        precision=work.model.passport.precision,
        backend=work.model.name,
        cuda_graph=work.cuda_graph,
        batch=work.people,
        rounds=len(totals),
        total_ms=(float(p50), float(p90), float(p99)),
        stages_ms={name: float(np.median([row.get(name, 0.0) for row in stages]) * 1e3) for name in (*names, "host")},
        people_per_s=frames_per_s * work.people,
        frames_per_s=frames_per_s,
        speedup=float(np.median(first / totals)),
        joules_per_person=energy.total if energy else None,
        joules_by_rail=energy.joules if energy else {},
    )
