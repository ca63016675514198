"""Frames through the GPU, on one stream: upload, crop, network, decode; only N*K*3 floats come back.

Two frames may be under way. What a frame alone has (its pixels, its tables, the results) lies in its slot.
What changes from frame to frame (pixels, their size, the factors) is put on the stream before the CUDA graph.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.cuda.frame_memory import FrameMemory
from edgepose.cuda.graphs import recording
from edgepose.cuda.launch import Tables, placed
from edgepose.cuda.memory import HostMemory, make_events
from edgepose.model.heads.heatmaps import HeatmapsWithOffsets
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions
from edgepose.trt.launches import Stages

FRAMES_IN_FLIGHT = 2
STAGES = ("upload", "crop", "network", "decode", "download")
NETWORK_AND_DECODE = "network+decode"  # as one graph they cannot be told apart
StageSeconds = list[tuple[str, float]]  # by CUDA events


@dataclass(eq=False)
class _Slot:
    """What one frame under way has of its own: memory, and an event after each stage."""

    frame: FrameMemory | None
    tables: HostMemory
    keypoints: HostMemory
    events: list[Any]

    def free_frame(self) -> None:
        if self.frame is not None:
            self.frame.free()
        self.frame = None


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
        kernels: compiled for the GPU.
        use_graphs: replay CUDA graphs.
        frame_memory: one of frames.MEMORIES.

    Attributes:
        stages: what is launched.
    """

    def __init__(
        self, path: Path, passport: Passport, trt: Any, kernels: bytes, *, use_graphs: bool, frame_memory: str
    ) -> None:
        self._spec, self._frame_memory = passport.spec, frame_memory
        self._jobs: deque[_Job] = deque()
        with recording, ExitStack() as resources:
            self.stages = Stages(path, passport, trt, kernels, use_graphs=use_graphs)
            resources.callback(self.stages.close)
            self._slots = [self._make_slot(resources) for _ in range(FRAMES_IN_FLIGHT)]
            self._resources = resources.pop_all()

    def _make_slot(self, resources: ExitStack) -> _Slot:
        most = self.stages.network.max_batch

        def pinned(nbytes: int) -> HostMemory:
            memory = HostMemory(nbytes)
            resources.callback(memory.free)
            return memory

        tables, keypoints = pinned(Tables(most, most).nbytes), pinned(most * self._spec.num_keypoints * 12)
        slot = _Slot(None, tables, keypoints, make_events(len(STAGES) + 1))
        resources.callback(slot.free_frame)
        return slot

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
        spec = self._spec.changed(decoder=decoder)
        if isinstance(spec.head, HeatmapsWithOffsets) != isinstance(self._spec.head, HeatmapsWithOffsets):
            raise ValueError(f"a network for {self._spec.heatmaps.decoder} cannot be decoded with {decoder}")
        keypoints = np.empty((len(regions), spec.num_keypoints, 3), np.float32)
        job = _Job(slot, keypoints, slice(0, 0))
        times: StageSeconds = []
        if len(regions):
            self._copy_frame(slot, frame)
        most = self.stages.network.max_batch
        for start in range(0, len(regions), most):
            times += self._collect(job)
            part = slice(start, min(start + most, len(regions)))
            some = replace(regions, center_xy=regions.center_xy[part], size_wh=regions.size_wh[part])
            job.waiting = part
            job.stages = self._enqueue(
                slot, frame, some, spec, flip_test, first=start == 0, last=part.stop == len(regions)
            )
        self._jobs.append(job)
        return times

    def result(self) -> tuple[np.ndarray, StageSeconds]:
        """The oldest frame's key points, (N, K, 3) float32, and its stages with their seconds."""
        if not self._jobs:
            raise ValueError("no frame is under way: submit() one first")
        job = self._jobs.popleft()
        times = self._collect(job)
        return job.keypoints, times

    def crops(self, frame: Frame, regions: Regions) -> np.ndarray:
        """What the crop kernel makes of 1 to max_batch people, (N, 3, H, W) float32; no frame may be under way."""
        slot, stages = self._slots[0], self.stages
        self._copy_frame(slot, frame)
        assert slot.frame is not None
        slot.frame.lend(stages.stream, frame.pixels.nbytes)
        self._put_tables(slot, regions, frame)
        stages.crop(len(regions), False)
        slot.frame.take_back(stages.stream)
        return stages.read_crops(len(regions))

    def decode(self, heatmaps: np.ndarray, regions: Regions) -> np.ndarray:
        """What the decoding kernel makes of (N, C, h, w) heat maps: (N, K, 3); no frame may be under way."""
        self._put_tables(self._slots[0], regions)
        return self.stages.decode_given(heatmaps)

    def close(self) -> None:
        """Wait for what is under way, and free everything; on a lost device the waiting fails, and nothing is freed."""
        with recording:
            self.stages.stream.wait()
            self._resources.close()

    def _copy_frame(self, slot: _Slot, frame: Frame) -> None:
        """Into the slot's memory, which grows when a larger frame than any before comes."""
        nbytes = frame.pixels.nbytes
        if slot.frame is not None and slot.frame.lent:
            self.stages.stream.wait()  # a call was interrupted
        if slot.frame is None or slot.frame.array.nbytes < nbytes:
            with recording:  # freeing may wait for the whole context
                if slot.frame is not None:
                    self.stages.stream.wait()  # what an interrupted call left on the stream may read it
                    slot.free_frame()
                slot.frame = FrameMemory(self._frame_memory, nbytes)
        assert slot.frame is not None
        np.copyto(slot.frame.array[:nbytes].reshape(frame.pixels.shape), frame.pixels)

    def _enqueue(
        self,
        slot: _Slot,
        frame: Frame,
        regions: Regions,
        spec: ModelSpec,
        flip_test: bool,
        *,
        first: bool,
        last: bool,
    ) -> tuple[str, ...]:
        """Put up to max_batch people on the stream; the names of the stages between the slot's events.

        Args:
            first, last: of the frame's people.
        """
        stages, stream, count = self.stages, self.stages.stream, len(regions)
        assert slot.frame is not None
        events = iter(slot.events)
        stream.mark(next(events))
        if first:
            slot.frame.lend(stream, frame.pixels.nbytes)
        self._put_tables(slot, regions, frame)
        stream.mark(next(events))
        stages.crop(count, flip_test)
        if last:
            slot.frame.take_back(stream)
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
        found = slot.keypoints.array.view(np.float32)[: count * spec.num_keypoints * 3]
        stream.download(found, stages.keypoints.address)
        stream.mark(next(events))
        if graph is None and stages.use_graphs:
            stages.record(count, flip_test, spec)  # for the next time
        return names

    def _put_tables(self, slot: _Slot, regions: Regions, frame: Frame | None = None) -> None:
        frames = [] if frame is None or slot.frame is None else [placed(frame, slot.frame.address)]
        tables, frame_of = Tables(len(regions), len(frames)), np.zeros(len(regions), np.int32)
        filled = tables.fill(slot.tables.array, regions, self._spec, frame_of, frames)
        self.stages.stream.upload(self.stages.tables.address, filled)

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
