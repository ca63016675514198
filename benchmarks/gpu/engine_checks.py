"""Engines on the GPU: built, compared with the CPU, run by several threads and for long, and timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edgepose.backends import Backend, load_backend
from edgepose.benchmarks.gpu.models import find_models, read_frame
from edgepose.benchmarks.gpu.rows import Check, Finding, SkippedError, one_line
from edgepose.benchmarks.latency import Latency, Measured, measure
from edgepose.errors import BuildError
from edgepose.evaluation.agreement import CLEAR, clear_peaks, largest_relative, relative_error
from edgepose.evaluation.plan_check import CLEAR_SHARE
from edgepose.machine.gpu import find_gpu
from edgepose.machine.nvcc import find_nvcc
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions
from edgepose.trt.build import build_engine
from edgepose.trt.options import BuildOptions
from edgepose.trt.versions import load_builder

MAX_BATCH = 8
BATCHES = (1, 8)


def engine_checks(models: Path, work: Path, precision: str, seconds: float) -> Iterator[Check]:
    """Each model of one precision: built, compared, timed. seconds: for one latency measurement."""
    found = find_models(models, precision)
    if not found:
        yield f"{precision.upper()} engines", partial(_skip, f"there is no {precision.upper()} ONNX in {models}")
    for onnx in found:
        plan = plan_path(work, onnx)
        yield f"build {onnx.name}", partial(check_build, onnx, plan)
        yield f"{onnx.name} against the CPU", partial(check_agreement, onnx, plan, *read_frame(models))
        for batch in BATCHES:
            yield from latency_checks(plan, batch, seconds)


def require_builder() -> None:
    """Raise SkippedError where no TensorRT builds engines for this GPU, or nvcc no kernels beside them."""
    try:
        trt = load_builder()
        find_nvcc()
    except BuildError as error:
        raise SkippedError(one_line(error)) from error
    gpu = find_gpu()
    targets = sorted(name for name in dir(getattr(trt, "ComputeCapability", None)) if name.startswith("SM"))
    if trt.__name__ == "tensorrt_rtx" and gpu and gpu.target.replace("sm_", "SM") not in targets:
        known = ", ".join(targets)
        raise SkippedError(f"TensorRT for RTX {trt.__version__} builds for {known}; this is {gpu.name} ({gpu.target})")


def plan_path(work: Path, onnx: Path) -> Path:
    """Where the plan of a model goes."""
    return work / onnx.with_suffix(".plan").name


def check_build(onnx: Path, plan: Path) -> Finding:
    """An engine for up to MAX_BATCH people."""
    start = perf_counter()
    report = build_engine(onnx, plan, BuildOptions(max_batch=MAX_BATCH))
    info = report.passport.plan
    size = plan.stat().st_size / 2**20
    found = (
        f"{info.runtime} {info.tensorrt}, {perf_counter() - start:.0f} s, {size:.1f} MiB, "
        f"peak host memory {report.peak_mib} MiB, {len(report.warnings)} warnings"
    )
    return Finding(True, found)


def check_agreement(onnx: Path, plan: Path, image: np.ndarray, boxes: np.ndarray) -> Finding:
    """Heat maps of the same crops, and key points of the frame, against the CPU backend on the ONNX."""
    _require(plan)
    with closing(load_backend(onnx, exact=True)) as cpu, closing(load_backend(plan)) as gpu:
        return compare_backends(cpu, gpu, image, boxes)


def compare_backends(cpu: Backend, gpu: Backend, image: np.ndarray, boxes: np.ndarray) -> Finding:
    """Heat maps within LARGEST_RELATIVE or TIMES_ROUNDING; key points that are clear peaks within 1 heat-map px."""
    spec = cpu.spec
    regions = Regions.around(boxes, spec)
    crops = cut_out(image, regions, spec)
    wanted, found = cpu.heatmaps(crops), gpu.heatmaps(crops)
    relative, largest = relative_error(found, wanted), largest_relative(cpu, crops, wanted)
    margin = max(
        CLEAR * float(np.abs(found - wanted).max()), CLEAR_SHARE * float(wanted.max())
    )  # its crops differ, too
    clear = clear_peaks(wanted[:, : spec.num_keypoints], margin)
    moved = gpu.keypoints(image, regions)[..., :2] - cpu.keypoints(image, regions)[..., :2]
    px = np.abs(moved / regions.px_per_step(spec.heatmaps.size_hw)[:, None]).max(axis=-1)[clear]
    text = f"heat maps differ by {relative:.1e} of their rms"
    limit = f"{largest:.2g}, clear peaks within 1 heat-map px"
    if not px.size:  # false as well where a heat map is NaN
        return Finding(relative <= largest, f"{text}; no peak is clear of others", limit)
    text += f"; {px.size} of {clear.size} key points are clear peaks, the farthest moved {px.max():.3f} heat-map px"
    return Finding(relative <= largest and bool(px.max() <= 1), text, limit)


def latency_checks(plan: Path, batch: int, seconds: float) -> Iterator[Check]:
    """Stage by stage, with and without CUDA graph; both are measured at once, interleaved."""
    known: dict[str, Any] = {}

    def measured() -> Measured:
        if "measured" not in known:
            _require(plan)
            with closing(load_backend(plan)) as backend:
                known["measured"] = measure([backend], batch, seconds)
        return known["measured"]

    for graph in (True, False):
        name = f"{plan.name}, {batch} people, {'with' if graph else 'without'} CUDA graph"
        yield name, partial(_latency, measured, graph)


def _latency(measured: Any, graph: bool) -> Finding:
    result: Measured = measured()
    for row in result.rows:
        if row.cuda_graph is graph:
            return Finding(True, in_words(row))
    raise SkippedError("; ".join(result.missing) or "it was not measured so")


def in_words(row: Latency) -> str:
    """Latency, stages and throughput in a cell."""
    p50, p90, p99 = row.total_ms
    stages = ", ".join(f"{name} {value:.3f}" for name, value in row.stages_ms.items())
    return f"p50 {p50:.3f} ms, p90 {p90:.3f}, p99 {p99:.3f}: {stages}; {row.people_per_s:.0f} people/s"


def _require(plan: Path) -> None:
    if not plan.is_file():
        raise SkippedError("its engine was not built")


def _skip(reason: str) -> Finding:
    raise SkippedError(reason)
