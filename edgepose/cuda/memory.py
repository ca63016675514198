"""The GPU's context and memory, through pycuda, or through cuda-bindings where pycuda is not: the only way to it.

CUDA's *primary* context is used, the one that TensorRT uses too. It is retained once for the whole process, and is
current only inside `Device.active`: what a caller had current before is current again afterwards.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from edgepose.errors import BackendError, MissingPackageError
from edgepose.machine.gpu import Gpu, find_gpu


def _import_driver() -> tuple[Any, str]:
    """pycuda's driver module, or what bindings.py makes of cuda-bindings, and the package's name."""
    try:
        return import_module("pycuda.driver"), "pycuda"
    except ImportError as error:
        with suppress(ImportError):
            return import_module("edgepose.cuda.bindings"), "cuda-bindings"
        if isinstance(error, ModuleNotFoundError):
            raise MissingPackageError("pycuda", "jetson") from error
        raise BackendError(  # it was compiled for another driver, or there is none
            f"pycuda cannot be loaded ({str(error).splitlines()[0]}): install the NVIDIA driver, or compile pycuda "
            f"anew for the one that is here: pip install --force-reinstall --no-cache-dir --no-binary :all: pycuda"
        ) from error


cuda, DRIVER_PACKAGE = _import_driver()
CudaError: type[Exception] = cuda.Error
OutOfMemory: type[Exception] = cuda.MemoryError
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: work on the default stream neither waits for this one nor it for that


@dataclass(frozen=True)
class Device:
    """A GPU and its primary context."""

    gpu: Gpu
    context: Any

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the primary context this thread's current one, and the one before it afterwards."""
        self.context.push()
        try:
            yield
        finally:
            cuda.Context.pop()


def open_device() -> Device:
    """The first GPU.

    Raises:
        BackendError: there is no driver or GPU, the driver is too old for this pycuda, or refuses a context.
    """
    with _opening:  # two threads must not both retain the context
        return _open_device()


def _older(cuda_major: int) -> str:
    if DRIVER_PACKAGE == "pycuda":
        return "pycuda anew with that CUDA's nvcc on PATH"
    return f"its own: pip install 'cuda-bindings=={cuda_major}.*'"


_opening = threading.Lock()


@cache
def _open_device() -> Device:
    gpu = find_gpu()
    if gpu is None:
        raise BackendError("no NVIDIA GPU or driver was found: see edgepose doctor")
    compiled_for = tuple(cuda.get_version()[:2])
    if compiled_for[0] > gpu.driver_cuda[0]:
        raise BackendError(
            "{} was compiled for CUDA {}.{}, the driver knows CUDA up to {}.{}: install a newer driver, or {}".format(
                DRIVER_PACKAGE, *compiled_for, *gpu.driver_cuda, _older(gpu.driver_cuda[0])
            )
        )
    try:
        cuda.init()
        # destroyed, at the interpreter's end say, pycuda calls cuCtxDetach, which is not for primary contexts
        return Device(gpu, keep(cuda.Device(0).retain_primary_context()))
    except CudaError as error:
        raise BackendError(f"the GPU cannot be used: {error}; see edgepose doctor") from error


def keep(thing: Any) -> Any:
    """The thing, which will never be destroyed, not even as the interpreter ends: the process's end frees what it is.

    For what pycuda cannot free: its destructors complain on standard error or, where they cannot reach their context,
    end the process.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


class DeviceMemory:
    """Bytes on the GPU, uninitialised, at `address`."""

    def __init__(self, nbytes: int) -> None:
        self._allocation = cuda.mem_alloc(nbytes)
        self.address = int(self._allocation)

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        self._allocation = None


class HostMemory:
    """Pinned bytes of the CPU, `array`, that the GPU copies without help.

    Args:
        nbytes: how many.
        mapped: the GPU reaches them too, at `address`: on a Jetson, where both share their memory, without a copy.
    """

    def __init__(self, nbytes: int, mapped: bool = False) -> None:
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        self.array: np.ndarray = cuda.pagelocked_empty(nbytes, np.uint8, mem_flags=flags)
        self.address = int(self.array.base.get_device_pointer()) if mapped else 0

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        self.array = np.empty(0, np.uint8)


class ManagedMemory:
    """Bytes that CPU and GPU both reach, at one address, each through its own cache: `array`.

    Where the two may not be at it at once, on a Jetson before Thor, it is the CPU's until `Stream.lend` and after
    `Stream.take_back` (CUDA C Programming Guide, "Unified Memory", association with a stream).
    """

    def __init__(self, nbytes: int) -> None:
        self.array: np.ndarray = cuda.managed_empty(nbytes, np.uint8, mem_flags=int(cuda.mem_attach_flags.HOST))
        self.address = int(self.array.base.get_device_pointer())

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        self.array = np.empty(0, np.uint8)


class Stream:
    """A queue of work for the GPU."""

    def __init__(self) -> None:
        self._stream = cuda.Stream(_NON_BLOCKING)
        self.handle: int = self._stream.handle

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy a contiguous array to the GPU; it must stay as it is until that is done."""
        cuda.memcpy_htod_async(address, array, self._stream)

    def download(self, array: np.ndarray, address: int) -> None:
        """Fill a contiguous array from the GPU."""
        cuda.memcpy_dtoh_async(array, address, self._stream)

    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Copy within the GPU's memory, from address to address."""
        cuda.memcpy_dtod_async(to, source, nbytes, self._stream)

    def lend(self, memory: ManagedMemory) -> None:
        """Let the work that comes behind on this stream reach it, and the CPU no more."""
        memory.array.base.attach(int(cuda.mem_attach_flags.SINGLE), self._stream)  # type: ignore[union-attr]

    def take_back(self, memory: ManagedMemory) -> None:
        """Give it back to the CPU when what is on this stream before is done."""
        memory.array.base.attach(int(cuda.mem_attach_flags.HOST), self._stream)  # type: ignore[union-attr]

    def launch(self, kernel: Kernel, block: tuple[int, ...], grid: tuple[int, ...], shared: int, *values: Any) -> None:
        """Launch a kernel: block and grid as x, y, z; shared: bytes of dynamic shared memory."""
        kernel.function.prepared_async_call(grid, block, self._stream, *values, shared_size=shared)

    def mark(self, event: Any) -> None:
        """Let an event happen when all that was put on the stream before is done."""
        event.record(self._stream)

    def wait(self) -> None:
        """Wait until all of it is done."""
        self._stream.synchronize()


def make_events(count: int) -> list[Any]:
    """Events, to wait for (`synchronize`) and to take the time between (`time_since`, ms)."""
    return [cuda.Event() for _ in range(count)]


class Kernel:
    """A kernel of a module.

    Args:
        module: from `load_module`.
        name: of the kernel.
        arguments: a letter for each argument: P a pointer, i an int, f a float.
    """

    def __init__(self, module: Any, name: str, arguments: str) -> None:
        self.function = module.get_function(name)
        self.function.prepare(arguments)


def load_module(code: bytes) -> Any:
    """A module of kernels, from what nvcc made."""
    try:
        return cuda.module_from_buffer(code)
    except UnicodeDecodeError as error:  # pycuda's message ends with a log, into which the driver may not have written
        raise CudaError(error.object[: error.start].decode()) from error
