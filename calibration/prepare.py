"""Exact rewrites that make a graph quantise well: constants as initialisers, BatchNorm folded, no ConvTranspose.

A stride-2 4x4 ConvTranspose with padding 1 is a 2x2 convolution with four times the channels, one per output
phase, whose result is interleaved by DepthToSpace and cut by one pixel on each side. INT8 ConvTranspose is slow or
wrong in several runtimes; INT8 Conv is neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

OPSET = 19  # the first in which the steps of QuantizeLinear may be FP16
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")  # element by element, so they commute with DepthToSpace and Slice


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with constants as initialisers and BatchNorm folded into convolutions, in an opset with FP16 steps."""
    folded = copy_of(model)
    del folded.graph.value_info[:]
    constants_to_initializers(folded)
    folded = at_least_opset(folded, OPSET)
    fold_batchnorm(folded)
    drop_unused(folded)
    name_nodes(folded)
    onnx.checker.check_model(folded)
    return folded


def without_deconvolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a folded graph with Conv, DepthToSpace and Slice in the place of ConvTranspose."""
    rewritten = copy_of(model)
    rewrite_deconvolutions(rewritten)
    drop_unused(rewritten)
    name_nodes(rewritten)
    onnx.checker.check_model(rewritten)
    return rewritten


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Another model with the same contents."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def at_least_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """The model itself, or converted to this opset if its own is older."""
    current = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if current >= version:
        return model
    converted = version_converter.convert_version(model, version)
    converted.ir_version = max(converted.ir_version, 9)
    return converted


def arrays_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The initialisers by name."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def consumers_of(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each tensor; a node that reads one twice is listed once."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    return readers


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def replace_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Give the graph another list of nodes."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def name_nodes(model: onnx.ModelProto) -> None:
    """Name nodes that have no name, or another's, after their first output."""
    seen: set[str] = set()
    for node in model.graph.node:
        if not node.name or node.name in seen:
            node.name = node.output[0]
        seen.add(node.name)


