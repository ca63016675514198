"""Frames through the GPU, on one stream: upload, crop, network, decode; only N*K*3 floats come back.

Two frames may be under way. What a frame alone has (its pixels, the regions' factors, the results) lies in its slot,
pinned; crops and heat maps are shared, since the stream keeps frames apart. Network and decoding, which are the same
launches with the same addresses for each frame of so many people, are one CUDA graph; what changes from frame to
frame (pixels, their size, the factors) is put on the stream before it.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends.frames import FORMATS, Frame
from edgepose.backends.network import Network
from edgepose.cuda.graphs import Graph, GraphError, recording
from edgepose.cuda.kernels import (
    blur_weights,
    crop_grid,
    decode_arguments,
    decode_grid,
    normalise_factors,
    to_image_factors,
)
from edgepose.cuda.memory import Device, DeviceMemory, HostMemory, Kernel, Stream, load_module, make_events
from edgepose.geometry import Regions
from edgepose.passport import ModelSpec, Passport

FRAMES_IN_FLIGHT = 2
STAGES = ("upload", "crop", "network", "decode", "download")
NETWORK_AND_DECODE = "network+decode"  # as one graph they cannot be told apart
_FLOAT4 = 16  # bytes of a region's factors
StageSeconds = list[tuple[str, float]]  # by CUDA events
_ALIGNMENT = 256  # bytes; TensorRT's of a tensor

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Slot:
    """What one frame under way has of its own: pinned memory, and an event after each stage."""

    frame: HostMemory | None
    frame_copy: DeviceMemory | None  # none where the GPU reads the pinned one
    factors: HostMemory
    keypoints: HostMemory
    events: list[Any]


@dataclass
class _Job:
    """A frame under way: where its key points go, which of them are on the way, and what is timed."""

    slot: _Slot
    keypoints: np.ndarray
    waiting: slice
    stages: tuple[str, ...] = ()


class Pipeline:
    """The GPU's half of TensorRtBackend. The primary context is current around every call, `close` included.

    Args:
        path, passport: the plan's, already checked.
        trt: the TensorRT module.
        device: the GPU.
        kernels: compiled for it.
        use_graphs: replay CUDA graphs; may be changed between calls.

    Attributes:
        network: the engine.
    """

    def __init__(
        self, path: Path, passport: Passport, trt: Any, device: Device, kernels: bytes, *, use_graphs: bool
    ) -> None:
        self.use_graphs = use_graphs
        self._path, self._spec, self._mapped = path, passport.spec, device.gpu.integrated
        self._graphs: dict[tuple[int, bool, str], Graph] = {}
        self._weights: dict[str, DeviceMemory] = {}
        self._jobs: deque[_Job] = deque()
        with recording, ExitStack() as resources:
            self._stream = Stream()  # first: on a lost device it fails with the device's error, a plan with its own
            self.network = Network(path, passport, trt)
            resources.callback(self.network.close)
            self._load(resources, kernels)
            resources.callback(self._close_graphs)
            self._resources = resources.pop_all()

    def _load(self, resources: ExitStack, kernels: bytes) -> None:
        spec, network = self._spec, self.network
        most, points = network.max_batch, spec.num_keypoints
        decode_grid(spec, most)  # says so where the kernel cannot take such heat maps
        module = load_module(kernels)
        self._crop = Kernel(module, f"crop_{_letters(network.crops_dtype)}", "PiiiiPPiPPii")
        self._decode = Kernel(module, f"decode_{_letters(network.heatmaps_dtype)}", "PPPPPPiiiiiiif")

        def allocate(nbytes: int) -> DeviceMemory:
            memory = DeviceMemory(nbytes)
            resources.callback(memory.free)
            return memory

        def pinned(nbytes: int) -> HostMemory:
            memory = HostMemory(nbytes)
            resources.callback(memory.free)
            return memory

        self._crop_bytes = 3 * spec.input_hw[0] * spec.input_hw[1] * network.crops_dtype.itemsize
        self._maps_bytes = spec.output_channels * spec.heatmap_hw[0] * spec.heatmap_hw[1]
        self._maps_bytes *= network.heatmaps_dtype.itemsize
        # twice: a batch, and one of mirrored crops where both do not fit into one
        self._crops = allocate(2 * _aligned(most * self._crop_bytes))
        self._heatmaps = allocate(2 * _aligned(most * self._maps_bytes))
        self._factors = allocate(2 * most * _FLOAT4)  # of the crops, then of the heat maps
        self._keypoints = allocate(most * points * 12)
        self._normalise = self._constant(resources, normalise_factors(spec))
        self._flip_order = self._constant(resources, np.array(spec.skeleton.flip_order, np.int32))
        self._weights[spec.decoder] = self._constant(resources, blur_weights(spec))
        self._slots = [
            _Slot(None, None, pinned(2 * most * _FLOAT4), pinned(most * points * 12), make_events(len(STAGES) + 1))
            for _ in range(FRAMES_IN_FLIGHT)
        ]
        resources.callback(self._free_frames)

    @property
    def in_flight(self) -> int:
        """Frames whose result has not been taken."""
        return len(self._jobs)

    def submit(self, frame: Frame, regions: Regions, flip_test: bool, decoder: str) -> StageSeconds:
        """Put a frame on the stream; its pixels and regions may change afterwards.

        Returns:
            The stages of those people who had to be waited for, because there are more than max_batch.

        Raises:
            ValueError: FRAMES_IN_FLIGHT frames are under way, or the network's maps cannot be read so.
            BackendError: TensorRT refused.
        """
        if len(self._jobs) == FRAMES_IN_FLIGHT:
            raise ValueError(f"{FRAMES_IN_FLIGHT} frames are under way: take a result() first")
        busy = [job.slot for job in self._jobs]
        slot = next(slot for slot in self._slots if slot not in busy)
        spec = replace(self._spec, decoder=decoder)
        if spec.has_offsets != self._spec.has_offsets:
            raise ValueError(f"a network for {self._spec.decoder} cannot be decoded with {decoder}")
        keypoints = np.empty((len(regions), spec.num_keypoints, 3), np.float32)
        job = _Job(slot, keypoints, slice(0, 0))
        times: StageSeconds = []
        if len(regions):
            self._copy_frame(slot, frame)
        for start in range(0, len(regions), self.network.max_batch):
            times += self._collect(job)
            part = slice(start, min(start + self.network.max_batch, len(regions)))
            some = replace(regions, center_xy=regions.center_xy[part], size_wh=regions.size_wh[part])
            job.waiting = part
            job.stages = self._enqueue(slot, frame, some, spec, flip_test, upload_frame=start == 0)
        self._jobs.append(job)
        return times

    def result(self) -> tuple[np.ndarray, StageSeconds]:
        """The oldest frame's key points, (N, K, 3) float32, and its stages with their seconds."""
        if not self._jobs:
            raise ValueError("no frame is under way: submit() one first")
        job = self._jobs.popleft()
        times = self._collect(job)
        return job.keypoints, times

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) float32 crops -> (N, C, h, w) float32 heat maps."""
        network, spec = self.network, self._spec
        heatmaps = np.empty((len(crops), spec.output_channels, *spec.heatmap_hw), network.heatmaps_dtype)
        for start in range(0, len(crops), network.max_batch):
            part = np.ascontiguousarray(crops[start : start + network.max_batch], network.crops_dtype)
            self._stream.upload(self._crops.address, part)
            network.run(len(part), self._crops.address, self._heatmaps.address, self._stream.handle)
            self._stream.download(heatmaps[start : start + len(part)], self._heatmaps.address)
            self._stream.wait()
        return heatmaps.astype(np.float32, copy=False)

    def close(self) -> None:
        """Wait for what is under way, and free everything; on a lost device the waiting fails, and nothing is freed."""
        with recording:
            self._stream.wait()
            self._resources.close()

    def _copy_frame(self, slot: _Slot, frame: Frame) -> None:
        """Into the slot's pinned memory, which grows when a larger frame than any before comes."""
        nbytes = frame.pixels.nbytes
        if slot.frame is None or slot.frame.array.nbytes < nbytes:
            if slot.frame is not None:
                self._stream.wait()  # what an interrupted call left on the stream may read it
                _free_frame(slot)
            frame_copy = None if self._mapped else DeviceMemory(nbytes)
            slot.frame, slot.frame_copy = HostMemory(nbytes, mapped=self._mapped), frame_copy
        np.copyto(slot.frame.array[:nbytes].reshape(frame.pixels.shape), frame.pixels)

    def _enqueue(
        self, slot: _Slot, frame: Frame, regions: Regions, spec: ModelSpec, flip_test: bool, *, upload_frame: bool
    ) -> tuple[str, ...]:
        """Put up to max_batch people on the stream; the names of the stages between the slot's events."""
        stream, count = self._stream, len(regions)
        assert slot.frame is not None
        factors = slot.factors.array.view(np.float32).reshape(-1, 4)
        factors[:count] = to_image_factors(regions, spec.input_hw)
        factors[count : 2 * count] = to_image_factors(regions, spec.heatmap_hw)
        events = iter(slot.events)
        stream.mark(next(events))
        if upload_frame and slot.frame_copy is not None:
            stream.upload(slot.frame_copy.address, slot.frame.array[: frame.pixels.nbytes])
        stream.upload(self._factors.address, factors[: 2 * count])
        stream.mark(next(events))
        self._launch_crop(slot, frame, count, flip_test)
        stream.mark(next(events))
        stages: tuple[str, ...] = ("upload", "crop", NETWORK_AND_DECODE, "download")
        graph = self._graphs.get((count, flip_test, spec.decoder)) if self.use_graphs else None
        if graph is not None:
            graph.launch(stream.handle)
        else:
            stages = STAGES
            self._run_network(count, flip_test)
            stream.mark(next(events))
            self._launch_decode(count, flip_test, spec)
        stream.mark(next(events))
        found = slot.keypoints.array.view(np.float32)[: count * spec.num_keypoints * 3]
        stream.download(found, self._keypoints.address)
        stream.mark(next(events))
        if graph is None and self.use_graphs:
            self._record(count, flip_test, spec)  # for the next time: TensorRT allocates in a first run
        return stages

    def _record(self, count: int, flip_test: bool, spec: ModelSpec) -> None:
        def work() -> None:
            self._run_network(count, flip_test)
            self._launch_decode(count, flip_test, spec)

        try:
            self._graphs[count, flip_test, spec.decoder] = Graph(self._stream.handle, work)
        except GraphError as error:
            self.use_graphs = False
            logger.warning("%s runs without CUDA graphs, launch by launch: %s", self._path, error)

    def _second(self, count: int) -> tuple[int, int]:
        """Byte offsets of the mirrored crops and of their heat maps: behind the others if a batch holds both."""
        if 2 * count <= self.network.max_batch:
            return count * self._crop_bytes, count * self._maps_bytes
        most = self.network.max_batch
        return _aligned(most * self._crop_bytes), _aligned(most * self._maps_bytes)

    def _launch_crop(self, slot: _Slot, frame: Frame, count: int, flip_test: bool) -> None:
        pixels = slot.frame_copy or slot.frame
        assert pixels is not None
        block, grid = crop_grid(self._spec, count)
        self._stream.launch(
            self._crop,
            block,
            grid,
            0,
            pixels.address,
            frame.pixels.shape[1] * (1 if frame.format == "nv12" else 3),
            *frame.hw,
            FORMATS.index(frame.format),
            self._factors.address,
            self._normalise.address,
            int(self._spec.color_order == "bgr"),
            self._crops.address,
            self._crops.address + self._second(count)[0] if flip_test else 0,
            *self._spec.input_hw,
        )

    def _run_network(self, count: int, flip_test: bool) -> None:
        crops, heatmaps = self._crops.address, self._heatmaps.address
        one_run = flip_test and 2 * count <= self.network.max_batch
        self.network.run(2 * count if one_run else count, crops, heatmaps, self._stream.handle)
        if flip_test and not one_run:
            second = self._second(count)
            self.network.run(count, crops + second[0], heatmaps + second[1], self._stream.handle)

    def _launch_decode(self, count: int, flip_test: bool, spec: ModelSpec) -> None:
        block, grid, shared = decode_grid(spec, count)
        self._stream.launch(
            self._decode,
            block,
            grid,
            shared,
            self._heatmaps.address,
            self._heatmaps.address + self._second(count)[1] if flip_test else 0,
            self._flip_order.address,
            self._weights_of(spec).address,
            self._factors.address + count * _FLOAT4,
            self._keypoints.address,
            spec.num_keypoints,
            *spec.heatmap_hw,
            *decode_arguments(spec),
        )

    def _weights_of(self, spec: ModelSpec) -> DeviceMemory:
        if spec.decoder not in self._weights:
            self._weights[spec.decoder] = self._constant(self._resources, blur_weights(spec))
        return self._weights[spec.decoder]

    def _constant(self, resources: ExitStack, values: np.ndarray) -> DeviceMemory:
        """A copy on the GPU."""
        memory = DeviceMemory(values.nbytes)
        resources.callback(memory.free)
        self._stream.upload(memory.address, values)
        self._stream.wait()  # not every driver has read pageable memory when the call returns
        return memory

    def _collect(self, job: _Job) -> StageSeconds:
        """Wait for the people on the way, and take their key points out of the slot."""
        if job.waiting.start == job.waiting.stop:
            return []
        events = job.slot.events[: len(job.stages) + 1]
        events[-1].synchronize()
        part = job.keypoints[job.waiting]
        part[...] = job.slot.keypoints.array.view(np.float32)[: part.size].reshape(part.shape)
        job.waiting = slice(0, 0)
        return [
            (name, end.time_since(start) / 1000)
            for name, (start, end) in zip(job.stages, pairwise(events), strict=True)
        ]

    def _close_graphs(self) -> None:
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()

    def _free_frames(self) -> None:
        for slot in self._slots:
            _free_frame(slot)


def _free_frame(slot: _Slot) -> None:
    for memory in (slot.frame, slot.frame_copy):
        if memory is not None:
            memory.free()
    slot.frame = slot.frame_copy = None


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _letters(dtype: np.dtype[Any]) -> str:
    return "f16" if dtype == np.float16 else "f32"
