"""Compute of a changed graph only what the change reaches; the rest is taken from a run of the unchanged one.

With one layer of fifty in INT8, all before that layer is as it was. Trying each layer in turn costs half of running
whole networks, less where branches lie beside the layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgepose.calibration.variants import Constants, filled
from edgepose.export.graph.edit import copy_of


@dataclass(frozen=True)
class ChangedPart:
    """The part of a variant that differs from its base.

    Attributes:
        model: takes tensors of the base, gives the outputs that change; without constants.
        reads: tensors of the base that it takes.
        outputs: those of the variant that change.
    """

    model: onnx.ModelProto
    reads: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(
        self, constants: Constants, known: Sequence[Mapping[str, np.ndarray]], threads: int = 0
    ) -> list[dict[str, np.ndarray]]:
        """The outputs that change, for each run of the base, whose tensors are known; 0 threads: as many as fit."""
        if not self.outputs:
            return [{} for _ in known]
        session = exact_session(filled(self.model, constants), threads)
        found = (session.run(self.outputs, {name: values[name] for name in self.reads}) for values in known)
        return [dict(zip(self.outputs, values, strict=True)) for values in found]


def changed_part(base: onnx.ModelProto, variant: onnx.ModelProto, constants: Constants) -> ChangedPart:
    """What of `variant` must be computed where all tensors of `base` are known.

    A node is unchanged if the base has the same node, with only unchanged tensors to read. Constants and tensors of
    the same name must mean the same in both, as in graphs of one `Variants`.
    """
    known = {node.output[0]: node for node in base.graph.node}
    made: set[str] = set()
    kept = []
    for node in variant.graph.node:
        if made.intersection(node.input) or known.get(node.output[0]) != node:
            made.update(node.output)
            kept.append(node)
    read = dict.fromkeys(name for node in kept for name in node.input if name and name not in made)
    reads = tuple(name for name in read if name not in constants)
    outputs = tuple(item.name for item in variant.graph.output if item.name in made)
    part = onnx.ModelProto(ir_version=variant.ir_version, opset_import=variant.opset_import)
    part.graph.name = variant.graph.name
    part.graph.node.extend(kept)
    part.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in reads)
    part.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    return ChangedPart(part, reads, outputs)


def exact_session(model: onnx.ModelProto, threads: int = 0) -> Any:
    """An ONNX Runtime session in which Q/DQ pairs are what ONNX defines: no INT8 kernel takes their place."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_tapped(
    model: onnx.ModelProto, crops: Sequence[np.ndarray], tensors: Sequence[str] = ()
) -> Iterator[dict[str, np.ndarray]]:
    """Named tensors of a graph and its outputs for each crop (1, 3, H, W), which is there under the input's name."""
    taken = model.graph.input[0].name
    outputs = [item.name for item in model.graph.output]
    wanted = [name for name in dict.fromkeys([*tensors, *outputs]) if name != taken]
    tapped = copy_of(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    session = exact_session(tapped)
    for crop in crops:
        yield {taken: crop, **dict(zip(wanted, session.run(wanted, {taken: crop}), strict=True))}
