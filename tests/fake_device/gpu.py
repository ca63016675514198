"""A GPU's memory, streams, events and graphs, on the CPU, in the shape of pycuda.driver and of libcuda."""

from __future__ import annotations

import ctypes
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from edgepose.cuda.launch import FRAME
from edgepose.machine.gpu import Gpu
from edgepose.stages.frames import FORMATS
from tests.cuda.on_cpu import kernels_on_cpu

FATBIN = b"kernels, as the stand-in GPU takes them"
Work = Callable[[], None]


class Error(Exception):
    """pycuda.driver.Error."""


class MemoryError_(Error):
    """pycuda.driver.MemoryError."""


class LogicError(Error):
    """pycuda.driver.LogicError."""


class FakeGpu:
    """The machine.

    Attributes:
        gpu: what `find_gpu` answers.
        live: allocations that have not been freed, by address.
        pinned: of these, pinned ones, and whether they are mapped.
        managed: of these, managed ones, and whether they are a stream's at the moment, and not the CPU's.
        problems: what a real GPU might have let pass, or crashed on.
        launched: names of kernels, copies and "network", in the order they were done.
        spoil: name of a kernel -> what is done to its arguments' memory after it ran: a kernel that is wrong.
        wrong_layers: name of a tensor -> what its layer multiplies it by, in plans that are built here.
        stale_graphs: a graph that is replayed does nothing.
        events: of libcuda, and how they are waited for.
        ordinals: allocations that lie on another GPU, and its number.
        lost: why every call fails, but for those that change the current context; empty while the device works.
        memory_left: bytes that can still be allocated; on an integrated GPU pinned memory counts as well.
    """

    def __init__(self, *, integrated: bool = False) -> None:
        self.gpu = Gpu("Fake Orin", (8, 7), 16, integrated, (12, 6), 15_656)
        self.live: dict[int, np.ndarray] = {}
        self.pinned: dict[int, bool] = {}
        self.managed: dict[int, bool] = {}
        self.graveyard: list[np.ndarray] = []
        self.problems: list[str] = []
        self.launched: list[str] = []
        self.graphs: dict[int, list[Work]] = {}
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Work] = {}
        self.ordinals: dict[int, int] = {}
        self.lock = threading.RLock()  # around the tables above
        self.spoil: dict[str, Callable[[tuple[Any, ...]], None]] = {}
        self.wrong_layers: dict[str, float] = {}
        self.stale_graphs = False
        self.lost = ""
        self.memory_left = 1 << 40
        self.pycuda_cuda = (12, 6, 0)
        self.thread = threading.local()
        self.driver = self._make_driver()
        self.libcuda = LibCuda(self)

    def stack(self) -> list[Any]:
        """The contexts of this thread."""
        if not hasattr(self.thread, "stack"):
            self.thread.stack = []
        return self.thread.stack

    def check(self, call: str) -> None:
        """Refuse a call without a context, or on a lost device."""
        if self.lost:
            raise LogicError(f"{call} failed: {self.lost}")
        if not self.stack():
            raise LogicError(f"{call} failed: invalid device context")

    def check_not_recording(self, call: str) -> None:
        """Refuse what ends a recording of this thread (CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)."""
        for stream in self.all_streams():
            if stream.recorded is not None and stream.thread == threading.get_ident():
                stream.spoilt = True
                raise LogicError(f"{call} failed: operation not permitted when stream is capturing")

    def wait_for_all(self, call: str) -> None:
        """What waits for the whole context: it ends every recording, in whatever thread."""
        for stream in self.all_streams():
            if stream.recorded is not None:
                stream.spoilt = True
                self.problems.append(f"{call} while a stream is recorded")

    def allocate(self, nbytes: int, pinned: bool, mapped: bool = False) -> int:
        self.check("cuMemAlloc")
        self.check_not_recording("cuMemAlloc")
        must_be_int(nbytes)
        if nbytes <= 0:
            raise LogicError("cuMemAlloc failed: invalid argument")
        if self.counts(pinned) and nbytes > self.memory_left:
            raise MemoryError_("cuMemAlloc failed: out of memory")
        whole = np.full(nbytes + 512, 255, np.uint8)  # NaN, as FP32 and as FP16
        address = (whole.ctypes.data + 255) // 256 * 256
        with self.lock:
            self.live[address] = whole
            if pinned:
                self.pinned[address] = mapped
            self.memory_left -= nbytes * self.counts(pinned)
        return address

    def counts(self, pinned: bool) -> bool:
        """Whether an allocation takes of the GPU's memory."""
        return self.gpu.integrated or not pinned

    def free(self, address: int) -> None:
        self.destroy("memory")
        with self.lock:
            whole = self.live.pop(address)
            pinned = self.pinned.pop(address, None) is not None
            self.managed.pop(address, None)
            self.memory_left += (len(whole) - 512) * self.counts(pinned)
            self.graveyard.append(whole)  # so that late work spoils nothing else
        whole[:] = 0xEE

    def destroy(self, what: str) -> None:
        """What pycuda's destructors do: without a context they push theirs, if they can, and warn where they fail."""
        if not self.stack():
            self.problems.append(f"{what} freed without a current context")
        if self.lost:
            self.problems.append(f"{what} freed on a lost device")
        try:
            self.check_not_recording(f"freeing {what}")
        except LogicError as error:
            self.problems.append(str(error))

    def owner(self, address: int) -> int | None:
        """The live allocation that an address lies in."""
        with self.lock:
            live = list(self.live.items())
        for start, whole in live:
            if start <= address < whole.ctypes.data + len(whole):
                return start
        return None

    def check_address(self, address: int, what: str) -> None:
        owner = self.owner(address)
        if self.managed.get(owner) is False:
            self.problems.append(f"{what}: managed memory that is the CPU's")
        if owner is None or (owner in self.pinned and not self.pinned[owner]):
            self.problems.append(f"{what}: {address:#x} is no memory of the GPU")
            raise LogicError(f"{what} failed: an illegal memory access was encountered")

    def all_streams(self) -> list[Stream]:
        with self.lock:
            return list(self.streams.values())

    def _make_driver(self) -> ModuleType:
        driver = ModuleType("pycuda.driver")
        gpu = self

        class Context:
            handle = 0x1234

            def push(self) -> None:
                gpu.stack().append(self)

            @staticmethod
            def pop() -> None:
                if not gpu.stack():
                    raise LogicError("m_stack::pop failed: invalid device context")
                gpu.stack().pop()

            def __del__(self) -> None:
                gpu.problems.append("pycuda detached from the primary context, which only its owner may")

        class Device:
            retained = 0

            def __init__(self, ordinal: int) -> None:
                assert ordinal == 0

            def retain_primary_context(self) -> Context:
                Device.retained += 1
                return Context()

        class DeviceAllocation:
            def __init__(self, nbytes: int) -> None:
                self.address = gpu.allocate(nbytes, pinned=False)

            def __int__(self) -> int:
                return self.address

            def __del__(self) -> None:
                if hasattr(self, "address"):
                    gpu.free(self.address)

        class PagelockedHostAllocation:
            def __init__(self, nbytes: int, flags: int) -> None:
                self.mapped = bool(flags & 2)
                self.address = gpu.allocate(nbytes, pinned=True, mapped=self.mapped)
                self.__array_interface__ = {
                    "data": (self.address, False),
                    "shape": (nbytes,),
                    "typestr": "|u1",
                    "version": 3,
                }

            def get_device_pointer(self) -> int:
                assert self.mapped, "cuMemHostGetDevicePointer failed: invalid argument"
                return self.address

            def __del__(self) -> None:
                if hasattr(self, "address"):
                    gpu.free(self.address)

        class ManagedAllocation:
            def __init__(self, nbytes: int, flags: int) -> None:
                assert flags == 2, "memory is the CPU's at first"
                self.address = gpu.allocate(nbytes, pinned=False)
                gpu.managed[self.address] = False
                self.__array_interface__ = {
                    "data": (self.address, False),
                    "shape": (nbytes,),
                    "typestr": "|u1",
                    "version": 3,
                }

            def get_device_pointer(self) -> int:
                return self.address

            def attach(self, mem_flags: int, stream: Stream) -> None:
                gpu.check("cuStreamAttachMemAsync")
                must_be_int(mem_flags)
                assert mem_flags in (2, 4)

                def work() -> None:
                    gpu.managed[self.address] = mem_flags == 4

                stream.put("lend" if mem_flags == 4 else "take back", work)

            def __del__(self) -> None:
                if hasattr(self, "address"):
                    gpu.free(self.address)

        def managed_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
            assert np.dtype(dtype) == np.uint8
            return np.asarray(ManagedAllocation(shape, mem_flags))

        def pagelocked_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
            assert np.dtype(dtype) == np.uint8
            return np.asarray(PagelockedHostAllocation(shape, mem_flags))

        def module_from_buffer(code: bytes) -> Any:
            gpu.check("cuModuleLoadDataEx")
            gpu.check_not_recording("cuModuleLoadDataEx")
            if not code.isascii():  # the driver has left pycuda's buffer for its log as it was
                b"cuModuleLoadDataEx failed: device kernel image is invalid - \xda".decode()
            if code != FATBIN:
                raise LogicError("cuModuleLoadDataEx failed: device kernel image is invalid - ")
            return Module(gpu)

        def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream) -> None:
            gpu.check("cuMemcpyHtoDAsync")
            must_be_int(dest)
            assert src.flags.c_contiguous
            source, nbytes, kept = src.ctypes.data, src.nbytes, gpu.keeper(src, stream)
            before = src.tobytes()

            def work() -> None:
                if kept is not None and (kept() is None or ctypes.string_at(source, nbytes) != before):
                    gpu.problems.append("pageable memory was given up or changed before it was copied to the GPU")
                    raise LogicError("cuMemcpyHtoDAsync failed: invalid argument")
                gpu.copy(dest, source, nbytes, dest)

            stream.put("upload", work)

        def memcpy_dtod_async(dest: int, src: int, size: int, stream: Stream) -> None:
            gpu.check("cuMemcpyDtoDAsync")
            must_be_int(dest, src, size)

            def work() -> None:
                gpu.check_address(src, "copy")
                gpu.copy(dest, src, size, dest)

            stream.put("copy", work)

        def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream) -> None:
            gpu.check("cuMemcpyDtoHAsync")
            must_be_int(src)
            assert dest.flags.c_contiguous
            assert dest.flags.writeable
            target, nbytes, kept = dest.ctypes.data, dest.nbytes, gpu.keeper(dest, stream)

            def work() -> None:
                if kept is not None and kept() is None:
                    gpu.problems.append("pageable memory was given up before the GPU's was copied there")
                    raise LogicError("cuMemcpyDtoHAsync failed: invalid argument")
                gpu.copy(target, src, nbytes, src)

            stream.put("download", work)

        driver.Error, driver.MemoryError, driver.LogicError = Error, MemoryError_, LogicError  # type: ignore[attr-defined]
        for name, value in {
            "Context": Context,
            "Device": Device,
            "Event": lambda: Event(gpu),
            "Stream": lambda flags: Stream(gpu, flags),
            "get_version": lambda: gpu.pycuda_cuda,
            "host_alloc_flags": SimpleNamespace(DEVICEMAP=2),
            "init": lambda: None,
            "managed_empty": managed_empty,
            "mem_attach_flags": SimpleNamespace(HOST=2, SINGLE=4),
            "mem_alloc": DeviceAllocation,
            "memcpy_dtod_async": memcpy_dtod_async,
            "memcpy_dtoh_async": memcpy_dtoh_async,
            "memcpy_htod_async": memcpy_htod_async,
            "module_from_buffer": module_from_buffer,
            "pagelocked_empty": pagelocked_empty,
        }.items():
            setattr(driver, name, value)
        return driver

    def keeper(self, array: np.ndarray, stream: Stream) -> Any:
        """What pageable memory belongs to, weakly; None for pinned memory. A copy of it may be read when it is done:
        the driver is free to wait, to copy it first, or neither (API synchronization behavior, Asynchronous)."""
        if self.owner(array.ctypes.data) in self.pinned:
            return None
        if stream.recorded is not None:
            stream.spoilt = True
            raise LogicError("cuMemcpyAsync failed: operation not permitted when stream is capturing")
        while isinstance(array.base, np.ndarray):
            array = array.base
        return weakref.ref(array)

    def copy(self, to: int, source: int, nbytes: int, on_gpu: int) -> None:
        self.check_address(on_gpu, "copy")
        ctypes.memmove(to, source, nbytes)


