"""The stand-in GPU in the shape of cuda.bindings.driver: each call gives a tuple, its status first."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tests.fake_device.gpu import FATBIN, Event, FakeGpu, Function, LogicError, MemoryError_, Module, Stream

OUT_OF_MEMORY, FAILED = 2, 719
LETTERS = {ctypes.c_void_p: "P", ctypes.c_int: "i", ctypes.c_float: "f"}


class Handle:
    """CUstream, CUdeviceptr and their like: an address that `int` tells."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __int__(self) -> int:
        return self.value


CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUmodule, CUstream = (
    type(name, (Handle,), {})
    for name in ("CUcontext", "CUdevice", "CUdeviceptr", "CUevent", "CUfunction", "CUmodule", "CUstream")
)


def make_bindings(gpu: FakeGpu) -> ModuleType:
    """The module cuda.bindings.driver on that GPU."""
    calls = Calls(gpu)
    module = ModuleType("cuda.bindings.driver")
    module.CUDA_VERSION = 12060  # type: ignore[attr-defined]
    module.cuGetErrorString = lambda status: (0, calls.reasons[int(status)].encode())  # type: ignore[attr-defined]
    for name in dir(calls):
        if name.startswith("cu"):
            setattr(module, name, answering(calls, getattr(calls, name)))
    return module


