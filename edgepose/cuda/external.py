"""The GPU's memory and streams of other libraries. pycuda knows none, so these are six driver calls.

Driver calls and constants: CUDA Driver API reference, "Unified Addressing", "Event Management", "Stream Management".
"""

from __future__ import annotations

import ctypes
from typing import Any

from edgepose.cuda import graphs
from edgepose.cuda.launch import PlacedFrame
from edgepose.cuda.memory import CudaError
from edgepose.errors import FrameError
from edgepose.stages.gpu_frame import GpuFrame, Plane

_DEVICE_ORDINAL, _RANGE_START, _RANGE_SIZE = 9, 11, 12  # CU_POINTER_ATTRIBUTE_*
_DISABLE_TIMING = 2  # CU_EVENT_DISABLE_TIMING
_GONE = (201, 400, 709)  # CUDA_ERROR_INVALID_CONTEXT, _INVALID_HANDLE, _CONTEXT_IS_DESTROYED
LARGEST_FRAME = 1 << 31  # bytes; crop.cu counts them in 32 bits


def open_frame(frame: GpuFrame, stream: int) -> tuple[PlacedFrame, list[Any]]:
    """A frame where the GPU reads it, and what must be kept as long as it does.

    Work that is put on the stream from here on waits for the producer's.

    Raises:
        FrameError: its memory is freed, on another GPU, or smaller than it says; or its producer's stream is gone.
    """
    planes = frame.planes(stream)
    for plane in planes:
        _check_memory(plane)
        if plane.stream is not None and plane.stream != stream:
            _wait_for(plane.stream, stream)
    first = planes[0]
    chroma, pitch = first.address + frame.hw[0] * first.pitch, first.pitch
    if len(planes) == 2:
        chroma, pitch = planes[1].address, planes[1].pitch
    placed = PlacedFrame(first.address, first.pitch, frame.hw, frame.format, frame.yuv, chroma, pitch)
    return placed, [plane.owner for plane in planes]


def _check_memory(plane: Plane) -> None:
    if plane.nbytes >= LARGEST_FRAME:
        raise FrameError(f"a frame on the GPU must have fewer than 2^31 bytes, got {plane.nbytes}")
    device = ctypes.c_int()
    if not _attribute(_DEVICE_ORDINAL, plane.address, device):
        raise FrameError(f"the frame's memory at {plane.address:#x} is none of CUDA's: was it freed?")
    number = device.value if plane.device is None else plane.device
    if number != 0:
        raise FrameError(f"the frame lies on GPU {number}, edgepose works on GPU 0: copy it there")
    start, size = ctypes.c_uint64(), ctypes.c_size_t()
    known = _attribute(_RANGE_START, plane.address, start) and _attribute(_RANGE_SIZE, plane.address, size)
    if known and plane.address + plane.nbytes > start.value + size.value:
        raise FrameError(
            f"the frame's {plane.nbytes} bytes reach beyond its memory, which has "
            f"{start.value + size.value - plane.address} more: are its size and pitch right?"
        )


def _attribute(number: int, address: int, value: Any) -> bool:
    """Ask about an address; False where CUDA does not know it."""
    status: int = graphs.load_driver().cuPointerGetAttribute(ctypes.byref(value), number, ctypes.c_uint64(address))
    if status not in (0, 1):  # CUDA_ERROR_INVALID_VALUE
        raise CudaError(f"cuPointerGetAttribute gave CUDA error {status}")
    return status == 0


def _wait_for(producer: int, stream: int) -> None:
    """Let a stream wait for what another one has on it by now."""
    cuda, event = graphs.load_driver(), ctypes.c_void_p()
    if (status := cuda.cuEventCreate(ctypes.byref(event), _DISABLE_TIMING)) != 0:
        raise CudaError(f"cuEventCreate gave CUDA error {status}")
    try:
        status = cuda.cuEventRecord(event, ctypes.c_void_p(producer))
        if status in _GONE:
            raise FrameError(f"the stream {producer:#x}, which the frame's producer names, is gone")
        if status == 0:
            status = cuda.cuStreamWaitEvent(ctypes.c_void_p(stream), event, 0)
        if status != 0:
            raise CudaError(f"waiting for the frame's producer gave CUDA error {status}")
    finally:
        cuda.cuEventDestroy_v2(event)  # what waits for it still does
