"""Ways of a frame to the GPU: the same key points by each, and how long each takes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from edgepose.backends import Backend, load_backend
from edgepose.benchmarks.gpu.engine_checks import MAX_BATCH
from edgepose.benchmarks.gpu.load_checks import built_plan
from edgepose.benchmarks.gpu.rows import Check, Finding
from edgepose.benchmarks.latency import make_frame
from edgepose.stages.frames import MEMORIES
from edgepose.stages.geometry import Regions
from edgepose.timing import measured

ROUNDS = 50
CAMERAS = 4


def frame_checks(work: Path) -> Iterator[Check]:
    """All checks of a frame's way."""
    for count in (1, MAX_BATCH):
        name = f"1080p frame {', '.join(MEMORIES)}, {count} people"
        yield name, partial(check_frame_memory, work, count)
    yield f"a 1080p frame that is on the GPU, {MAX_BATCH} people", partial(check_frame_on_gpu, work)
    name = f"{MAX_BATCH} people in {CAMERAS} 1080p frames, in one run and frame by frame"
    yield name, partial(check_several_frames, work)


def check_frame_memory(work: Path, count: int, rounds: int = ROUNDS) -> Finding:
    """A frame in each kind of memory, in turns: equal key points, and the stages that the memory decides."""
    plan = built_plan(work)
    image, boxes = make_frame(count)
    with ExitStack() as stack:
        backends = {kind: stack.enter_context(load_backend(plan, frame_memory=kind)) for kind in MEMORIES}
        regions = Regions.around(boxes, backends[MEMORIES[0]].spec)
        alike = {kind: backend.keypoints(image, regions) for kind, backend in backends.items()}
        times: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in MEMORIES}
        for _ in range(rounds):
            for kind, backend in backends.items():
                times[kind].append(_time(backend, image, regions))
    equal = all(np.array_equal(found, alike[MEMORIES[0]]) for found in alike.values())
    found = [f"{plan.name}: key points {'equal' if equal else 'DIFFER'}"]
    for kind, rows in times.items():
        upload, crop, whole = (median(column) * 1000 for column in zip(*rows, strict=True))
        found.append(f"{kind} upload {upload:.3f} ms, crop {crop:.3f}, whole {whole:.3f}")
    return Finding(equal, "; ".join(found), "equal to the bit")


def check_frame_on_gpu(work: Path, rounds: int = ROUNDS) -> Finding:
    """A frame that is on the GPU already, by the CUDA array interface and by DLPack, and key points that stay there: as
    from a frame of the CPU, and how long it takes."""
    from edgepose.cuda.memory import DeviceMemory, Stream, open_device  # pycuda

    plan = built_plan(work)
    image, boxes = make_frame(MAX_BATCH)
    device = open_device()
    with load_backend(plan) as backend:
        assert hasattr(backend, "keypoints_on_gpu")
        regions = Regions.around(boxes, backend.spec)
        with device.active():
            stream, memory = Stream(), DeviceMemory(image.nbytes)
            stream.upload(memory.address, image)
            stream.wait()
        on_gpu: Any = _OnGpu(image, memory.address)
        wanted, found = backend.keypoints(image, regions), backend.keypoints(on_gpu, regions)
        by_dlpack: Any = _ByDlpack(image, memory.address)
        shared = backend.keypoints(by_dlpack, regions)
        stays = backend.keypoints_on_gpu(on_gpu, regions)
        read = np.empty_like(wanted)
        backend.keypoints(image, regions)  # behind it on the same stream
        with device.active():
            stream.download(read, stays.address)
            stream.wait()
        equal = all(np.array_equal(wanted, other) for other in (found, shared, read))
        pictures: dict[str, Any] = {"the CPU": image, "the GPU": on_gpu}
        times: dict[str, list[float]] = {name: [] for name in pictures}
        for _ in range(rounds):
            for name, picture in pictures.items():
                times[name].append(_time(backend, picture, regions)[2])
        del stays
        with device.active():
            memory.free()
            del stream
    said = ", ".join(f"from {name} {median(each) * 1000:.3f} ms" for name, each in times.items())
    return Finding(equal, f"{plan.name}: key points {'equal' if equal else 'DIFFER'}; {said}", "equal to the bit")


class _OnGpu:
    """An image's copy on the GPU, as other libraries say it."""

    def __init__(self, image: np.ndarray, address: int) -> None:
        interface = {"shape": image.shape, "typestr": "|u1", "data": (address, False), "strides": None}
        self.__cuda_array_interface__ = {**interface, "stream": None, "version": 3}


class _ByDlpack:
    """The same by DLPack alone: numpy, which reads nothing of it, writes the capsule."""

    def __init__(self, image: np.ndarray, address: int) -> None:
        self._there = np.ctypeslib.as_array((ctypes.c_uint8 * image.nbytes).from_address(address)).reshape(image.shape)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA, the first GPU

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        return self._there.__dlpack__()


def check_several_frames(work: Path, rounds: int = ROUNDS) -> Finding:
    """Frames of several cameras in one run of the network, and each on its own, in turns."""
    plan = built_plan(work)
    image, boxes = make_frame(MAX_BATCH)
    images = [np.roll(image, 40 * camera, axis=1) for camera in range(CAMERAS)]
    with load_backend(plan) as backend:
        regions = [Regions.around(some, backend.spec) for some in np.array_split(boxes, CAMERAS)]

        def one_by_one() -> list[np.ndarray]:
            return [backend.keypoints(*each) for each in zip(images, regions, strict=True)]

        def in_one_run() -> list[np.ndarray]:
            return backend.keypoints_of(images, regions)

        ways = {"frame by frame": one_by_one, "in one run": in_one_run}
        apart, together = (np.concatenate(way()) for way in ways.values())
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                start = perf_counter()
                way()
                times[name].append(perf_counter() - start)
        steps = np.concatenate([each.px_per_step(backend.spec.heatmaps.size_hw) for each in regions])
    px = np.abs((together - apart)[..., :2] / steps[:, None]).max(axis=(1, 2))
    near = float(np.median(px))  # tactics differ between batches, and so may a doubtful peak
    said = ", ".join(f"{name} {median(each) * 1000:.3f} ms" for name, each in times.items())
    found = f"{plan.name}: {said}; key points {near:.3f} heat-map px apart in the median person, {px.max():.3f} at most"
    return Finding(near <= 1, found, "1 heat-map px in the median")


def _time(backend: Backend, image: Any, regions: Regions) -> tuple[float, float, float]:
    """Seconds of the upload, of the crop, and of all with the copy on the CPU."""
    start = perf_counter()
    with measured() as times:
        backend.keypoints(image, regions)
    return times.seconds["upload"], times.seconds["crop"], perf_counter() - start
