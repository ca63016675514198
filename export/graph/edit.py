"""Small changes to a graph that the larger rewrites are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter


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


def set_weights(model: onnx.ModelProto, conv: onnx.NodeProto, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give a convolution weights and a bias of its own, as float32 initialisers."""
    names = (f"{conv.output[0]}.folded_weight", f"{conv.output[0]}.folded_bias")
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name in names:  # of an earlier call
            del model.graph.initializer[index]
    for name, value in zip(names, (weight, bias), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    conv.input[:] = [conv.input[0], *names]


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove initialisers that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