def constants_to_initializers(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initialisers and leave Identity nodes out."""
    renamed: dict[str, str] = {}
    outputs = {item.name for item in model.graph.output}
    kept = []
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            model.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor), node.output[0]))
        elif node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    replace_nodes(model, kept)


def fold_batchnorm(model: onnx.ModelProto) -> None:
    """Fold each BatchNormalization into the Conv or ConvTranspose before it, where nothing else reads that."""
    arrays, readers = arrays_of(model), consumers_of(model)
    outputs = {item.name for item in model.graph.output}
    producers = {node.output[0]: node for node in model.graph.node}
    kept = []
    for node in model.graph.node:
        conv = producers.get(node.input[0]) if node.input else None
        foldable = (
            node.op_type == "BatchNormalization"
            and conv is not None
            and conv.op_type in ("Conv", "ConvTranspose")
            and len(readers[node.input[0]]) == 1
            and node.input[0] not in outputs
            and all(name in arrays for name in (*conv.input[1:], *node.input[1:5]))
        )
        if not foldable or conv is None:
            kept.append(node)
            continue
        scale, shift, mean, variance = (arrays[name].astype(np.float64) for name in node.input[1:5])
        factor = scale / np.sqrt(variance + float(attributes_of(node).get("epsilon", 1e-5)))
        weight = arrays[conv.input[1]].astype(np.float64)
        bias = arrays[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else 0.0
        if conv.op_type == "Conv":
            weight = weight * factor.reshape(-1, 1, 1, 1)
        else:  # (in, out / groups, h, w)
            groups = int(attributes_of(conv).get("group", 1))
            grouped = weight.reshape(groups, -1, *weight.shape[1:]) * factor.reshape(groups, 1, -1, 1, 1)
            weight = grouped.reshape(weight.shape)
        set_weights(model, conv, weight, (bias - mean) * factor + shift)
        conv.output[0] = node.output[0]
        producers[node.output[0]] = conv
    replace_nodes(model, kept)


def set_weights(model: onnx.ModelProto, conv: onnx.NodeProto, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give a convolution weights and a bias of its own, as float32 initialisers."""
    names = (f"{conv.output[0]}.folded_weight", f"{conv.output[0]}.folded_bias")
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name in names:  # of an earlier call
            del model.graph.initializer[index]
    for name, value in zip(names, (weight, bias), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    conv.input[:] = [conv.input[0], *names]


def rewrite_deconvolutions(model: onnx.ModelProto) -> None:
    """Replace each 4x4, stride 2, padding 1 ConvTranspose by Conv, DepthToSpace and Slice; the same values.

    An activation behind it moves to the Conv, where runtimes fuse it.
    """
    arrays, readers = arrays_of(model), consumers_of(model)
    rewritten: list[onnx.NodeProto] = []
    moved: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "ConvTranspose" or not _is_upsampling(node, arrays):
            if node.output[0] not in moved:
                rewritten.append(node)
            continue
        following = readers.get(node.output[0], [])
        activation = following[0] if len(following) == 1 and following[0].op_type in ACTIVATIONS else None
        if activation is not None:
            moved.add(activation.output[0])
        rewritten += _as_convolution(model, node, activation, arrays)
    replace_nodes(model, rewritten)


def _is_upsampling(node: onnx.NodeProto, arrays: dict[str, np.ndarray]) -> bool:
    values = attributes_of(node)
    wanted = {"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1], "output_padding": [0, 0]}
    plain = all(list(values.get(key, want)) == want for key, want in wanted.items())
    return (
        plain
        and "pads" in values
        and "strides" in values
        and "output_shape" not in values
        and values.get("auto_pad", b"NOTSET") == b"NOTSET"
        and all(name in arrays for name in node.input[1:])
        and arrays[node.input[1]].shape[2:] == (4, 4)
    )


def _as_convolution(
    model: onnx.ModelProto, node: onnx.NodeProto, activation: onnx.NodeProto | None, arrays: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    weight = arrays[node.input[1]]  # (in, out / groups, 4, 4)
    groups = int(attributes_of(node).get("group", 1))
    per_group = weight.reshape(groups, -1, *weight.shape[1:]).transpose(0, 2, 1, 3, 4)  # groups, out, in, 4, 4
    # Row p of the padded result takes taps (3, 1) for an odd and (2, 0) for an even row of the kernel, so that
    # DepthToSpace's phase 0 comes from kernel rows 2, 0 and phase 1 from rows 3, 1.
    taps = ([2, 0], [3, 1])
    kernels = np.stack([per_group[..., rows, :][..., columns] for rows in taps for columns in taps], axis=2)
    kernels = kernels.reshape(-1, per_group.shape[2], 2, 2)
    bias = arrays[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernels) // 4, np.float32)
    name, last = node.output[0], (activation or node).output[0]
    conv = helper.make_node(
        "Conv", [node.input[0]], [f"{name}.phases"], f"{node.name or name}.phases", pads=[1, 1, 1, 1], group=groups
    )
    set_weights(model, conv, kernels, np.repeat(bias, 4))
    nodes = [conv]
    if activation is not None:
        active = onnx.NodeProto()
        active.CopyFrom(activation)
        active.input[0], active.output[0] = conv.output[0], f"{name}.active"
        nodes.append(active)
    crop = {"starts": [1, 1], "ends": [-1, -1], "axes": [2, 3]}
    for key, value in crop.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"{name}.crop_{key}"))
    interleave = helper.make_node(
        "DepthToSpace", [nodes[-1].output[0]], [f"{name}.interleaved"], f"{name}.interleave", blocksize=2, mode="CRD"
    )
    crop_inputs = [interleave.output[0], *(f"{name}.crop_{key}" for key in crop)]
    return [*nodes, interleave, helper.make_node("Slice", crop_inputs, [last], f"{name}.crop")]


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove initialisers that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
