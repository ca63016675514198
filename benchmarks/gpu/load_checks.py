"""An engine in several threads at once, and for long."""

from __future__ import annotations

import ctypes
import threading
from contextlib import closing
from pathlib import Path
from time import perf_counter

import numpy as np

from edgepose.backends import Pipelined, load_backend
from edgepose.benchmarks.gpu.engine_checks import MAX_BATCH
from edgepose.benchmarks.gpu.rows import Finding, SkippedError
from edgepose.benchmarks.latency import make_frame
from edgepose.cuda import graphs
from edgepose.stages.geometry import Regions

THREADS, FRAMES_EACH = 4, 100
FRAMES = 10_000
HOST_GROWTH, DEVICE_GROWTH = 16 << 20, 4 << 20  # bytes, at most


def built_plan(work: Path) -> Path:
    """A plan of an earlier group: the largest, of the precision that is used most."""
    plans = sorted(work.glob("*.plan"), key=lambda path: (".fp16" in path.name, path.stat().st_size))
    if not plans:
        raise SkippedError("no engine was built")
    return plans[-1]


def check_threads(work: Path) -> Finding:
    """THREADS threads with an instance each, at once, find what one finds alone."""
    plan = built_plan(work)
    image, boxes = make_frame(MAX_BATCH)

    def keypoints_of(frames: int) -> list[np.ndarray]:
        with closing(load_backend(plan)) as backend:
            regions = Regions.around(boxes, backend.spec)
            return [backend.keypoints(image, regions) for _ in range(frames)]

    (alone,) = keypoints_of(1)
    results: list[list[np.ndarray]] = []
    errors: list[BaseException] = []

    def work_on() -> None:
        try:
            results.append(keypoints_of(FRAMES_EACH))
        except Exception as error:  # a thread's own would be lost
            errors.append(error)

    threads = [threading.Thread(target=work_on) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    different = sum(not np.array_equal(found, alone) for each in results for found in each)
    found = f"{plan.name}: {different} of {THREADS * FRAMES_EACH} frames differ from one thread's"
    return Finding(different == 0, found, "none, to the bit")


def check_endurance(work: Path, seconds: float, frames: int = FRAMES) -> Finding:
    """Frames without growth of the process's memory or the GPU's, after a tenth of them as a warm-up."""
    plan = built_plan(work)
    image, boxes = make_frame(MAX_BATCH)
    start = perf_counter()
    done, before = 0, None
    with closing(load_backend(plan)) as backend:
        assert isinstance(backend, Pipelined)
        for done in range(1, frames + 1):
            backend.submit(image, Regions.around(boxes[: 1 + done % MAX_BATCH], backend.spec))
            if done >= backend.frames_in_flight:
                backend.result()
            if done == frames // 10:
                before = memory_in_use()
            if perf_counter() - start > seconds:
                break
        if done < frames or before is None:
            raise TimeoutError(f"only {done} of {frames} frames in {seconds:.0f} s: give more time by --patience")
        growth = [after - earlier for after, earlier in zip(memory_in_use(), before, strict=True)]
    found = (
        f"{plan.name}, 1 to {MAX_BATCH} people a frame: {done} frames in {perf_counter() - start:.0f} s, host memory "
        f"grew by {growth[0] / 2**20:.1f} MiB, the GPU's by {growth[1] / 2**20:.1f} MiB"
    )
    fits = growth[0] <= HOST_GROWTH and growth[1] <= DEVICE_GROWTH
    return Finding(fits, found, f"at most {HOST_GROWTH >> 20} and {DEVICE_GROWTH >> 20} MiB")


def memory_in_use() -> tuple[int, int]:
    """Bytes that this process holds of the host's memory, and that all processes hold of the GPU's.

    On an integrated GPU both are one memory, and what other programs take comes and goes: there the second is 0.
    """
    from edgepose.cuda.memory import open_device

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    device = open_device()
    if device.gpu.integrated:
        return pages * 4096, 0
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with device.active():
        status = graphs.load_driver().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    if status != 0:
        raise RuntimeError(f"cuMemGetInfo gave CUDA error {status}")
    return pages * 4096, total.value - free.value
