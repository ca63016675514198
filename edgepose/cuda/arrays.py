"""Arrays on the GPU for other libraries."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from edgepose.cuda.graphs import recording
from edgepose.cuda.memory import CudaError, Device, DeviceMemory, Stream


class GpuArray:
    """A float32 array on the GPU, for whoever reads `__cuda_array_interface__`: CuPy, PyTorch, numba.

    Its memory is its own and lasts as long as it does. The values are there when `stream` has come so far; libraries
    that know version 3 of the interface wait for that by themselves.

    Attributes:
        shape: of the array.
        address: of the first value.
        stream: handle of the CUDA stream that fills it.
    """

    def __init__(self, shape: tuple[int, ...], memory: DeviceMemory | None, stream: Stream, device: Device) -> None:
        self.shape = shape
        self.address = 0 if memory is None else memory.address
        self.stream = stream.handle
        self._memory, self._stream, self._device = memory, stream, device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": "<f4",
            "data": (self.address, False),
            "strides": None,
            "stream": self.stream,
            "version": 3,
        }

    def __len__(self) -> int:
        return self.shape[0]

    def __del__(self) -> None:
        if getattr(self, "_memory", None) is not None:
            with suppress(CudaError), recording, self._device.active():
                assert self._memory is not None
                self._memory.free()
                self._memory = None
