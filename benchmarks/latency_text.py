"""A latency measurement for people: its table, and what its numbers hold for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2

from edgepose.benchmarks.latency import FRAME_HW, Latency, Opened
from edgepose.io.columns import aligned
from edgepose.machine.conditions import Conditions, read_conditions
from edgepose.machine.gpu import find_gpu

MADE_FRAME = "{1}x{0} RGB, decoded".format(*FRAME_HW)


def conditions(
    backends: Sequence[Opened], threads: int | None, root: Path = Path("/"), *, frame: str = MADE_FRAME
) -> Conditions:
    """What the numbers hold for: machine, versions, files; and a line for each condition that cannot be read.

    Args:
        backends: or runtimes.
        threads: of a CPU, as asked for.
        root: where /proc and /sys are.
        frame: which picture it was.
    """
    about = read_conditions(root)
    found = about.found
    if any(backend.passport.engine for backend in backends) and (gpu := find_gpu()):
        found["GPU"] = f"{gpu.name} ({gpu.target}), driver for CUDA {{}}.{{}}".format(*gpu.driver_cuda)
    if any(backend.passport.engine is None for backend in backends):
        found["CPU threads"] = str(threads) if threads else "the backend's choice"
    found["frame"] = frame
    found["OpenCV"] = cv2.__version__
    for package in ("edgepose", "numpy", "pycuda", *sorted({backend.name for backend in backends})):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    for backend in backends:
        passport = backend.passport
        parts = [backend.arithmetic, f"sha256 {passport.sha256[:12]}", *["random weights"] * passport.random_weights]
        if engine := passport.engine:
            parts.append(f"{engine.runtime} {engine.tensorrt}, batch up to {engine.max_batch}")
        found[backend.path.name] = ", ".join(parts)
    return about


def table(rows: Sequence[Latency]) -> str:
    """The rows as text columns."""
    lines = cells(rows)
    return "\n".join(aligned(lines, right=range(3, len(lines[0]))))


def cells(rows: Sequence[Latency]) -> list[list[str]]:
    """A heading, then a line for each row. What no row has is no column."""
    stages = list(dict.fromkeys(name for row in rows for name in row.stages_ms if name != "host"))
    graphs = any(row.cuda_graph is not None for row in rows)
    energy = any(row.joules_per_person is not None for row in rows)
    head = ["model", "precision", "backend", *["graph"] * graphs, "people", "p50 ms", "p90", "p99", *stages, "host"]
    lines = [[*head, "frames/s", "people/s", *["J/person"] * energy, "speed-up"]]
    for row in rows:
        joules = row.joules_per_person
        lines.append(
            [
                row.model,
                row.precision,
                row.backend,
                *[{True: "yes", False: "no", None: "-"}[row.cuda_graph]] * graphs,
                str(row.batch),
                *(f"{value:.2f}" for value in row.total_ms),
                *(f"{row.stages_ms[name]:.3f}" if name in row.stages_ms else "-" for name in (*stages, "host")),
                f"{row.frames_per_s:.1f}",
                f"{row.people_per_s:.1f}",
                *["-" if joules is None else f"{joules:.3g}"] * energy,
                f"{row.speedup:.2f}x",
            ]
        )
    return lines
