"""Latency of model files, stage by stage and end to end from a decoded frame; engines interleaved.

Machines drift (clocks, temperature, other work), so every engine runs once in each round, and engines are
compared by the median of their ratios within a round, not by the ratio of their medians.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

import numpy as np

from edgepose.backends import Backend
from edgepose.geometry import Regions

FRAME_HW = (1080, 1920)
WARM_UP_ROUNDS = (3, 30)  # at least, at most
STABLE = 0.05  # warm when the last rounds' median differs from that of those before by less than this share
NOT_MEASURED = "energy (no power sensor is read on this backend)"

Progress = Callable[[float], None]  # share of the measuring time that has gone by


@dataclass(frozen=True)
class Latency:
    """One engine at one batch size.

    Attributes:
        engine: the file's name.
        precision, backend: what ran it.
        batch: people in the frame.
        rounds: how often it was measured.
        total_ms: p50, p90 and p99 of a frame, from decoded image to key points in image px.
        stages_ms: p50 of each stage; "host" is what is left of the frame.
        people_per_s: batch over p50.
        speedup: median over the rounds of first engine's time / this engine's time.
    """

    engine: str
    precision: str
    backend: str
    batch: int
    rounds: int
    total_ms: tuple[float, float, float]
    stages_ms: dict[str, float]
    people_per_s: float
    speedup: float


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
    progress: Progress | None = None,
) -> list[Latency]:
    """Measure every backend at one batch size, interleaved.

    Args:
        backends: from load_backend; the first is what the others are compared with.
        batch: people in the frame.
        seconds: measuring time for each backend, after the warm-up.
        flip_test: run the mirrored crops as well.
        progress: called after each round.
    """
    image, boxes = make_frame(batch)
    totals: list[list[float]] = []
    stages: list[list[dict[str, float]]] = []

    def run_round() -> None:
        row_totals, row_stages = [], []
        for backend in backends:
            before = dict(backend.times.seconds)
            start = perf_counter()
            regions = Regions.around(boxes, backend.spec)
            backend.keypoints(image, regions, flip_test=flip_test)
            total = perf_counter() - start
            spent = {name: value - before.get(name, 0.0) for name, value in backend.times.seconds.items()}
            row_totals.append(total)
            row_stages.append({**spent, "host": total - sum(spent.values())})
        totals.append(row_totals)
        stages.append(row_stages)

    while not _is_warm(totals):
        run_round()
    totals.clear()
    stages.clear()
    start, wanted = perf_counter(), seconds * len(backends)
    while len(totals) < 3 or perf_counter() - start < wanted:
        run_round()
        if progress is not None:
            progress(min(1.0, (perf_counter() - start) / wanted))
    table = np.array(totals)  # (rounds, backends)
    return [
        _summarise(backend, batch, table[:, index], [row[index] for row in stages], table[:, 0])
        for index, backend in enumerate(backends)
    ]


def _is_warm(totals: list[list[float]]) -> bool:
    least, most = WARM_UP_ROUNDS
    if len(totals) < 2 * least:
        return False
    table = np.array(totals)
    late, early = np.median(table[-least:], axis=0), np.median(table[-2 * least : -least], axis=0)
    return len(totals) >= most or bool((np.abs(late / early - 1) < STABLE).all())


def _summarise(
    backend: Backend, batch: int, totals: np.ndarray, stages: list[dict[str, float]], first: np.ndarray
) -> Latency:
    p50, p90, p99 = np.percentile(totals * 1e3, [50, 90, 99])
    return Latency(
        engine=backend.path.name,
        precision=backend.passport.precision,
        backend=backend.name,
        batch=batch,
        rounds=len(totals),
        total_ms=(float(p50), float(p90), float(p99)),
        stages_ms={name: float(np.median([row[name] for row in stages]) * 1e3) for name in stages[0]},
        people_per_s=float(batch / p50 * 1e3),
        speedup=float(np.median(first / totals)),
    )


def conditions(backends: Sequence[Backend], threads: int | None) -> dict[str, str]:
    """What the numbers hold for: machine, versions, files. What cannot be read is left out."""
    found = {
        "machine": f"{_processor()}, {platform.machine()}",
        "threads": str(threads) if threads else "the backend's choice",
        "clock": _read_scaled("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 1e-3, "MHz"),
        "temperature": _read_scaled("/sys/class/thermal/thermal_zone0/temp", 1e-3, "degrees C"),
        "frame": "{1}x{0} RGB, decoded".format(*FRAME_HW),
        "python": platform.python_version(),
    }
    for package in ("edgepose", "numpy", "opencv-python-headless", *sorted({backend.name for backend in backends})):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    for backend in backends:
        weights = ", random weights" if backend.passport.random_weights else ""
        found[backend.path.name] = f"sha256 {backend.passport.sha256[:12]}{weights}"
    return {name: value for name, value in found.items() if value}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def _read_scaled(path: str, scale: float, unit: str) -> str:
    try:
        return f"{float(Path(path).read_text()) * scale:.0f} {unit}"
    except (OSError, ValueError):
        return ""


def table(rows: Sequence[Latency]) -> str:
    """The rows as text columns."""
    stages = list(dict.fromkeys(name for row in rows for name in row.stages_ms))
    head = ["engine", "precision", "backend", "people", "p50 ms", "p90", "p99", *stages, "people/s", "speed-up"]
    lines = [head]
    for row in rows:
        times = [f"{value:.2f}" for value in row.total_ms]
        rate = f"{row.people_per_s:.1f}"
        parts = [f"{row.stages_ms[name]:.2f}" if name in row.stages_ms else "-" for name in stages]
        lines.append(
            [row.engine, row.precision, row.backend, str(row.batch), *times, *parts, rate, f"{row.speedup:.2f}x"]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
