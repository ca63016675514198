"""Compute of a changed graph only what the change reaches; the rest is taken from a run of the unchanged one.

With one layer of fifty in INT8, all before that layer is as it was. Trying each layer in turn costs half of running
whole networks, less where branches lie beside the layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgepose.export.graph.edit import copy_of, drop_unused, replace_nodes


@dataclass(frozen=True)
class ChangedPart:
    """The part of a variant that differs from its base.

    Attributes:
        model: takes tensors of the base, gives the outputs that change.
        reads: tensors of the base that it takes.
    """

    model: onnx.ModelProto
    reads: tuple[str, ...]


def changed_part(base: onnx.ModelProto, variant: onnx.ModelProto) -> ChangedPart:
    """What of `variant` must be computed where all tensors of `base` are known.

    A node is unchanged if the base has the same node, with the same constants and only unchanged tensors to read.
    Tensors of the same name must mean the same in both, as in graphs that `insert_qdq` made of one graph.
    """
    known = {node.output[0]: node.SerializeToString() for node in base.graph.node}
    constants = {item.name: item.SerializeToString() for item in base.graph.initializer}
    changed = {item.name for item in variant.graph.initializer if constants.get(item.name) != item.SerializeToString()}
    kept = []
    for node in variant.graph.node:
        if changed.intersection(node.input) or known.get(node.output[0]) != node.SerializeToString():
            changed.update(node.output)
            kept.append(node)
    made = {name for node in kept for name in node.output}
    weights = {item.name for item in variant.graph.initializer}
    reads = tuple(
        dict.fromkeys(name for node in kept for name in node.input if name and name not in made and name not in weights)
    )
    part = copy_of(variant)
    replace_nodes(part, kept)
    drop_unused(part)
    outputs = [item.name for item in variant.graph.output if item.name in made]
    del part.graph.input[:], part.graph.output[:], part.graph.value_info[:]
    part.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in reads)
    part.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    return ChangedPart(part, reads)


def exact_session(model: onnx.ModelProto) -> Any:
    """An ONNX Runtime session in which Q/DQ pairs are what ONNX defines: no INT8 kernel takes their place."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_tapped(
    model: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]], tensors: Sequence[str]
) -> list[dict[str, np.ndarray]]:
    """Named tensors of a graph for each feed; those that the graph takes are among what can be named."""
    tapped = copy_of(model)
    taken = {item.name for item in model.graph.input}
    wanted = [name for name in dict.fromkeys(tensors) if name not in taken]
    if not wanted:
        return [dict(feed) for feed in feeds]
    del tapped.graph.output[:]
    tapped.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    session = exact_session(tapped)
    return [{**feed, **dict(zip(wanted, session.run(wanted, dict(feed)), strict=True))} for feed in feeds]
