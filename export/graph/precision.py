"""Whether a graph is FP32: only such a one can be made FP16 or INT8."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from edgepose.errors import ModelFileError

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def refuse_lower_precision(model: onnx.ModelProto, path: Path) -> None:
    """ModelFileError where a graph is quantised or in half precision already, whoever did it."""
    if lower := _lower_precision(model):
        raise ModelFileError(
            f"{path} {lower}; wanted the FP32 file that it was made from: edgepose makes FP16 and INT8"
        )


def _lower_precision(model: onnx.ModelProto) -> str:
    """What in the graph is not FP32; empty if nothing is."""
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear") or "Integer" in node.op_type:
            return f"is quantised already ({node.op_type} {node.name})"
        if any(attribute.t.data_type in _HALF for attribute in node.attribute) or (
            node.op_type == "Cast" and onnx.helper.get_node_attr_value(node, "to") in _HALF
        ):
            return f"is in half precision already ({node.op_type} {node.name})"
    for tensor in model.graph.initializer:
        if tensor.data_type in _HALF:
            return f"is in half precision already (the weight {tensor.name})"
    return ""
