"""Frames through the GPU, on one stream: upload, crop, network, decode; only N*K*3 floats come back.

Two requests, each of one frame or of several, may be under way. What one alone has lies in its slot (slot.py). What
changes from frame to frame (pixels, their size, the factors) is put on the stream before the CUDA graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.cuda.arrays import GpuArray
from edgepose.cuda.graphs import recording
from edgepose.cuda.memory import Device, DeviceMemory
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions
from edgepose.stages.gpu_frame import GpuFrame
from edgepose.trt.launches import Stages
from edgepose.trt.slot import Slot

FRAMES_IN_FLIGHT = 2
STAGES = ("upload", "crop", "network", "decode", "download")
NETWORK_AND_DECODE = "network+decode"  # as one graph they cannot be told apart
StageSeconds = list[tuple[str, float]]  # by CUDA events


@dataclass(frozen=True)
class Request:
    """What is to be found: people in frames.

    Attributes:
        frames: one or more, of any sizes.
        regions: N, of all frames.
        frame_of: (N,) int32: which frame a region lies in.
        flip_test: average with the mirrored crops.
        decoder: of heat maps one of heads.heatmaps.DECODERS, in place of the spec's; None for the spec's.
        on_gpu: the key points stay there.
    """

    frames: Sequence[Frame | GpuFrame]
    regions: Regions
    frame_of: np.ndarray
    flip_test: bool
    decoder: str | None = None
    on_gpu: bool = False


@dataclass
class _Job:
    """A frame under way: where its key points go, which of them are on the way, and what is timed."""

    slot: Slot
    keypoints: np.ndarray | GpuArray
    waiting: slice
    stages: tuple[str, ...] = ()


class Pipeline:
    """The GPU's half of TensorRtBackend. The primary context is current around every call, `close` included.

    Args:
        path, passport: the plan's, already checked.
        trt: the TensorRT module.
        device: the GPU.
        kernels: compiled for it.
        use_graphs: replay CUDA graphs.
        frame_memory: one of frames.MEMORIES.

    Attributes:
        stages: what is launched.
    """

    def __init__(
        self,
        path: Path,
        passport: Passport,
        trt: Any,
        device: Device,
        kernels: bytes,
        *,
        use_graphs: bool,
        frame_memory: str,
    ) -> None:
        self._spec, self._device = passport.spec, device
        self._jobs: deque[_Job] = deque()
        with recording, ExitStack() as resources:
            self.stages = Stages(path, passport, trt, kernels, use_graphs=use_graphs)
            resources.callback(self.stages.close)
            self._slots = [
                Slot(passport.spec, self.stages.network.max_batch, len(STAGES) + 1, frame_memory, resources)
                for _ in range(FRAMES_IN_FLIGHT)
            ]
            self._resources = resources.pop_all()

    @property
    def in_flight(self) -> int:
        """Frames whose result has not been taken."""
        return len(self._jobs)

    def submit(self, request: Request) -> StageSeconds:
        """Put frames on the stream; their pixels and regions may change afterwards.

        Returns:
            The stages of those people who had to be waited for, because there are more than max_batch.

        Raises:
            ValueError: FRAMES_IN_FLIGHT requests are under way, or the network's maps cannot be read so.
            BackendError: TensorRT refused.
        """
        if len(self._jobs) == FRAMES_IN_FLIGHT:
            raise ValueError(f"{FRAMES_IN_FLIGHT} frames are under way: take a result() first")
        busy = [job.slot for job in self._jobs]
        slot = next(slot for slot in self._slots if slot not in busy)
        spec = self._read_with(request.decoder)
        people = len(request.regions)
        job = _Job(slot, self._room((people, spec.num_keypoints, 3), request.on_gpu), slice(0, 0))
        times: StageSeconds = []
        if people:
            slot.take(request.frames, request.frame_of, self.stages.stream)
        most = self.stages.network.max_batch
        for start in range(0, people, most):
            times += self._collect(job)
            job.waiting = slice(start, min(start + most, people))
            job.stages = self._enqueue(job, request, spec)
        self._jobs.append(job)
        return times

    def _read_with(self, decoder: str | None) -> ModelSpec:
        """The spec, with another decoder if one is named; ValueError where the outputs cannot be read with it."""
        if decoder is None:
            return self._spec
        of_maps = isinstance(self._spec.head, (Heatmaps, HeatmapsWithOffsets))
        spec = self._spec.changed(decoder=decoder) if of_maps else self._spec
        if not of_maps or type(spec.head) is not type(self._spec.head):
            raise ValueError(f"a network for {self._spec.decoder} cannot be decoded with {decoder}")
        return spec

    def _room(self, shape: tuple[int, int, int], on_gpu: bool) -> np.ndarray | GpuArray:
        if not on_gpu:
            return np.empty(shape, np.float32)
        memory = DeviceMemory(4 * prod(shape)) if shape[0] else None
        return GpuArray(shape, memory, self.stages.stream, self._device)

    def result(self) -> tuple[np.ndarray | GpuArray, StageSeconds]:
        """The oldest request's key points, (N, K, 3) float32, and its stages with their seconds.

        Those that stay on the GPU are not waited for, and have no stages.
        """
        if not self._jobs:
            raise ValueError("no frame is under way: submit() one first")
        job = self._jobs.popleft()
        if isinstance(job.keypoints, GpuArray):
            job.slot.waiting = job.slot.events[len(job.stages)] if job.stages else None
            return job.keypoints, []
        times = self._collect(job)
        job.slot.release()
        return job.keypoints, times

    def crops(self, frame: Frame | GpuFrame, regions: Regions) -> np.ndarray:
        """What the crop kernel makes of 1 to max_batch people, (N, 3, H, W) float32; no frame may be under way."""
        slot, stages = self._slots[0], self.stages
        inside = np.zeros(len(regions), np.int32)
        slot.take([frame], inside, stages.stream)
        slot.lend(stages.stream)
        slot.put_tables(stages.stream, stages.tables.address, regions, inside)
        stages.crop(len(regions), False)
        slot.take_back(stages.stream)
        return stages.read_crops(len(regions))

    def decode(self, outputs: Mapping[str, np.ndarray], regions: Regions) -> np.ndarray:
        """What the decoding kernel makes of the network's outputs: (N, K, 3); no frame may be under way."""
        self._slots[0].settle()
        self._slots[0].put_tables(self.stages.stream, self.stages.tables.address, regions)
        return self.stages.decode_given(outputs)

    def close(self) -> None:
        """Wait for what is under way, and free everything; on a lost device the waiting fails, and nothing is freed."""
        with recording:
            self.stages.stream.wait()
            self._resources.close()

    def _enqueue(self, job: _Job, request: Request, spec: ModelSpec) -> tuple[str, ...]:
        """Put up to max_batch people on the stream; the names of the stages between the slot's events."""
        stages, stream, slot, part = self.stages, self.stages.stream, job.slot, job.waiting
        count, flip_test = part.stop - part.start, request.flip_test
        events = iter(slot.events)
        stream.mark(next(events))
        if part.start == 0:
            slot.lend(stream)
        slot.put_tables(stream, stages.tables.address, request.regions.rows(part), request.frame_of[part])
        stream.mark(next(events))
        stages.crop(count, flip_test)
        if part.stop == len(request.regions):
            slot.take_back(stream)
        stream.mark(next(events))
        names: tuple[str, ...] = ("upload", "crop", NETWORK_AND_DECODE, "download")
        graph = stages.graph(count, flip_test, spec)
        if graph is not None:
            graph.launch(stream.handle)
        else:
            names = STAGES
            stages.run_network(count, flip_test)
            stream.mark(next(events))
            stages.decode(count, flip_test, spec)
        stream.mark(next(events))
        if isinstance(job.keypoints, GpuArray):
            row = 12 * spec.num_keypoints
            stream.copy(job.keypoints.address + part.start * row, stages.keypoints.address, count * row)
        else:
            stream.download(slot.keypoints(count), stages.keypoints.address)
        stream.mark(next(events))
        if graph is None and stages.use_graphs:
            stages.record(count, flip_test, spec)  # for the next time
        return names

    def _collect(self, job: _Job) -> StageSeconds:
        """Wait for the people on the way, and take their key points out of the slot."""
        if job.waiting.start == job.waiting.stop:
            return []
        events = job.slot.events[: len(job.stages) + 1]
        events[-1].synchronize()
        if isinstance(job.keypoints, np.ndarray):
            job.keypoints[job.waiting] = job.slot.keypoints(job.waiting.stop - job.waiting.start)
        job.waiting = slice(0, 0)
        return [
            (name, end.time_since(start) / 1000)
            for name, (start, end) in zip(job.stages, pairwise(events), strict=True)
        ]