def answering(calls: Calls, call: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    """A call that tells its failure by its status."""

    def answer(*arguments: Any) -> tuple[Any, ...]:
        try:
            given = call(*arguments)
        except (LogicError, MemoryError_) as error:
            status = OUT_OF_MEMORY if isinstance(error, MemoryError_) else FAILED
            calls.reasons[status] = str(error).partition("failed: ")[2]
            return (status,) if call.__annotations__["return"] == "None" else (status, None)
        return (0,) if call.__annotations__["return"] == "None" else (0, given)

    return answer


class Calls:
    """The driver's calls; arguments of another type than cuda-bindings gives out are an AssertionError."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.reasons: dict[int, str] = {}
        self.things: dict[int, Any] = {}  # events, modules and functions by their handles

    def cuInit(self, flags: int) -> None:
        assert flags == 0

    def cuDeviceGet(self, ordinal: int) -> Handle:
        return CUdevice(ordinal)

    def cuDevicePrimaryCtxRetain(self, device: Handle) -> Handle:
        assert isinstance(device, CUdevice)
        self.gpu.driver.Device.retained += 1
        return CUcontext(0x1234)

    def cuCtxPushCurrent(self, context: Handle) -> None:
        assert isinstance(context, CUcontext)
        self.gpu.stack().append(context)

    def cuCtxPopCurrent(self) -> Handle:
        if not self.gpu.stack():
            raise LogicError("cuCtxPopCurrent failed: invalid device context")
        return self.gpu.stack().pop()  # type: ignore[no-any-return]

    def cuMemAlloc(self, nbytes: int) -> Handle:
        return CUdeviceptr(self.gpu.allocate(nbytes, pinned=False))

    def cuMemFree(self, address: Handle) -> None:
        assert isinstance(address, CUdeviceptr)
        self.gpu.free(int(address))

    def cuMemHostAlloc(self, nbytes: int, flags: int) -> int:
        return self.gpu.allocate(nbytes, pinned=True, mapped=bool(flags & 2))

    def cuMemFreeHost(self, address: int) -> None:
        assert self.gpu.pinned[address] is not None
        self.gpu.free(address)

    def cuMemHostGetDevicePointer(self, address: int, flags: int) -> Handle:
        assert flags == 0
        assert self.gpu.pinned[address]
        return CUdeviceptr(address)

    def cuMemAllocManaged(self, nbytes: int, flags: int) -> Handle:
        assert flags == 2
        address = self.gpu.allocate(nbytes, pinned=False)
        self.gpu.managed[address] = False
        return CUdeviceptr(address)

    def cuStreamAttachMemAsync(self, stream: Handle, address: Handle, length: int, flags: int) -> None:
        self.gpu.check("cuStreamAttachMemAsync")
        assert length == 0
        assert flags in (2, 4)

        def work() -> None:
            self.gpu.managed[int(address)] = flags == 4

        self._stream(stream).put("lend" if flags == 4 else "take back", work)

    def cuStreamCreate(self, flags: int) -> Handle:
        return CUstream(Stream(self.gpu, flags).handle)

    def cuStreamDestroy(self, stream: Handle) -> None:
        assert self._stream(stream).recorded is None
        self.gpu.destroy("a stream")

    def cuStreamSynchronize(self, stream: Handle) -> None:
        self._stream(stream).synchronize()

    def cuMemcpyHtoDAsync(self, to: int, source: int, nbytes: int, stream: Handle) -> None:
        self.gpu.check("cuMemcpyHtoDAsync")
        pinned = self._pinned(source, stream)
        now = None if pinned else ctypes.create_string_buffer(ctypes.string_at(source, nbytes), nbytes)

        def work() -> None:
            self.gpu.copy(to, source if now is None else ctypes.addressof(now), nbytes, to)

        self._stream(stream).put("upload", work)

    def cuMemcpyDtoHAsync(self, to: int, source: int, nbytes: int, stream: Handle) -> None:
        self.gpu.check("cuMemcpyDtoHAsync")
        self._pinned(to, stream)
        self._stream(stream).put("download", lambda: self.gpu.copy(to, source, nbytes, source))

    def cuMemcpyDtoDAsync(self, to: int, source: int, nbytes: int, stream: Handle) -> None:
        self.gpu.check("cuMemcpyDtoDAsync")

        def work() -> None:
            self.gpu.check_address(source, "copy")
            self.gpu.copy(to, source, nbytes, to)

        self._stream(stream).put("copy", work)

    def cuEventCreate(self, flags: int) -> Handle:
        assert flags == 0  # so that it can be timed
        return self._keep(CUevent, Event(self.gpu))

    def cuEventDestroy(self, event: Handle) -> None:
        del self.things[int(event)]

    def cuEventRecord(self, event: Handle, stream: Handle) -> None:
        self.things[int(event)].record(self._stream(stream))

    def cuEventSynchronize(self, event: Handle) -> None:
        self.things[int(event)].synchronize()

    def cuEventElapsedTime(self, start: Handle, end: Handle) -> float:
        return self.things[int(end)].time_since(self.things[int(start)])  # type: ignore[no-any-return]

    def cuModuleLoadData(self, image: bytes) -> Handle:
        self.gpu.check("cuModuleLoadData")
        self.gpu.check_not_recording("cuModuleLoadData")
        if image != FATBIN:
            raise LogicError("cuModuleLoadData failed: device kernel image is invalid")
        return self._keep(CUmodule, Module(self.gpu))

    def cuModuleUnload(self, module: Handle) -> None:
        del self.things[int(module)]

    def cuModuleGetFunction(self, module: Handle, name: bytes) -> Handle:
        assert isinstance(module, CUmodule)
        function = self.things[int(module)].get_function(name.decode())
        function.module = None  # which only Python's objects keep
        return self._keep(CUfunction, function)

    def cuLaunchKernel(self, function: Handle, *values: Any) -> None:
        gx, gy, gz, bx, by, bz, shared, stream, (given, types), extra = values
        assert isinstance(function, CUfunction)
        assert extra == 0
        kernel: Function = self.things[int(function)]
        kernel.prepare("".join(LETTERS[kind] for kind in types))
        grid, block = (gx, gy, gz), (bx, by, bz)
        kernel.prepared_async_call(grid, block, self._stream(stream), *given, shared_size=shared)

    def _stream(self, stream: Handle) -> Stream:
        assert isinstance(stream, CUstream)
        return self.gpu.streams[int(stream)]

    def _pinned(self, address: int, stream: Handle) -> bool:
        """Whether memory is pinned; other memory spoils a recording."""
        pinned = self.gpu.owner(address) in self.gpu.pinned
        if not pinned and self._stream(stream).recorded is not None:
            self._stream(stream).spoilt = True
            raise LogicError("cuMemcpyAsync failed: operation not permitted when stream is capturing")
        return pinned

    def _keep(self, kind: type[Handle], thing: Any) -> Handle:
        with self.gpu.lock:
            number = 0x5500_0000_0000 + 16 * (len(self.things) + 1)
            while number in self.things:
                number += 16
            self.things[number] = thing
        return kind(number)