def must_be_int(*values: Any) -> None:
    """Boost.Python, which pycuda's calls go through, takes no numpy scalars for numbers."""
    for value in values:
        if type(value) is not int:
            raise TypeError(f"Python argument types did not match C++ signature: {type(value)}")


class Stream:
    """Work in order, done when somebody waits for it."""

    def __init__(self, gpu: FakeGpu, flags: int) -> None:
        gpu.check("cuStreamCreate")
        self.gpu, self.flags = gpu, flags
        self.queue: deque[Work] = deque()
        self.recorded: list[Work] | None = None
        self.spoilt = False  # the recording
        self.thread = 0
        with gpu.lock:
            self.handle = 0x7F00_0000_0100 + 8 * len(gpu.streams)  # too long for a C int
            gpu.streams[self.handle] = self

    def put(self, name: str, work: Work) -> None:
        def done() -> None:
            if self.gpu.lost:
                raise LogicError(f"{name} failed: {self.gpu.lost}")
            self.gpu.launched.append(name)
            work()

        (self.queue if self.recorded is None else self.recorded).append(done)

    def finish(self) -> None:
        while self.queue:
            self.queue.popleft()()

    def synchronize(self) -> None:
        self.gpu.check("cuStreamSynchronize")
        if self.recorded is not None:
            self.spoilt = True
            raise LogicError("cuStreamSynchronize failed: operation not permitted when stream is capturing")
        self.finish()


