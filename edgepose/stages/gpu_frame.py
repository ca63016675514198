"""Pictures in the GPU's memory, as other libraries describe them. Nothing here touches a GPU.

Sources: the CUDA Array Interface, version 3 (numba's documentation), and DLPack's dlpack.h and Python specification.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepose.errors import FrameError
from edgepose.stages.frames import FORMATS, YUVS, Frame

UNORDERED = -1  # of DLPack: nobody waits for anybody, only the description is read
LEGACY_STREAM = 1  # CU_STREAM_LEGACY; what work was put on if nobody says otherwise
_CUDA_DEVICES = (2, 13)  # kDLCUDA, kDLCUDAManaged


@dataclass(frozen=True)
class Plane:
    """Rows of bytes on the GPU.

    Attributes:
        address: of the first.
        shape: rows, columns and, of packed colours, channels.
        pitch: bytes from a row to the next.
        stream: where the producer's work on it is, to be waited for; None: there is nothing to wait for.
        device: number of the GPU; None where the producer does not say.
        owner: keeps the memory.
    """

    address: int
    shape: tuple[int, ...]
    pitch: int
    stream: int | None
    device: int | None
    owner: Any

    @property
    def nbytes(self) -> int:
        """From the first byte to the last one of the picture."""
        return (self.shape[0] - 1) * self.pitch + int(np.prod(self.shape[1:]))


@dataclass(frozen=True, eq=False)
class GpuFrame:
    """A picture in the GPU's memory, for a plan. It is not copied: it must stay as it is until its result was taken.

    Attributes:
        pixels: uint8, with DLPack (PyTorch, CuPy, PyNvVideoCodec) or `__cuda_array_interface__` (those, jetson-utils'
            cudaImage, numba). "rgb" and "bgr": (H, W, 3). "nv12": (H + H / 2, W), or a pair of luma (H, W) and chroma
            (H / 2, W) or (H / 2, W / 2, 2); a third dimension of 1 does not matter. Rows may be pitched; a row
            itself lies in one piece.
        format, size_hw, yuv: as of a Frame.
        stream: handle of the CUDA stream that fills the picture; None: what the producer says by DLPack or the
            interface, and the default stream where it says nothing.

    Raises:
        FrameError: it is not on a GPU, or not of that format and size.
    """

    pixels: Any
    format: str = "rgb"
    size_hw: tuple[int, int] | None = None
    yuv: str = "bt601"
    stream: int | None = None
    hw: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise FrameError(f"a frame's format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if self.yuv not in YUVS:
            raise FrameError(f"a frame's yuv must be one of {', '.join(YUVS)}, got {self.yuv!r}")
        if self.stream is not None and not isinstance(self.stream, int):
            raise FrameError(
                f"a frame's stream must be the handle of a CUDA stream, an int (of PyTorch stream.cuda_stream, of CuPy "
                f"stream.ptr), got {type(self.stream)}"
            )
        if self.size_hw is not None and len(self.size_hw) != 2:
            raise FrameError(f"a frame's size_hw must be height and width, got {self.size_hw}")
        object.__setattr__(self, "hw", self._checked([plane.shape for plane in self.planes(UNORDERED)]))

    def planes(self, stream: int) -> list[Plane]:
        """One plane, or luma and chroma, ready for work on a stream of that handle where the producer sees to that."""
        pixels = self.pixels if isinstance(self.pixels, (tuple, list)) else [self.pixels]
        return [_read_plane(each, stream, self.stream) for each in pixels]

    def _checked(self, shapes: list[tuple[int, ...]]) -> tuple[int, int]:
        """Height and width, px."""
        if not shapes:
            raise FrameError("a frame on the GPU must have one plane or two, got none")
        first = shapes[0]
        if self.format != "nv12":
            fits = len(shapes) == 1 and len(first) == 3 and first[2] == 3 and self.size_hw in (None, first[:2])
            if not fits:
                raise FrameError(f"a {self.format} frame on the GPU must be (H, W, 3) and of its size_hw, got {shapes}")
            return first[0], first[1]
        both = len(shapes) == 2
        rows = first[0] if both else first[0] * 2 // 3
        height, width = self.size_hw or (rows, first[1])
        chroma_rows, even_width = (height + 1) // 2, width + width % 2
        fits = len(first) == 2 and len(shapes) < 3 and height > 0 and width > 0
        if both:
            columns = int(np.prod(shapes[1][1:]))
            fits &= first[0] >= height and first[1] >= width and shapes[1][0] >= chroma_rows and columns >= even_width
        else:
            fits &= first[0] == height + chroma_rows and first[1] >= even_width
        if not fits:
            raise FrameError(
                f"an NV12 frame on the GPU must be (H + H / 2, W), or a pair (H, W) and (H / 2, W), got {shapes} for "
                f"{height} x {width}"
            )
        return height, width


Picture = np.ndarray | Frame | GpuFrame


def as_frame(image: Any) -> Frame | GpuFrame:
    """An image as a frame: what lies on a GPU stays there.

    Raises:
        FrameError: it is no picture.
    """
    if isinstance(image, (Frame, GpuFrame)):
        return image
    if not isinstance(image, np.ndarray) and _on_gpu(image):
        return GpuFrame(image)
    return Frame(np.asarray(image))


def on_cpu(image: Picture) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image that a CPU can read; FrameError of one on the GPU."""
    frame = as_frame(image)
    if isinstance(frame, GpuFrame):
        raise FrameError("this frame lies on the GPU, where only a plan reads it: copy it to the CPU, or take a plan")
    return frame.to_rgb()


