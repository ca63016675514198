"""TensorRT's parser and builder for the stand-in: an ONNX becomes a plan of it, each layer as the ONNX has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.fake_device.gpu import FakeGpu


class Kind(str):
    """A member of DataType."""

    @property
    def name(self) -> str:
        return str(self)


KINDS = {1: Kind("FLOAT"), 10: Kind("HALF"), 3: Kind("INT8")}  # onnx.TensorProto's numbers
LayerType = Enum("LayerType", "QUANTIZE DEQUANTIZE CONVOLUTION DECONVOLUTION MATRIX_MULTIPLY SHAPE SLICE SHUFFLE OTHER")
TYPES = {
    "QuantizeLinear": LayerType["QUANTIZE"],
    "DequantizeLinear": LayerType["DEQUANTIZE"],
    "Conv": LayerType["CONVOLUTION"],
}


def add_builder(trt: ModuleType, gpu: FakeGpu) -> None:
    """Give the stand-in's TensorRT a parser and a builder. gpu.wrong_layers are wrong in every plan it builds."""

    class OnnxParser:
        num_errors = 0

        def __init__(self, network: Network, logger: Any) -> None:
            self.network = network

        def parse(self, onnx: bytes) -> bool:
            self.network.read(onnx)
            return True

    class Builder:
        num_DLA_cores = 0

        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int) -> Network:
            assert flags == 1
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes:
            from tests.fake_device.trt import MAGIC

            batches = [profile.batches for profile in config.profiles]
            settings: dict[str, Any] = {"max_batch": batches[0][2] if batches else network.batch}
            settings |= {"alone": len(batches) > 1, "debug": network.debug, "wrong": gpu.wrong_layers}
            return MAGIC + json.dumps(settings).encode() + b"\n" + network.onnx

    for key, value in {
        "Builder": Builder,
        "OnnxParser": OnnxParser,
        "LayerType": LayerType,
        "NetworkDefinitionCreationFlag": SimpleNamespace(STRONGLY_TYPED=0),
        "IProgressMonitor": type("IProgressMonitor", (), {"__init__": lambda self: None}),
    }.items():
        setattr(trt, key, value)


class Profile:
    """IOptimizationProfile of one input."""

    def set_shape(self, name: str, least: Sequence[int], optimal: Sequence[int], most: Sequence[int]) -> None:
        self.batches = (least[0], optimal[0], most[0])


class Config:
    """IBuilderConfig."""

    def __init__(self) -> None:
        self.profiles: list[Profile] = []

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile)


class Network:
    """INetworkDefinition: one layer for each node of the ONNX."""

    def read(self, onnx: bytes) -> None:
        import onnx as onnx_package

        graph = onnx_package.shape_inference.infer_shapes(onnx_package.load_from_string(onnx)).graph
        types = {each.name: each.type.tensor_type for each in (*graph.input, *graph.value_info, *graph.output)}
        outputs = {each.name for each in graph.output}
        constants = {each.name: each for each in graph.initializer}
        self.onnx = onnx
        self.debug: list[str] = []

        def tensor(name: str) -> SimpleNamespace:
            if name in constants:
                sizes, number = list(constants[name].dims), constants[name].data_type
            elif name in types:
                sizes, number = [each.dim_value or -1 for each in types[name].shape.dim], types[name].elem_type
            else:
                sizes, number = [], 0
            dtype = KINDS.get(number)
            return SimpleNamespace(name=name, dtype=dtype, shape=tuple(sizes), is_network_output=name in outputs)

        self.inputs = [tensor(each.name) for each in graph.input]
        self.batch = self.inputs[0].shape[0]
        self.layers = [
            Layer(
                node.name,
                TYPES.get(node.op_type, LayerType["OTHER"]),
                [tensor(name) for name in node.input],
                [tensor(name) for name in node.output],
            )
            for node in graph.node
        ]

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Any:
        return self.inputs[index]

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def mark_debug(self, tensor: Any) -> bool:
        assert not tensor.is_network_output
        self.debug.append(tensor.name)
        return True


class Layer:
    """ILayer."""

    def __init__(self, name: str, kind: Any, inputs: list[Any], outputs: list[Any]) -> None:
        self.name, self.type, self.inputs, self.outputs = name, kind, inputs, outputs

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int) -> Any:
        return self.inputs[index]

    def get_output(self, index: int) -> Any:
        return self.outputs[index]


def with_outputs(onnx: bytes, names: Sequence[str]) -> bytes:
    """An ONNX that tells the values of more tensors."""
    import onnx as onnx_package

    model = onnx_package.load_from_string(onnx)
    model.graph.output.extend(onnx_package.ValueInfoProto(name=name) for name in names)
    return bytes(model.SerializeToString())


def with_wrong_layers(onnx: bytes, wrong: Mapping[str, float]) -> bytes:
    """An ONNX in which layers give a multiple of what they should: tensor -> factor."""
    import numpy as np
    import onnx as onnx_package

    model = onnx_package.load_from_string(onnx)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        for index, name in enumerate(node.output):
            if name in wrong:
                node.output[index] = f"{name}.right"
        model.graph.node.append(node)
        for name in [name.removesuffix(".right") for name in node.output if name.endswith(".right")]:
            factor = onnx_package.numpy_helper.from_array(np.float32(wrong[name]), f"{name}.factor")
            model.graph.initializer.append(factor)
            multiply = onnx_package.helper.make_node("Mul", [f"{name}.right", f"{name}.factor"], [name])
            model.graph.node.append(multiply)
    return bytes(model.SerializeToString())
