"""Places Q/DQ pairs by TensorRT's rules: symmetric INT8, zero point 0, weights per output channel, biases in float.

A pair goes on the input of every quantised convolution and on the skip of every residual addition, behind the
activation (never between Conv and ReLU, which TensorRT fuses), and before what only moves values (max pooling,
DepthToSpace, Slice, nearest Resize). The convolution of an addition hands its sums on as they are: TensorRT makes one
INT8 kernel of Conv, Add, ReLU and the next pair, and a pair between Conv and Add would force them apart (TensorRT
10.3, pytorch-quantization's ResNet and tensorflow-quantization's "Add Custom QDQ Insertion Case" place pairs so).
One tensor gets one pair, whoever reads it. The heat-map head stays in
float: an INT8 step of a heat map is 0.8 % of its peak, which makes plateaus and ties where the peak is sought.
Depthwise convolutions stay in float too: they are few of the operations and lose most by INT8, which makes them no
faster. A search within a budget (`choose`) measures what head and depthwise layers cost, and may have some in INT8.

Matrix products with constant weights (MatMul, Gemm) are layers like convolutions: a pair on their input, weights per
output column. Products of two activations, LayerNormalization, Softmax and the additions between transformer layers
stay in float: TensorRT has one kernel for an attention without pairs in it, and the sums carry what INT8 would round
away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgepose.export.graph.edit import arrays_of, attributes_of, copy_of, drop_unused, replace_nodes
from edgepose.export.graph.fp16 import FP16_MAX

PASSIVE = ("MaxPool", "DepthToSpace", "Slice")  # hand on the values of their first input
PRODUCTS = ("MatMul", "Gemm")
LEVELS = 127  # of [-127, 127]


def quantisable_layers(
    model: onnx.ModelProto, maps: Collection[int] = (), last: Collection[str] | None = None
) -> list[str]:
    """Names (the first output) of the layers to make INT8: all but depthwise convolutions and the heat maps' head.

    Args:
        last: names of the layers that are the head, where it makes boxes (`ending_of`); None: heat maps or vectors.
        maps: of a network of stages that read the maps of the stage before (OpenPose): how many maps a stage makes.
            The convolutions that make so many, in whichever stage, and those they read stay in float as well: an
            error there goes through all later stages, which sharpen it until it is a person.
    """
    arrays = arrays_of(model)
    head = (_head(model, arrays) if last is None else set(last)) | _map_makers(model, arrays, maps)
    return [
        node.output[0]
        for node in model.graph.node
        if node.output[0] not in head and is_layer(node, arrays.get(node.input[1]) if len(node.input) > 1 else None)
    ]


def all_layers(model: onnx.ModelProto) -> list[str]:
    """Names of all layers that INT8 can compute: `quantisable_layers`, depthwise convolutions and the head.

    A search that measures what each costs may have these, too.
    """
    arrays = arrays_of(model)
    return [
        node.output[0]
        for node in model.graph.node
        if len(node.input) > 1
        and (weight := arrays.get(node.input[1])) is not None
        and (is_layer(node, weight) or (node.op_type == "Conv" and _is_depthwise(node, weight)))
    ]


def is_layer(node: onnx.NodeProto, weight: np.ndarray | None) -> bool:
    """Whether a node is a convolution or a product with constant weights that INT8 is for."""
    if weight is None:
        return False
    if node.op_type == "Conv":
        return not _is_depthwise(node, weight)
    if node.op_type == "Gemm":
        values = attributes_of(node)
        return not values.get("transA", 0) and values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0
    return node.op_type == "MatMul" and weight.ndim == 2


def _is_depthwise(conv: onnx.NodeProto, weight: np.ndarray) -> bool:
    return int(attributes_of(conv).get("group", 1)) > 1 and weight.shape[1] == 1


def _head(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray]) -> set[str]:
    """The convolutions that make the graph's output, and those behind them that only smooth or enlarge heat maps.

    The latter read as many channels as the output has. Where the output is vectors (SimCC), the head is all from the
    convolution that makes a map for each key point: tokens, norms and products, which are few of the operations.
    A convolution that makes one channel is passed by: it adds up the distributions of YOLO's distances.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    for output in model.graph.output:
        shape = output.type.tensor_type.shape.dim
        channels = shape[1].dim_value if len(shape) > 1 else 0
        vectors = output.name.startswith("simcc_")
        waiting, seen = [output.name], set[str]()
        while waiting:
            name = waiting.pop()
            node = producers.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
                found.add(node.output[0])
                smooths = node.op_type == "Conv" and _channels_read(node, arrays) == channels
                one = node.op_type == "Conv" and len(arrays.get(node.input[1], ())) == 1
                adds_up = one and node.output[0] != output.name
                if not smooths and not adds_up and not (vectors and node.op_type in PRODUCTS):
                    continue
            waiting += node.input
    return found