class Module:
    """Loaded kernels; a function keeps its module."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu

    def get_function(self, name: str) -> Function:
        return Function(self.gpu, name, self)

    def __del__(self) -> None:
        self.gpu.destroy("a module")


class Event:
    """A point in a stream's work."""

    def __init__(self, gpu: FakeGpu) -> None:
        gpu.check("cuEventCreate")
        self.gpu, self.stream = gpu, None
        self.at: float | None = None

    def __del__(self) -> None:
        self.gpu.destroy("an event")

    def record(self, stream: Stream) -> None:
        self.gpu.check("cuEventRecord")
        self.stream, self.at = stream, None

        def happen() -> None:
            self.at = time.perf_counter()

        (stream.queue if stream.recorded is None else stream.recorded).append(happen)

    def synchronize(self) -> None:
        self.gpu.check("cuEventSynchronize")
        while self.at is None and self.stream is not None:
            self.stream.queue.popleft()()

    def time_since(self, start: Event) -> float:
        if self.at is None or start.at is None:
            raise LogicError("cuEventElapsedTime failed: device not ready")
        return 1000 * (self.at - start.at)


class Function:
    """A kernel: the real source, run on the CPU."""

    TYPES = {"P": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float}  # noqa: RUF012

    def __init__(self, gpu: FakeGpu, name: str, module: Module) -> None:
        self.gpu, self.name, self.module = gpu, name, module
        self.run = getattr(kernels_on_cpu(), f"run_{name}")

    def prepare(self, arguments: str) -> None:
        self.arguments = arguments

    def prepared_async_call(
        self, grid: tuple[int, ...], block: tuple[int, ...], stream: Stream, *values: Any, shared_size: int = 0
    ) -> None:
        self.gpu.check("cuLaunchKernel")
        must_be_int(*grid, *block, shared_size)
        assert isinstance(grid, tuple)
        assert isinstance(block, tuple)
        assert len(values) == len(self.arguments)
        struct.pack(self.arguments, *values)  # refuses what pycuda's refuses
        given = [
            self.TYPES[kind](value or None if kind == "P" else value)
            for kind, value in zip(self.arguments, values, strict=True)
        ]
        pointers = [value for kind, value in zip(self.arguments, values, strict=True) if kind == "P" and value]

        def work() -> None:
            for address in (*pointers, *(_frames_of(*pointers[:2], grid[2]) if self.name.startswith("crop") else ())):
                self.gpu.check_address(address, self.name)
            with _ONE_KERNEL_AT_A_TIME:
                self.run(*given, (ctypes.c_int * 6)(*block, *grid))
                if self.name in self.gpu.spoil:
                    self.gpu.spoil[self.name](values)

        stream.put(self.name, work)