@contextmanager
def _asking(way: str) -> Iterator[None]:
    """Whatever a producer raises when it is asked for its memory (its owner was freed, say) is one line."""
    try:
        yield
    except FrameError:
        raise
    except Exception as error:  # of other people's code, in any of their types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FrameError(f"the frame's producer does not share it by {way}: {reason}") from error


def _on_gpu(image: Any) -> bool:
    if hasattr(image, "__dlpack_device__"):
        with _asking("DLPack"):
            return int(image.__dlpack_device__()[0]) in _CUDA_DEVICES
    with _asking("__cuda_array_interface__"):
        return hasattr(image, "__cuda_array_interface__")


def _read_plane(pixels: Any, stream: int, producer: int | None) -> Plane:
    if not _on_gpu(pixels):
        raise FrameError(f"a frame on the GPU must have DLPack or __cuda_array_interface__ there, got {type(pixels)}")
    if hasattr(pixels, "__dlpack__") and hasattr(pixels, "__dlpack_device__"):
        with _asking("DLPack"):
            plane = _by_dlpack(pixels, stream if producer is None else UNORDERED, producer)
    else:
        with _asking("__cuda_array_interface__"):
            plane = _by_interface(pixels.__cuda_array_interface__, pixels, producer)
    if plane.address == 0 or 0 in plane.shape:
        raise FrameError(f"a frame on the GPU has no memory (shape {plane.shape}, address 0): was it freed?")
    return plane


def _by_interface(interface: dict[str, Any], owner: Any, producer: int | None) -> Plane:
    kind = str(interface["typestr"])
    shape, strides = _without_one(tuple(int(size) for size in interface["shape"]), interface.get("strides"))
    stream = interface.get("stream") if interface.get("version", 0) >= 3 else LEGACY_STREAM
    if producer is not None:
        stream = producer
    if stream is not None and not isinstance(stream, int):
        raise FrameError(f"the stream of a frame on the GPU must be a handle, an int, got {type(stream)}")
    if interface.get("mask") is not None:
        raise FrameError("a frame on the GPU must not be masked")
    pitch = _pitch(shape, strides, kind.endswith("u1"), kind)
    return Plane(int(interface["data"][0] or 0), shape, pitch, stream, None, owner)


def _by_dlpack(pixels: Any, stream: int, producer: int | None) -> Plane:
    capsule = pixels.__dlpack__(stream=stream)
    get_pointer: Callable[..., int] = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]  # type: ignore[attr-defined]
    tensor = _DLTensor.from_address(get_pointer(capsule, b"dltensor"))
    shape = tuple(tensor.shape[index] for index in range(tensor.ndim))
    bits = (tensor.code, tensor.bits, tensor.lanes)
    # in elements, which are bytes here
    strides = tuple(tensor.strides[index] for index in range(tensor.ndim)) if tensor.strides else None
    shape, strides = _without_one(shape, strides)
    pitch = _pitch(shape, strides, bits == (1, 8, 1), f"DLPack type {bits}")
    address = (tensor.data or 0) + tensor.byte_offset
    # the capsule was not taken over: it gives the memory back when nobody holds it
    return Plane(address, shape, pitch, producer, tensor.device_id, (pixels, capsule))


def _without_one(shape: tuple[int, ...], strides: Any) -> tuple[tuple[int, ...], Any]:
    """(H, W, 1), as decoders give luma and NV12, is (H, W), whatever the stride of one is."""
    if len(shape) != 3 or shape[2] != 1:
        return shape, strides
    return shape[:2], None if strides is None else tuple(strides)[:2]


def _pitch(shape: tuple[int, ...], strides: Any, is_byte: bool, kind: str) -> int:
    """Bytes from row to row, of bytes that lie in one piece within a row."""
    if not is_byte:
        raise FrameError(f"a frame on the GPU must be uint8, got {kind}")
    if len(shape) not in (2, 3):
        raise FrameError(f"a frame on the GPU must have two or three dimensions, got {shape}")
    row = int(np.prod(shape[1:]))
    if strides is None:
        return row
    found = tuple(int(stride) for stride in strides)
    packed = (1,) if len(shape) == 2 else (shape[2], 1)
    if found[1:] != packed or (found[0] < row and shape[0] > 1):
        raise FrameError(f"the rows of a frame on the GPU must lie in one piece each, got strides {found} for {shape}")
    return max(found[0], row)


class _DLTensor(ctypes.Structure):
    """DLTensor, with which a DLManagedTensor begins."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )
