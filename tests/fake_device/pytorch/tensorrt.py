"""A module `tensorrt` whose plans PyTorch computes, for GPUs that no TensorRT at hand runs on.

    PYTHONPATH=tests/fake_device/pytorch:. python -m edgepose.benchmarks.gpu_acceptance --models models

Everything around the network is then the product's own on a real GPU: contexts, streams, CUDA graphs, kernels, frames.
It is no measure of TensorRT: neither of its speed nor of its arithmetic. A plan holds an ONNX, and Q/DQ is computed in
float32 on the quantised values.
"""

from __future__ import annotations

import ctypes
import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch

from tests.fake_device.builder import add_builder
from tests.fake_device.pytorch.operations import OPERATIONS, TYPES
from tests.fake_device.trt import MAGIC, capsule

__version__ = "10.3.0.pytorch"  # a release that edgepose takes; what is behind it shows in every table
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = {torch.float32: "FLOAT", torch.float16: "HALF"}
WARM_UPS = 3  # runs of a new shape: PyTorch then allocates nothing more, and may be recorded

DataType = SimpleNamespace(FLOAT="FLOAT", HALF="HALF", INT32="INT32")
LayerInformationFormat = SimpleNamespace(JSON="json")
TensorLocation = SimpleNamespace(DEVICE="device", HOST="host")
TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
ProfilingVerbosity = SimpleNamespace(NONE="none", DETAILED="detailed")
ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")

torch.set_grad_enabled(False)
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.deterministic = True


class ILogger:
    """Whom TensorRT tells its errors."""

    ERROR, INTERNAL_ERROR, WARNING = "error", "internal error", "warning"


class IDebugListener:
    """Who hears debug tensors."""


class Runtime:
    """IRuntime."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if not plan.startswith(MAGIC):
            self.logger.log(ILogger.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed.")
            return None
        header, model = plan.removeprefix(MAGIC).split(b"\n", 1)
        return Engine(self.logger, json.loads(header), model)


class Engine:
    """ICudaEngine."""

    device_memory_size_v2 = 4096

    def __init__(self, logger: Any, settings: dict[str, Any], model: bytes) -> None:
        self.logger, self.settings = logger, settings
        self.program = Program(model)

    @property
    def num_optimization_profiles(self) -> int:
        return 2 if self.settings.get("alone") else 1

    @property
    def num_io_tensors(self) -> int:
        return len(self.program.ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self.program.ports)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.program.inputs else "output"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.program.ports[name][0]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        least, most = (1, 1) if profile else (1, self.settings["max_batch"])
        return [(count, *self.get_tensor_shape(name)[1:]) for count in (least, most, most)]

    def get_tensor_dtype(self, name: str) -> str:
        return NAMES[self.program.ports[name][1]]

    def create_engine_inspector(self) -> SimpleNamespace:
        return SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": []}))

    def create_execution_context(self, settings: Any) -> ExecutionContext:
        return ExecutionContext(self)


class ExecutionContext:
    """IExecutionContext."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.nvtx_verbosity = "detailed"
        self.shapes = {name: engine.get_tensor_shape(name) for name in engine.program.inputs}
        self.addresses: dict[str, int] = {}
        self.views: dict[Any, torch.Tensor] = {}
        self.ran: dict[str, tuple[int, ...]] | None = None
        self.listener: Any = None
        self.debugging = False

    def set_device_memory(self, memory: int, size: int) -> None:
        """It needs none."""

    def set_optimization_profile_async(self, index: int, handle: int) -> bool:
        return index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return memory % 256 == 0

    def set_debug_listener(self, listener: Any) -> bool:
        self.listener = listener
        return True

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        self.debugging = flag
        return True

    def execute_async_v3(self, handle: int) -> bool:
        stream = torch.cuda.ExternalStream(handle) if DEVICE == "cuda" else None
        try:
            with torch.cuda.stream(stream):
                program, count = self.engine.program, next(iter(self.shapes.values()))[0]
                if self.ran != self.shapes:
                    for _ in range(WARM_UPS):
                        program.run({name: self._view(name, count) for name in program.inputs})
                    self.ran = dict(self.shapes)
                hear = self._tell(handle) if self.listener is not None and self.debugging else None
                found = program.run({name: self._view(name, count) for name in program.inputs}, hear)
                for name, values in found.items():
                    self._view(name, count).copy_(values)
        except RuntimeError as error:
            self.engine.logger.log(ILogger.ERROR, f"PyTorch: {error}")
            return False
        return True

    def _view(self, name: str, count: int) -> torch.Tensor:
        """The memory of an input or output as a tensor; made once, since a recording may not ask the driver for it."""
        shape, dtype = self.engine.program.ports[name]
        key = (name, self.addresses[name], count)
        if key not in self.views:
            self.views[key] = tensor_at(self.addresses[name], (count, *shape[1:]), dtype)
        return self.views[key]

    def _tell(self, handle: int) -> Any:
        wanted = set(self.engine.settings.get("debug") or ())

        def hear(name: str, values: torch.Tensor) -> None:
            if name in wanted:
                values = values.contiguous()
                kind = NAMES[values.dtype]
                place = capsule(values.data_ptr())
                self.listener.process_debug_tensor(place, "device", kind, values.shape, name, handle)

        return hear


class Program:
    """An ONNX as calls of PyTorch.

    Attributes:
        ports: name -> shape (-1: any) and type, of inputs and outputs in order.
        inputs: their names.
    """

    def __init__(self, model: bytes) -> None:
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
        kinds = {each.name: each.type.tensor_type for each in (*graph.input, *graph.value_info, *graph.output)}
        ends = [each.name for each in (*graph.input, *graph.output)]
        self.ports = {
            name: (tuple(size.dim_value or -1 for size in kinds[name].shape.dim), TYPES[kinds[name].elem_type])
            for name in ends
        }
        self.inputs = [each.name for each in graph.input]
        self.outputs = [each.name for each in graph.output]
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        self.attributes = [
            {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute} for node in self.nodes
        ]
        self.types = {name: TYPES[kind.elem_type] for name, kind in kinds.items() if kind.elem_type in TYPES}
        arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                arrays[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        self.constants = {name: torch.from_numpy(array.copy()).to(DEVICE) for name, array in arrays.items()}
        self.numbers = {
            name: array.reshape(-1).tolist()
            for name, array in arrays.items()
            if array.dtype in (np.int64, np.int8) or array.size <= 4
        }

    def run(self, feeds: dict[str, torch.Tensor], hear: Any = None) -> dict[str, torch.Tensor]:
        """The outputs; `hear` is called with each tensor's name and values as it is made."""
        values = {**self.constants, **feeds}
        for node, attributes in zip(self.nodes, self.attributes, strict=True):
            given = [values[name] if name else None for name in node.input]
            if node.op_type not in OPERATIONS:
                raise RuntimeError(f"{node.op_type} ({node.name}) is not among the operations of this stand-in")
            numbers = [self.numbers.get(name) for name in node.input]
            found = OPERATIONS[node.op_type](attributes, given, numbers)
            kept = node.op_type == "DequantizeLinear"  # in float32, though it may be called float16
            for name, each in zip(node.output, [found] if isinstance(found, torch.Tensor) else found, strict=True):
                values[name] = each if kept else each.to(self.types.get(name, each.dtype))
                if hear is not None:
                    hear(name, values[name])
        return {name: values[name] for name in self.outputs}


def tensor_at(address: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Memory as a tensor."""
    if DEVICE == "cpu":
        nbytes = int(np.prod(shape)) * dtype.itemsize
        return torch.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), dtype=dtype).reshape(shape)
    letters = {torch.float32: "<f4", torch.float16: "<f2"}[dtype]
    interface = {"data": (address, False), "shape": shape, "typestr": letters, "version": 3}
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=interface), device=DEVICE)


add_builder(sys.modules[__name__], SimpleNamespace(wrong_layers=None))  # type: ignore[arg-type]