def _frames_of(table: int, frame_of: int, count: int) -> list[int]:
    """The addresses of the frames that a launch of crop.cu reads."""
    numbers = np.frombuffer((ctypes.c_int32 * count).from_address(frame_of), np.int32)
    nbytes = FRAME.itemsize * (int(numbers.max()) + 1)
    frames = np.frombuffer((ctypes.c_uint8 * nbytes).from_address(table), FRAME)
    planes = (frames["pixels"], frames["chroma"][frames["format"] == FORMATS.index("nv12")])
    return [int(address) for plane in planes for address in plane]


_ONE_KERNEL_AT_A_TIME = threading.Lock()  # on the CPU the grid is in global variables


class LibCuda:
    """The calls of graphs.py and external.py. Handles are numbers; a graph is the work that was recorded."""

    CAPTURING, INVALIDATED, NO_CONTEXT = 900, 901, 201

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.refuse = 0  # what cuGraphInstantiateWithFlags answers

    def cuStreamBeginCapture_v2(self, handle: Any, mode: int) -> int:
        stream = self.gpu.streams[handle.value]
        assert mode == 1
        if not self.gpu.stack():
            return self.NO_CONTEXT
        if stream.recorded is not None:
            return self.CAPTURING
        stream.recorded, stream.spoilt, stream.thread = [], False, threading.get_ident()
        return 0

    def cuStreamEndCapture(self, handle: Any, graph: Any) -> int:
        stream = self.gpu.streams[handle.value]
        recorded, stream.recorded = stream.recorded, None
        if stream.spoilt or recorded is None:
            return self.INVALIDATED
        graph._obj.value = self._keep(recorded)
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:
        assert isinstance(flags, ctypes.c_ulonglong)
        if self.refuse:
            return self.refuse
        executable._obj.value = self._keep(list(self.gpu.graphs[graph.value]))
        return 0

    def cuGraphLaunch(self, executable: Any, handle: Any) -> int:
        if self.gpu.lost:
            return 719
        if not self.gpu.stack():
            return self.NO_CONTEXT
        stream = self.gpu.streams[handle.value]
        stream.queue.append(lambda: self.gpu.launched.append("graph"))
        if not self.gpu.stale_graphs:
            stream.queue.extend(self.gpu.graphs[executable.value])
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:
        del self.gpu.graphs[executable.value]
        return 0

    cuGraphDestroy = cuGraphExecDestroy

    def cuPointerGetAttribute(self, value: Any, number: int, address: Any) -> int:
        owner = self.gpu.owner(address.value)
        if owner is None:
            return 1
        size = self.gpu.live[owner].ctypes.data + len(self.gpu.live[owner]) - owner
        value._obj.value = {9: self.gpu.ordinals.get(owner, 0), 11: owner, 12: size}[number]
        return 0

    def cuEventCreate(self, event: Any, flags: int) -> int:
        assert flags == 2
        event._obj.value = 1 + max(self.gpu.events, default=0)
        self.gpu.events[event._obj.value] = lambda: None
        return 0

    def cuEventRecord(self, event: Any, handle: Any) -> int:
        producer, happened = self.gpu.streams.get(handle.value), []
        if producer is None:
            return 400
        producer.queue.append(lambda: happened.append(True))

        def wait() -> None:
            while not happened:
                producer.queue.popleft()()

        self.gpu.events[event.value] = wait
        return 0

    def cuStreamWaitEvent(self, handle: Any, event: Any, flags: int) -> int:
        self.gpu.streams[handle.value].queue.append(self.gpu.events[event.value])
        return 0

    def cuEventDestroy_v2(self, event: Any) -> int:
        del self.gpu.events[event.value]
        return 0

    def _keep(self, work: list[Work]) -> int:
        with self.gpu.lock:
            key = 1 + max(self.gpu.graphs, default=0)
            self.gpu.graphs[key] = work
        return key
