"""What one run of frames under way has of its own: their pixels, tables, results, and an event after each stage."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from edgepose.cuda.external import open_frame
from edgepose.cuda.frame_memory import FrameMemory
from edgepose.cuda.graphs import recording
from edgepose.cuda.launch import PlacedFrame, Tables, placed
from edgepose.cuda.memory import HostMemory, Stream, make_events
from edgepose.model.spec import ModelSpec
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions
from edgepose.stages.gpu_frame import GpuFrame

_ALIGNMENT = 256  # bytes, of a frame among others


class Slot:
    """Memory for a run of up to `most` people, pinned; that of frames grows to the largest that came.

    Args:
        spec: of the network.
        most: people at a time.
        events: how many.
        frame_memory: one of frames.MEMORIES.
        resources: frees it.
    """

    def __init__(self, spec: ModelSpec, most: int, events: int, frame_memory: str, resources: ExitStack) -> None:
        self._spec, self._kind = spec, frame_memory
        self._memory: FrameMemory | None = None
        self._nbytes = 0
        self._placed: dict[int, PlacedFrame] = {}  # by the frame's number
        self._owners: list[Any] = []  # of frames that were on the GPU
        self.waiting: Any = None  # for this event: nobody has waited for the slot's last work
        resources.callback(self._free_frames)
        self._tables = HostMemory(Tables(most, most).nbytes)
        resources.callback(self._tables.free)
        self._keypoints = HostMemory(most * spec.num_keypoints * 12)
        resources.callback(self._keypoints.free)
        self.events = make_events(events)

    def keypoints(self, count: int) -> np.ndarray:
        """Room for what is found of so many people, (count, K, 3) float32."""
        points = self._spec.num_keypoints
        return self._keypoints.array.view(np.float32)[: count * points * 3].reshape(count, points, 3)

    def take(self, frames: Sequence[Frame | GpuFrame], frame_of: np.ndarray, stream: Stream) -> None:
        """Copy those frames that somebody is in; they may change afterwards. Frames on the GPU stay where they are.

        Args:
            frame_of: (N,) int: which of the frames each person is in.
            stream: where they will be read. What an interrupted call left on it is waited for.

        Raises:
            FrameError: a frame on the GPU cannot be read there.
        """
        self.settle()
        numbers = [int(number) for number in np.unique(frame_of)]
        copied: dict[int, Frame] = {}
        for number in numbers:
            frame = frames[number]
            if isinstance(frame, GpuFrame):
                self._placed[number], owners = open_frame(frame, stream.handle)
                self._owners += owners
            else:
                copied[number] = frame
        if copied:
            self._copy(copied, stream)

    def _copy(self, frames: dict[int, Frame], stream: Stream) -> None:
        sizes = [-(-frame.pixels.nbytes // _ALIGNMENT) * _ALIGNMENT for frame in frames.values()]
        self._nbytes = sum(sizes)
        if self._memory is not None and self._memory.lent:
            stream.wait()
        if self._memory is None or self._memory.array.nbytes < self._nbytes:
            with recording:  # freeing may wait for the whole context
                if self._memory is not None:
                    stream.wait()
                    self._free_frames()
                self._memory = FrameMemory(self._kind, self._nbytes)
        start = 0
        for (number, frame), size in zip(frames.items(), sizes, strict=True):
            room = self._memory.array[start : start + frame.pixels.nbytes]
            np.copyto(room.reshape(frame.pixels.shape), frame.pixels)
            self._placed[number] = placed(frame, self._memory.address + start)
            start += size

    def settle(self) -> None:
        """Wait for the slot's last work, if nobody has; its memory may be written then."""
        if self.waiting is not None:
            self.waiting.synchronize()
        self.release()

    def release(self) -> None:
        """Let the frames go that lie on the GPU: they have been read."""
        self._placed, self._owners, self.waiting, self._nbytes = {}, [], None, 0

    def lend(self, stream: Stream) -> None:
        """Let the work that comes behind on the stream read the frames."""
        if self._memory is not None and self._nbytes:
            self._memory.lend(stream, self._nbytes)

    def take_back(self, stream: Stream) -> None:
        """Give the frames' memory back to the CPU when what is on the stream before is done."""
        if self._memory is not None and self._nbytes:
            self._memory.take_back(stream)

    def put_tables(self, stream: Stream, address: int, regions: Regions, frame_of: np.ndarray | None = None) -> None:
        """Copy the tables of some people to the GPU, those of their frames as well if frame_of is given."""
        used, numbers = np.unique([] if frame_of is None else frame_of, return_inverse=True)
        numbers = numbers if len(numbers) else np.zeros(len(regions), np.int32)
        tables = Tables(len(regions), len(used))
        frames = [self._placed[int(number)] for number in used]
        stream.upload(address, tables.fill(self._tables.array, regions, self._spec, numbers, frames))

    def _free_frames(self) -> None:
        if self._memory is not None:
            self._memory.free()
        self._memory = None
