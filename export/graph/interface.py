"""A graph's interface: opset, names and shapes of its input and output, and nothing that differs between runs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from edgepose.errors import ExportError
from edgepose.model.spec import ModelSpec

OPSET = 19  # the first in which QuantizeLinear takes float16 scales; TensorRT 10.3 reads up to 20
IR_VERSION = 9  # the one that belongs to opset 19; ONNX Runtime 1.18 reads up to 10
INPUT, OUTPUT, BATCH = "crops", "heatmaps", "n"


def set_interface(model: onnx.ModelProto, spec: ModelSpec, batch: int | str = BATCH) -> None:
    """Declare the shapes of inputs and outputs, which are in the spec's order; the batch is dynamic or a number."""
    values = (*model.graph.input, *model.graph.output)
    for value, shape in zip(values, (*spec.inputs.values(), *spec.outputs.values()), strict=True):
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, (batch, *shape)))


def normalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without what means nothing and differs between runs: notes, inner shapes, the producer."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = IR_VERSION
    result.producer_name, result.producer_version = "edgepose", ""
    result.doc_string, result.graph.doc_string, result.graph.name = "", "", "edgepose"
    del result.metadata_props[:]
    del result.graph.metadata_props[:]
    del result.graph.value_info[:]
    for index, node in enumerate(result.graph.node):
        node.doc_string = ""
        del node.metadata_props[:]
        node.name = node.name or f"{node.op_type}_{index}"  # messages and tables name nodes
    for tensor in result.graph.initializer:
        tensor.doc_string = ""
    return result


def rename_tensor(graph: onnx.GraphProto, name: str, new_name: str) -> None:
    """Give a tensor another name everywhere; whatever had that name before gets a longer one."""
    if name == new_name:
        return
    mapping = {name: new_name, new_name: f"{new_name}_inside"}
    for node in graph.node:
        for names in (node.input, node.output):
            for index, used in enumerate(names):
                names[index] = mapping.get(used, used)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = mapping.get(value.name, value.name)


def rename_tensors(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """As `rename_tensor`, of several tensors at once: two may change places."""
    for name in names:
        rename_tensor(graph, name, f"{name}_renamed")
    for name, new_name in names.items():
        rename_tensor(graph, f"{name}_renamed", new_name)


def to_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """From `OPSET` on Q/DQ pairs take float16 scales; older graphs are converted."""
    found = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if found >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter lets C++ exceptions of any type through
        raise ExportError(
            f"the graph is of opset {found} and cannot be brought to {OPSET} ({error}): export it anew at opset {OPSET}"
        ) from error