def _map_makers(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray], maps: Collection[int]) -> set[str]:
    """The convolutions that make as many channels as there are maps, and the nearest ones that those read."""
    producers = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    for maker in model.graph.node:
        if maker.op_type != "Conv" or maker.input[1] not in arrays or len(arrays[maker.input[1]]) not in maps:
            continue
        found.add(maker.output[0])
        waiting = [maker.input[0]]
        while waiting:
            node = producers.get(waiting.pop())
            if node is None or node.op_type == "Concat":
                continue
            weight = arrays.get(node.input[1]) if node.op_type == "Conv" else None
            if weight is not None and not _is_depthwise(node, weight):
                found.add(node.output[0])
            else:
                waiting += [name for name in node.input if name not in arrays]
    return found


def _channels_read(conv: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> int:
    """0 where the weights are no constants."""
    weight = arrays.get(conv.input[1])
    return 0 if weight is None else weight.shape[1] * int(attributes_of(conv).get("group", 1))


def quantised_inputs(model: onnx.ModelProto, layers: Collection[str]) -> dict[str, list[tuple[str, int]]]:
    """Where the pairs go: tensor -> the (first output, input index) of the nodes that shall read it quantised.

    Args:
        model: a prepared graph.
        layers: names of the layers to quantise, from `quantisable_layers`.
    """
    constants = {item.name for item in model.graph.initializer}  # names alone: a search asks for every layer
    producers = {name: node for node in model.graph.node for name in node.output}
    readers = Counter(name for node in model.graph.node for name in node.input)
    places: dict[str, list[tuple[str, int]]] = {}
    for node in model.graph.node:
        if node.output[0] in layers:
            indices = [0]
        elif node.op_type == "Add":
            indices = _quantised_terms(node, producers, readers, layers, constants)
        else:
            continue
        for index in indices:
            reader, position = node, index
            while (source := producers.get(reader.input[position])) is not None and _hands_on(source):
                reader, position = source, 0
            place = (reader.output[0], position)
            if place not in places.setdefault(reader.input[position], []):
                places[reader.input[position]].append(place)
    return places


def _quantised_terms(
    add: onnx.NodeProto,
    producers: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, int],
    layers: Collection[str],
    constants: Collection[str],
) -> list[int]:
    """Which inputs of an addition get a pair: those that no INT8 convolution makes for it alone; of two such, one.

    None of an addition that has no INT8 convolution on either side, as it is or handed on, or that adds a constant.
    Where the convolution's values are handed on (HRNet's enlarged branches), no convolution can take the addition in;
    a sum that is made for it alone then stays as it is, so that all its additions are one kernel.
    """
    if any(name in constants for name in add.input):
        return []
    convolves = []
    for name in add.input:
        while (source := producers.get(name)) is not None and _hands_on(source):
            name = source.input[0]
        convolves.append(source is not None and source.op_type == "Conv" and source.output[0] in layers)
    if not any(convolves):
        return []
    alone = [producers[name].op_type if name in producers and readers[name] == 1 else "" for name in add.input]
    for index in (0, 1):
        if convolves[index] and alone[index] == "Conv":
            return [1 - index]
    return [index for index in (0, 1) if alone[index] != "Add"]


def _hands_on(node: onnx.NodeProto) -> bool:
    return node.op_type in PASSIVE or (node.op_type == "Resize" and attributes_of(node).get("mode", b"") == b"nearest")


def insert_qdq(
    model: onnx.ModelProto, ranges: Mapping[str, float], layers: Collection[str], without: Collection[str] = ()
) -> onnx.ModelProto:
    """A copy of a prepared graph in which `layers` compute in INT8.

    Args:
        model: FP32, from `prepare`.
        ranges: tensor -> the largest magnitude INT8 shall carry; every tensor of `quantised_inputs`.
        layers: names of the layers to quantise.
        without: tensors that get no pair: only for a study of what one pair does.
    """
    places = {name: where for name, where in quantised_inputs(model, layers).items() if name not in without}
    quantised = copy_of(model)
    graph, arrays = quantised.graph, arrays_of(model)
    graph.initializer.extend(pair_constants({name: ranges[name] for name in places}))
    ordered = []
    for node in with_pairs(graph.node, places, graph.input[0].name):
        if node.output[0] in layers:
            ordered.append(_quantise_weight(graph, node, arrays[node.input[1]]))
        ordered.append(node)
    replace_nodes(quantised, ordered)
    drop_unused(quantised)
    onnx.checker.check_model(quantised)
    return quantised


