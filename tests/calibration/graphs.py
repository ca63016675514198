"""Small ONNX graphs to quantise, built node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgepose.export.graph.deconvolutions import without_deconvolutions
from edgepose.export.graph.fold import fold
from edgepose.files import sha256_of
from edgepose.model.passport import Passport, write_passport
from edgepose.model.spec import ModelSpec
from tests.makers import make_spec


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """What calibration makes of a graph before it finds ranges, without equalising its channels."""
    return without_deconvolutions(fold(model))


class GraphMaker:
    """Collects nodes and random weights; each method returns the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def weight(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def int64(self, name: str, values: list[int]) -> str:
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def conv(self, x: str, name: str, shape: tuple[int, int, int, int], kind: str = "Conv", **attributes: Any) -> str:
        fan_in = np.prod(shape[1:]) if kind == "Conv" else shape[0] * 4 / attributes.get("group", 1)
        weight = self.weight(f"{name}.weight", self.rng.normal(0, np.sqrt(2 / fan_in), shape))
        return self.node(kind, [x, weight], name, **attributes)

    def batchnorm(self, x: str, name: str, channels: int) -> str:
        draw = self.rng.uniform
        values = (draw(0.5, 2, channels), draw(-1, 1, channels), draw(-1, 1, channels), draw(0.5, 2, channels))
        parameters = [self.weight(f"{name}.{i}", value) for i, value in enumerate(values)]
        return self.node("BatchNormalization", [x, *parameters], name)

    def model(self, shape: list[int | str], output: str, opset: int = 19, output_rank: int = 4) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "toy",
            [helper.make_tensor_value_info("crops", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", "k", "h", "w"][:output_rank])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)


def pose_network(seed: int = 0, opset: int = 19) -> onnx.ModelProto:
    """SimpleBaseline in small: stem, max pooling, a residual block, a downsampling, a deconvolution, a 1x1 head."""
    g = GraphMaker(seed)
    x = g.conv("crops", "stem", (8, 3, 7, 7), strides=[2, 2], pads=[3] * 4)
    x = g.node("Relu", [g.batchnorm(x, "stem_bn", 8)], "stem_relu")
    shortcut = g.node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = g.conv(shortcut, "first", (8, 8, 3, 3), pads=[1] * 4)
    x = g.node("Relu", [g.batchnorm(x, "first_bn", 8)], "first_relu")
    x = g.batchnorm(g.conv(x, "second", (8, 8, 3, 3), pads=[1] * 4), "second_bn", 8)
    x = g.node("Relu", [g.node("Add", [x, shortcut], "sum")], "sum_relu")
    x = g.node("Relu", [g.conv(x, "down", (16, 8, 3, 3), strides=[2, 2], pads=[1] * 4)], "down_relu")
    x = g.conv(x, "up", (16, 8, 4, 4), "ConvTranspose", strides=[2, 2], pads=[1] * 4)
    x = g.node("Relu", [g.batchnorm(x, "up_bn", 8)], "up_relu")
    bias = g.weight("head.bias", np.zeros(2))
    head = g.weight("head.weight", g.rng.normal(0, 0.3, (2, 8, 1, 1)))
    g.node("Conv", [x, head, bias], "heatmaps")
    return g.model(["n", 3, 64, 48], "heatmaps", opset)


def mobile_network(seed: int = 0) -> onnx.ModelProto:
    """An inverted residual with ReLU6 and channels of very different size, a depthwise deconvolution, a 1x1 head."""
    g = GraphMaker(seed)
    limits = [g.weight("low", np.array(0)), g.weight("high", np.array(6))]
    spread = np.geomspace(0.02, 1, 16).reshape(-1, 1, 1, 1)
    x = g.node("Relu", [g.conv("crops", "stem", (8, 3, 3, 3), strides=[4, 4], pads=[1] * 4)], "stem_relu")
    shortcut = g.conv(x, "narrow", (8, 8, 1, 1))
    expand = g.weight("expand.weight", spread * g.rng.normal(0, 1, (16, 8, 1, 1)))
    x = g.node("Clip", [g.node("Conv", [shortcut, expand], "expand"), *limits], "expand_clip")
    x = g.conv(x, "depthwise", (16, 1, 3, 3), pads=[1] * 4, group=16)
    x = g.node("Clip", [x, *limits], "depthwise_clip")
    x = g.node("Add", [shortcut, g.conv(x, "project", (8, 16, 1, 1))], "sum")
    x = g.node("Relu", [g.conv(x, "down", (8, 8, 3, 3), strides=[2, 2], pads=[1] * 4)], "down_relu")
    x = g.conv(x, "up", (8, 1, 4, 4), "ConvTranspose", strides=[2, 2], pads=[1] * 4, group=8)
    g.conv(g.node("Relu", [x], "up_relu"), "heatmaps", (2, 8, 1, 1))
    return g.model(["n", 3, 64, 48], "heatmaps")


def run(model: onnx.ModelProto, crops: np.ndarray, tensors: list[str] | None = None) -> list[np.ndarray]:
    """Outputs, or the named tensors, by ONNX Runtime without its optimisations."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    if tensors:
        del tapped.graph.output[:]
        tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: crops}))


def write_model(folder: Path, model: onnx.ModelProto, name: str = "toy.onnx", precision: str = "fp32") -> Path:
    """The model and its passport as files."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    write_passport(path, Passport(toy_spec(), precision, sha256_of(path), weights="toy"))
    return path


def toy_spec() -> ModelSpec:
    return make_spec(name="toy")


def toy_crops(count: int = 4, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 3, 64, 48)).astype(np.float32)
