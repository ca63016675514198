"""TensorRT's Python module, whose plans hold an ONNX that ONNX Runtime runs."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.fake_device.builder import add_builder, with_outputs, with_wrong_layers
from tests.fake_device.gpu import FakeGpu, LogicError

MAGIC = b"plan of the stand-in TensorRT\n"
TYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32}


def make_plan(onnx: Path, **settings: Any) -> bytes:
    """A plan of an ONNX.

    Args:
        onnx: inputs and outputs of any number, the batch first.
        settings: max_batch; min_batch (1); wrong: name of a tensor -> what its layer multiplies it by; debug: names of
            debug tensors; alone: a second profile, for a batch of 1 (false); the name of an input or
            output: of TYPES ("FLOAT"); capturable (true), more: another output (false), nan: all outputs are (false),
            scale: of all outputs (1), layers: what the inspector tells.
    """
    return MAGIC + json.dumps(settings).encode() + b"\n" + onnx.read_bytes()


def make_tensorrt(gpu: FakeGpu, name: str = "tensorrt", version: str = "10.3.0") -> ModuleType:
    """The module."""
    trt = ModuleType(name)

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = "error", "internal error", "warning"

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            gpu.wait_for_all("an engine was loaded")
            try:
                gpu.check("cudaMalloc")
            except LogicError as error:
                self.logger.log(ILogger.ERROR, f"[defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime ({error})")
                return None
            if not plan.startswith(MAGIC):
                self.logger.log(ILogger.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed.")
                return None
            header, onnx = plan.removeprefix(MAGIC).split(b"\n", 1)
            if len(onnx) > gpu.memory_left:
                self.logger.log(ILogger.ERROR, "[defaultAllocator.cpp::allocate] CUDA error 2 (out of memory)")
                return None
            return Engine(gpu, trt, self.logger, json.loads(header), onnx)

    for key, value in {
        "__version__": version,
        "ILogger": ILogger,
        "Runtime": Runtime,
        "DataType": SimpleNamespace(**{key: key for key in TYPES}),
        "LayerInformationFormat": SimpleNamespace(JSON="json"),
        "IDebugListener": type("IDebugListener", (), {"__init__": lambda self: None}),
        "TensorLocation": SimpleNamespace(DEVICE="device", HOST="host"),
        "TensorIOMode": SimpleNamespace(INPUT="input", OUTPUT="output"),
        "ProfilingVerbosity": SimpleNamespace(NONE="none", DETAILED="detailed"),
        "ExecutionContextAllocationStrategy": SimpleNamespace(USER_MANAGED="user managed"),
        "DynamicShapesKernelSpecializationStrategy": SimpleNamespace(EAGER="eager"),
    }.items():
        setattr(trt, key, value)
    add_builder(trt, gpu)
    return trt


class Engine:
    """ICudaEngine."""

    device_memory_size_v2 = 4096

    def __init__(self, gpu: FakeGpu, trt: Any, logger: Any, settings: dict[str, Any], onnx: bytes) -> None:
        import onnxruntime

        self.gpu, self.trt, self.logger, self.settings = gpu, trt, logger, settings
        if wrong := settings.get("wrong"):
            onnx = with_wrong_layers(onnx, wrong)
        options = onnxruntime.SessionOptions()
        if b"QuantizeLinear" in onnx:  # its INT8 kernels are others than the file says
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        given = {"sess_options": options, "providers": ["CPUExecutionProvider"]}
        self.session: Any = onnxruntime.InferenceSession(onnx, **given)
        self.debugged: Any = None  # the same, which also tells its debug tensors
        if debug := settings.get("debug"):
            self.debugged = onnxruntime.InferenceSession(with_outputs(onnx, debug), **given)
        ports = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.shapes = {port.name: tuple(s if isinstance(s, int) else -1 for s in port.shape) for port in ports}
        self.takes = {port.name: np.float16 if "float16" in port.type else np.float32 for port in ports}
        self.inputs = [port.name for port in self.session.get_inputs()]
        self.outputs = [port.name for port in self.session.get_outputs()]
        self.names = [*self.shapes]
        if settings.get("more"):
            self.names.insert(1, "more")
            self.shapes["more"] = self.shapes["heatmaps"]

    @property
    def num_optimization_profiles(self) -> int:
        return 2 if self.settings.get("alone") else 1

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        least, most = (1, 1) if profile else (self.settings.get("min_batch", 1), self.settings["max_batch"])
        return [(count, *self.shapes[name][1:]) for count in (least, most, most)]

    def get_tensor_dtype(self, name: str) -> str:
        return self.settings.get(name, "HALF" if self.takes.get(name) == np.float16 else "FLOAT")

    def create_engine_inspector(self) -> SimpleNamespace:
        return SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": self.settings.get("layers", [])}))

    def create_runtime_config(self) -> RuntimeConfig:
        assert self.trt.__name__ == "tensorrt_rtx"
        return RuntimeConfig()

    def create_execution_context(self, settings: Any) -> ExecutionContext:
        if self.trt.__name__ == "tensorrt_rtx":
            assert settings.dynamic_shapes_kernel_specialization_strategy == "eager"
            self.cache = settings.cache
            settings = settings.strategy
        assert settings == "user managed"
        self.gpu.wait_for_all("an execution context was made")
        self.gpu.check("cudaMalloc")
        return ExecutionContext(self)

    def __del__(self) -> None:
        self.gpu.wait_for_all("an engine was freed")
        self.gpu.destroy("an engine")


class RuntimeConfig:
    """IRuntimeConfig of TensorRT for RTX."""

    dynamic_shapes_kernel_specialization_strategy = "lazy"

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class RuntimeCache:
    """IRuntimeCache of TensorRT for RTX: what was compiled for each shape."""

    MAGIC = b"compiled for "

    def __init__(self) -> None:
        self.shapes: set[str] = set()

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(self.MAGIC):
            return False
        self.shapes = set(json.loads(blob.removeprefix(self.MAGIC)))
        return True

    def serialize(self) -> bytes:
        return self.MAGIC + json.dumps(sorted(self.shapes)).encode()


class ExecutionContext:
    """IExecutionContext, with the rules of its documentation."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.scratch = 0
        self.nvtx_verbosity = "detailed"
        self.profile = 0
        self.shape: dict[str, tuple[int, ...]] = {name: engine.shapes[name] for name in engine.inputs}
        self.run_with: dict[str, tuple[int, ...]] | None = None
        self.listener: Any = None
        self.debugging = False

    def __del__(self) -> None:
        self.engine.gpu.wait_for_all("an execution context was freed")
        self.engine.gpu.destroy("an execution context")

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= self.engine.device_memory_size_v2
        self.scratch = memory

    def set_optimization_profile_async(self, index: int, handle: int) -> bool:
        assert index < self.engine.num_optimization_profiles
        assert self.engine.gpu.streams[handle].recorded is None
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, self.profile)
        fixed = self.engine.shapes[name][0]
        fits = shape[0] == fixed if fixed > 0 else least[0] <= shape[0] <= most[0]
        if not fits or shape[1:] != self.engine.shapes[name][1:]:
            return self._refuse(f"Static dimension mismatch while setting input shape of {name} to {shape}")
        self.shape[name] = shape
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if memory % 256 or name not in self.engine.shapes:
            return self._refuse(f"{name}: {memory:#x} is not aligned to 256 bytes")
        self.addresses[name] = memory
        return True

    def set_debug_listener(self, listener: Any) -> bool:
        assert isinstance(listener, self.engine.trt.IDebugListener)
        self.listener = listener
        return True

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        self.debugging = flag
        return True

    def tell_debug_tensors(self, stream: Any) -> bool:
        """Call the listener while the run is put on the stream, until it says False; each tensor's memory lasts as long
        as its call.
        """
        engine, gpu = self.engine, self.engine.gpu
        stream.finish()
        feeds = {
            name: _array(self.addresses[name], sizes, TYPES[engine.get_tensor_dtype(name)]).astype(engine.takes[name])
            for name, sizes in self.shape.items()
        }
        names = engine.settings["debug"]
        for name, values in zip(names, engine.debugged.run(names, feeds), strict=True):
            address = gpu.allocate(values.nbytes, pinned=False)
            _array(address, values.shape, values.dtype)[...] = values
            kind = "HALF" if values.dtype == np.float16 else "FLOAT"
            told = self.listener.process_debug_tensor(
                capsule(address), "device", kind, values.shape, name, stream.handle
            )
            gpu.free(address)
            if not told:
                return False
        return True

    def execute_async_v3(self, handle: int) -> bool:
        engine = self.engine
        if engine.gpu.lost:
            return self._refuse(f"Error Code 1: Cuda Runtime ({engine.gpu.lost})")
        if missing := [name for name in engine.shapes if name not in self.addresses] + ["scratch"] * (not self.scratch):
            return self._refuse(f"no address for {', '.join(missing)}")
        stream = engine.gpu.streams[handle]
        shape, addresses = dict(self.shape), dict(self.addresses)
        assert self.nvtx_verbosity == "none"
        if stream.recorded is not None and (self.run_with != shape or not engine.settings.get("capturable", True)):
            stream.spoilt = True
            return self._refuse("operation would make the legacy stream depend on a capturing blocking stream")
        if self.run_with != shape:
            engine.gpu.wait_for_all("a first run of a shape")
            if engine.trt.__name__ == "tensorrt_rtx" and str(shape) not in engine.cache.shapes:
                engine.gpu.launched.append("compile")
                engine.cache.shapes.add(str(shape))
        listening = self.listener is not None and self.debugging and engine.debugged is not None
        if listening and not self.tell_debug_tensors(stream):
            return self._refuse("the debug listener failed")
        scratch, weakly = self.scratch, weakref.ref(self)

        def work() -> None:
            gpu, context = engine.gpu, weakly()
            for address in (*addresses.values(), scratch):
                gpu.check_address(address, "network")
            if context is None:
                gpu.problems.append("ran a context that is gone")
                return
            context.run_with = shape
            if context.shape != shape:
                gpu.problems.append("replayed a graph of a context whose shape has changed")
            feeds = {
                name: _array(addresses[name], sizes, TYPES[engine.get_tensor_dtype(name)]).astype(engine.takes[name])
                for name, sizes in shape.items()
            }
            for name, found in zip(engine.outputs, engine.session.run(engine.outputs, feeds), strict=True):
                values = found * (np.nan if engine.settings.get("nan") else engine.settings.get("scale", 1))
                _array(addresses[name], found.shape, TYPES[engine.get_tensor_dtype(name)])[...] = values

        stream.put(f"network {next(iter(shape.values()))[0]}", work)
        return True

    def _refuse(self, message: str) -> bool:
        self.engine.logger.log("error", message)
        return False


def capsule(address: int) -> Any:
    """An address as pybind11 gives `void const*` to Python: a capsule without a name."""
    import ctypes

    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return make(address, None, None)


def _array(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    import ctypes

    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), dtype).reshape(shape)
