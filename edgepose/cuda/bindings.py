"""What edgepose uses of pycuda.driver, on NVIDIA's cuda-bindings: wheels, where pycuda is compiled for minutes.

Names, arguments and errors are pycuda's, so that memory.py works with either. What is freed here is freed in the
primary context, whichever is current; what cannot be, as the interpreter ends say, is left to the process's end.

Driver calls: CUDA Driver API reference. Of each call cuda-bindings returns a tuple, the status first.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
from cuda.bindings import driver

host_alloc_flags = SimpleNamespace(DEVICEMAP=2)  # CU_MEMHOSTALLOC_DEVICEMAP
mem_attach_flags = SimpleNamespace(HOST=2, SINGLE=4)  # CU_MEM_ATTACH_*
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
_C_TYPES: dict[str, Any] = {"P": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float}
_primary: list[Any] = []  # the context, once it is retained


class Error(Exception):
    """A driver call failed."""


class MemoryError(Error):
    """There is too little memory."""


def get_version() -> tuple[int, int, int]:
    """Of CUDA, which these bindings are for."""
    return driver.CUDA_VERSION // 1000, driver.CUDA_VERSION % 1000 // 10, 0


def init() -> None:
    """Before all else."""
    _call("cuInit", 0)


class Device:
    """A GPU by its number."""

    def __init__(self, ordinal: int) -> None:
        self._device = _call("cuDeviceGet", ordinal)

    def retain_primary_context(self) -> Context:
        """The context that TensorRT uses too; it is never released."""
        context = Context(_call("cuDevicePrimaryCtxRetain", self._device))
        _primary[:] = [context]
        return context


class Context:
    """A context. It is current from `push` to `pop`."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def push(self) -> None:
        """Make it this thread's current one."""
        _call("cuCtxPushCurrent", self._handle)

    @staticmethod
    def pop() -> None:
        """Make the one before it current again."""
        _call("cuCtxPopCurrent")


class _Freed:
    """Something of the driver's that is given back with the last reference."""

    _free = ""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __del__(self) -> None:
        with suppress(Exception):  # a lost device, or the interpreter's end
            _primary[0].push()
            try:
                _call(self._free, self._handle)
            finally:
                Context.pop()


class DeviceAllocation(_Freed):
    """Memory on the GPU; `int` is its address."""

    _free = "cuMemFree"

    def __int__(self) -> int:
        return int(self._handle)


class HostAllocation(_Freed):
    """Pinned memory, which numpy's arrays are made over."""

    _free = "cuMemFreeHost"

    def __init__(self, nbytes: int, flags: int) -> None:
        super().__init__(int(_call("cuMemHostAlloc", nbytes, flags)))
        self.__array_interface__ = _interface(self._handle, nbytes)

    def get_device_pointer(self) -> int:
        """Where the GPU reaches it, if it is mapped."""
        return int(_call("cuMemHostGetDevicePointer", self._handle, 0))


class ManagedAllocation(_Freed):
    """Managed memory, which numpy's arrays are made over."""

    _free = "cuMemFree"

    def __init__(self, nbytes: int, flags: int) -> None:
        super().__init__(_call("cuMemAllocManaged", nbytes, flags))
        self.__array_interface__ = _interface(int(self._handle), nbytes)

    def get_device_pointer(self) -> int:
        """Its one address."""
        return int(self._handle)

    def attach(self, mem_flags: int, stream: Stream) -> None:
        """Give it to a stream or to the CPU, behind what is on the stream."""
        _call("cuStreamAttachMemAsync", stream._handle, self._handle, 0, mem_flags)


class Stream(_Freed):
    """A queue of work."""

    _free = "cuStreamDestroy"

    def __init__(self, flags: int) -> None:
        super().__init__(_call("cuStreamCreate", flags))
        self.handle = int(self._handle)

    def synchronize(self) -> None:
        """Wait until all of it is done."""
        _call("cuStreamSynchronize", self._handle)


class Event(_Freed):
    """A point in a stream's work."""

    _free = "cuEventDestroy"

    def __init__(self) -> None:
        super().__init__(_call("cuEventCreate", 0))

    def record(self, stream: Stream) -> None:
        """Let it happen when all that is on the stream is done."""
        _call("cuEventRecord", self._handle, stream._handle)

    def synchronize(self) -> None:
        """Wait until it has happened."""
        _call("cuEventSynchronize", self._handle)

    def time_since(self, start: Event) -> float:
        """From another event to this one, ms."""
        return float(_call("cuEventElapsedTime", start._handle, self._handle))


class Module(_Freed):
    """Loaded kernels."""

    _free = "cuModuleUnload"

    def get_function(self, name: str) -> Function:
        """A kernel of it."""
        return Function(_call("cuModuleGetFunction", self._handle, name.encode()), self)


class Function:
    """A kernel; it keeps its module."""

    def __init__(self, handle: Any, module: Module) -> None:
        self._handle, self._module = handle, module
        self._types: tuple[Any, ...] = ()

    def prepare(self, arguments: str) -> None:
        """Say what it takes: a letter for each argument, P a pointer, i an int, f a float."""
        self._types = tuple(_C_TYPES[letter] for letter in arguments)

    def prepared_async_call(
        self, grid: tuple[int, ...], block: tuple[int, ...], stream: Stream, *values: Any, shared_size: int = 0
    ) -> None:
        """Launch it."""
        plain = tuple(
            float(value) if kind is ctypes.c_float else int(value)
            for value, kind in zip(values, self._types, strict=True)
        )
        _call("cuLaunchKernel", self._handle, *grid, *block, shared_size, stream._handle, (plain, self._types), 0)


def mem_alloc(nbytes: int) -> DeviceAllocation:
    """Memory on the GPU."""
    return DeviceAllocation(_call("cuMemAlloc", nbytes))


def pagelocked_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    """Pinned bytes, not set."""
    assert np.dtype(dtype) == np.uint8
    return np.asarray(HostAllocation(shape, mem_flags))


def managed_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    """Managed bytes, not set."""
    assert np.dtype(dtype) == np.uint8
    return np.asarray(ManagedAllocation(shape, mem_flags))


def module_from_buffer(code: bytes) -> Module:
    """Load kernels."""
    return Module(_call("cuModuleLoadData", code))


def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream) -> None:
    """Copy a contiguous array to the GPU."""
    _call("cuMemcpyHtoDAsync", dest, src.ctypes.data, src.nbytes, stream._handle)


def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream) -> None:
    """Fill a contiguous array from the GPU."""
    _call("cuMemcpyDtoHAsync", dest.ctypes.data, src, dest.nbytes, stream._handle)


def memcpy_dtod_async(dest: int, src: int, size: int, stream: Stream) -> None:
    """Copy within the GPU's memory."""
    _call("cuMemcpyDtoDAsync", dest, src, size, stream._handle)


def _call(function: str, *arguments: Any) -> Any:
    """What a driver call gives; Error, or MemoryError, if its status is not 0."""
    status, *values = getattr(driver, function)(*arguments)
    if int(status) != 0:
        _, text = driver.cuGetErrorString(status)
        reason = text.decode() if isinstance(text, bytes) else f"CUDA error {int(status)}"
        raise (MemoryError if int(status) == _OUT_OF_MEMORY else Error)(f"{function} failed: {reason}")
    return values[0] if values else None


def _interface(address: int, nbytes: int) -> dict[str, Any]:
    return {"data": (address, False), "shape": (nbytes,), "typestr": "|u1", "version": 3}
