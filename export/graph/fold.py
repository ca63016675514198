"""Exact rewrites after which a graph is easy to quantise: weights as float initialisers, BatchNorm folded."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgepose.export.graph.edit import (
    arrays_of,
    at_least_opset,
    attributes_of,
    constants_to_initializers,
    consumers_of,
    copy_of,
    drop_unused,
    name_nodes,
    replace_nodes,
    set_weights,
)
from edgepose.export.graph.interface import OPSET


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with constants as initialisers and BatchNorm folded into convolutions, in an opset with FP16 steps."""
    folded = copy_of(model)
    del folded.graph.value_info[:]
    constants_to_initializers(folded)
    _widen_weights(folded)
    folded = at_least_opset(folded, OPSET)
    fold_batchnorm(folded)
    drop_unused(folded)
    name_nodes(folded)
    onnx.checker.check_model(folded)
    return folded


def _widen_weights(model: onnx.ModelProto) -> None:
    """Make weights that are stored in half precision, and cast where they are used, initialisers in single."""
    arrays = arrays_of(model)
    kept = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays and attributes_of(node)["to"] == TensorProto.FLOAT:
            widened = arrays[node.input[0]].astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(widened, node.output[0]))
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
