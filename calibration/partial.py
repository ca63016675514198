"""Compute of a changed graph only what the change reaches; the rest is taken from a run of the unchanged one.

With one layer of fifty in INT8, all before that layer is as it was. Trying each layer in turn costs half of running
whole networks, less where branches lie beside the layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgepose.export.graph.edit import copy_of


@dataclass(frozen=True)
class ChangedPart:
    """The part of a variant that differs from its base.

    Attributes:
        model: takes tensors of the base, gives the outputs that change.
        reads: tensors of the base that it takes.
        outputs: those of the variant that change.
    """

    model: onnx.ModelProto
    reads: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, known: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """The outputs that change, for each run of the base, whose tensors are known."""
        if not self.outputs:
            return [{} for _ in known]
        session = exact_session(self.model)
        found = (session.run(self.outputs, {name: values[name] for name in self.reads}) for values in known)
        return [dict(zip(self.outputs, values, strict=True)) for values in found]


def changed_part(base: onnx.ModelProto, variant: onnx.ModelProto) -> ChangedPart:
    """What of `variant` must be computed where all tensors of `base` are known.

    A node is unchanged if the base has the same node, with the same constants and only unchanged tensors to read.
    Tensors of the same name must mean the same in both, as in graphs that `insert_qdq` made of one graph.
    """
    known = {node.output[0]: node for node in base.graph.node}
    constants = {item.name: item for item in base.graph.initializer}
    changed = {item.name for item in variant.graph.initializer if constants.get(item.name) != item}
    kept = []
    for node in variant.graph.node:
        if changed.intersection(node.input) or known.get(node.output[0]) != node:
            changed.update(node.output)
            kept.append(node)
    made = {name for node in kept for name in node.output}
    read = dict.fromkeys(name for node in kept for name in node.input if name and name not in made)
    weights = [item for item in variant.graph.initializer if item.name in read]
    reads = tuple(name for name in read if name not in {item.name for item in weights})
    outputs = tuple(item.name for item in variant.graph.output if item.name in made)
    part = onnx.ModelProto(ir_version=variant.ir_version, opset_import=variant.opset_import)
    part.graph.name = variant.graph.name
    part.graph.node.extend(kept)
    part.graph.initializer.extend(weights)
    part.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in reads)
    part.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    return ChangedPart(part, reads, outputs)


class Activations:
    """Tensors of one graph for some inputs: those asked for first are computed in one run, others when they are wanted.

    Attributes:
        values: for each input, tensors by name; the graph's input and outputs are among them.
    """

    def __init__(self, model: onnx.ModelProto, crops: Sequence[np.ndarray], tensors: Collection[str]) -> None:
        """Run the graph on crops (1, 3, H, W) float32, at least one."""
        self._model = model
        self.outputs = [item.name for item in model.graph.output]
        self.values = run_tapped(
            model, [{model.graph.input[0].name: crop} for crop in crops], [*tensors, *self.outputs]
        )

    def with_tensors(self, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """The values, with these tensors among them."""
        missing = [name for name in names if name not in self.values[0]]
        if missing:
            taken = self._model.graph.input[0].name
            more = run_tapped(self._model, [{taken: values[taken]} for values in self.values], missing)
            self.values = [{**values, **found} for values, found in zip(self.values, more, strict=True)]
        return self.values


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
