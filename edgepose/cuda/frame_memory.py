"""Where a frame lies on its way from the CPU to the GPU, of three kinds to choose from and to measure."""

from __future__ import annotations

import numpy as np

from edgepose.cuda.memory import DeviceMemory, HostMemory, ManagedMemory, Stream


class FrameMemory:
    """Room for frames: the CPU writes them into `array`, and the GPU reads them at `address`.

    Args:
        kind: one of frames.MEMORIES. "copied": pinned memory, copied into the GPU's own. "mapped": the GPU reads
            the pinned memory itself, without a copy, and on a Jetson without its cache. "managed": memory that both
            can cache.
        nbytes: how many. All that they need is taken, or nothing.

    Attributes:
        lent: whether the GPU may be reading it.
    """

    def __init__(self, kind: str, nbytes: int) -> None:
        self.lent = False
        self._on_gpu = DeviceMemory(nbytes) if kind == "copied" else None
        self._host = ManagedMemory(nbytes) if kind == "managed" else HostMemory(nbytes, mapped=kind == "mapped")
        self.array: np.ndarray = self._host.array
        self.address: int = (self._on_gpu or self._host).address

    def lend(self, stream: Stream, nbytes: int) -> None:
        """Let the work that comes behind on the stream read the first bytes."""
        self.lent = True
        if self._on_gpu is not None:
            stream.upload(self._on_gpu.address, self.array[:nbytes])
        elif isinstance(self._host, ManagedMemory):
            stream.lend(self._host)

    def take_back(self, stream: Stream) -> None:
        """Give them back to the CPU when what is on the stream before is done."""
        self.lent = False
        if isinstance(self._host, ManagedMemory):
            stream.take_back(self._host)

    def free(self) -> None:
        """Give the memory back; a second call does nothing."""
        self.array = np.empty(0, np.uint8)
        for memory in (self._host, self._on_gpu):
            if memory is not None:
                memory.free()
