"""What share of a Q/DQ graph's multiply-adds is in INT8, whoever placed the pairs."""

from __future__ import annotations

import numpy as np
import onnx

from edgepose.export.graph.edit import arrays_of

HAND_ON = ("MaxPool", "DepthToSpace", "Slice", "Pad", "Reshape", "Transpose", "Identity", "Cast", "Resize")


def int8_share(model: onnx.ModelProto) -> float:
    """The share of the multiply-adds of convolutions and products whose two inputs come out of a Q/DQ pair.

    A pair may stand before what only moves values. Where shapes are not known the batch counts as one.
    """
    shaped = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
        for value in (*shaped.graph.value_info, *shaped.graph.input, *shaped.graph.output)
    }
    shapes |= {name: list(array.shape) for name, array in arrays_of(model).items()}
    producers = {name: node for node in model.graph.node for name in node.output}

    def is_rounded(name: str) -> bool:
        while (node := producers.get(name)) is not None and node.op_type in HAND_ON:
            name = node.input[0]
        return node is not None and node.op_type == "DequantizeLinear"

    total = quantised = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            continue
        weight = shapes[node.input[1]]
        if node.op_type == "Conv":  # each output sums a filter
            count = int(np.prod(shapes[node.output[0]])) * int(np.prod(weight[1:]))
        elif node.op_type == "ConvTranspose":  # each input spreads a filter
            count = int(np.prod(shapes[node.input[0]])) * int(np.prod(weight[1:]))
        else:
            turned = any(item.name == "transB" and item.i for item in node.attribute)
            count = int(np.prod(shapes[node.output[0]])) * (weight[-1] if turned else weight[-2])
        total += count
        quantised += count * all(map(is_rounded, node.input[:2]))
    return quantised / total