def with_pairs(
    nodes: Iterable[onnx.NodeProto], places: Mapping[str, Collection[tuple[str, int]]], taken: str
) -> list[onnx.NodeProto]:
    """Copies of a graph's nodes, with a pair on each tensor of `places`; `pair_constants` has what the pairs read.

    Args:
        taken: the graph's input.
    """
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    by_output = {node.output[0]: node for node in copies}
    pairs: dict[str, list[onnx.NodeProto]] = {}
    for tensor, readers in places.items():
        parameters = [f"{tensor}.step", "int8_zero"]
        pairs[tensor] = [
            helper.make_node("QuantizeLinear", [tensor, *parameters], [f"{tensor}.int8"], f"{tensor}.quantize"),
            helper.make_node(
                "DequantizeLinear", [f"{tensor}.int8", *parameters], [f"{tensor}.dq"], f"{tensor}.dequantize"
            ),
        ]
        for output, position in readers:
            by_output[output].input[position] = f"{tensor}.dq"
    ordered = list(pairs.get(taken, []))
    for node in copies:
        ordered.append(node)
        for name in node.output:
            ordered += pairs.get(name, [])
    return ordered


def pair_constants(ranges: Mapping[str, float]) -> list[onnx.TensorProto]:
    """What pairs on these tensors read: each one's step, and the zero point of all."""
    steps = {f"{tensor}.step": as_step(np.array(limit) / LEVELS) for tensor, limit in ranges.items()}
    return [
        numpy_helper.from_array(array, name) for name, array in {"int8_zero": np.array(0, np.int8), **steps}.items()
    ]


def pairs_beyond_fp16(quantised: onnx.ModelProto) -> list[str]:
    """Names of the QuantizeLinear and DequantizeLinear nodes whose largest level is no FP16 number."""
    arrays = arrays_of(quantised)
    return [
        node.name
        for node in quantised.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and LEVELS * arrays[node.input[1]].max() > FP16_MAX
    ]


def _quantise_weight(graph: onnx.GraphProto, layer: onnx.NodeProto, weight: np.ndarray) -> onnx.NodeProto:
    name = f"{layer.output[0]}.weight"
    axis = output_axis(layer)
    steps = weight_steps(weight, axis)
    values = _levels(weight, steps, axis)
    for suffix, array in (("int8", values), ("step", steps), ("zero", np.zeros(len(steps), np.int8))):
        graph.initializer.append(numpy_helper.from_array(array, f"{name}.{suffix}"))
    layer.input[1] = f"{name}.dq"
    inputs = [f"{name}.{suffix}" for suffix in ("int8", "step", "zero")]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], f"{name}.dequantize", axis=axis)


def output_axis(layer: onnx.NodeProto) -> int:
    """The axis of a layer's weight along which its outputs lie."""
    if layer.op_type not in PRODUCTS:
        return 0
    return 0 if attributes_of(layer).get("transB", 0) else 1


def weight_steps(weight: np.ndarray, axis: int = 0) -> np.ndarray:
    """The step of each output of a weight, along an axis: its largest magnitude over 127."""
    others = tuple(each for each in range(weight.ndim) if each != axis)
    return as_step(np.abs(weight).max(axis=others) / LEVELS)


def rounded(weight: np.ndarray, axis: int = 0) -> np.ndarray:
    """A weight as INT8 will hold it, in float32, with a step for each of its outputs along an axis."""
    steps = weight_steps(weight, axis)
    return _levels(weight, steps, axis) * _along(axis, steps, weight.ndim)


def _levels(weight: np.ndarray, steps: np.ndarray, axis: int) -> np.ndarray:
    return np.clip(np.rint(weight / _along(axis, steps, weight.ndim)), -LEVELS, LEVELS).astype(np.int8)


def _along(axis: int, steps: np.ndarray, ndim: int) -> np.ndarray:
    shape = [1] * ndim
    shape[axis] = -1
    return steps.reshape(shape)


def as_step(step: np.ndarray) -> np.ndarray:
    """float32 steps that FP16 holds exactly, so that rounding is done with the very step the file will carry.

    Of levels that FP16 does not hold, and whose pair stays in FP32, the steps are as they are.
    """
    step = np.maximum(step, 2.0**-20)
    held = np.minimum(step, FP16_MAX).astype(np.float16)
    return np.where(LEVELS * step > FP16_MAX, step, held).astype(np.float32)
