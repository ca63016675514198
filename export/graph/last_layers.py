"""Where a network of whole images ends: its last layers, and what computes positions from what they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgepose.export.graph.edit import arrays_of

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Ending:
    """The end of a graph.

    Attributes:
        layers: names (the first output) of the last layers with weights before each output.
        behind: names of the nodes between those and the outputs.
    """

    layers: list[str]
    behind: list[str]


def ending_of(model: onnx.ModelProto) -> Ending:
    """Find a graph's last layers.

    A layer whose weights are 0, 1, 2 and so on is none: it gives the mean of a distribution (Li et al., "Generalized
    Focal Loss", NeurIPS 2020), as PicoDet and YOLOv8 have it in their graphs.
    """
    arrays = arrays_of(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    layers: dict[str, None] = {}
    behind: dict[str, str] = {}
    waiting = [output.name for output in model.graph.output]
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.output[0] in behind:
            continue
        weight = arrays.get(node.input[1]) if node.op_type in LAYERS else None
        if node.op_type in LAYERS and not _counts(weight):
            layers[node.output[0]] = None
            continue
        behind[node.output[0]] = node.name
        waiting += node.input
    return Ending(list(layers), list(behind.values()))


def _counts(weight: np.ndarray | None) -> bool:
    return weight is not None and weight.size > 1 and np.array_equal(weight.ravel(), np.arange(weight.size))
