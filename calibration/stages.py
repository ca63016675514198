"""Which layers of a network of stages are made INT8: OpenPose's, where each stage reads the maps of the one before.

Besides the maps between the stages (`quantisable_layers`), two kinds of layers stay in float, few of the multiply-adds
and most of what INT8 does to people (docs/measurements/bottom_up.md): the first ones, which work on more pixels than
the maps have and whose errors every stage reads; and a small last stage, whose errors no later one corrects.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from edgepose.calibration.costs import node_costs
from edgepose.calibration.qdq import quantisable_layers

SMALL_STAGE = 0.1  # of all multiply-adds


def int8_layers(model: onnx.ModelProto, maps: Collection[int], maps_hw: tuple[int, int]) -> list[str]:
    """Names (the first output) of the layers to make INT8.

    Args:
        model: a prepared graph.
        maps: how many maps a stage makes, see `quantisable_layers`; empty: the network has no stages.
        maps_hw: their size.
    """
    layers = quantisable_layers(model, maps)
    if not maps:
        return layers
    last = _behind_the_last_maps(model) & set(layers)
    costs = node_costs(model)
    if sum(cost.macs for cost in costs if cost.name in last) >= SMALL_STAGE * sum(cost.macs for cost in costs):
        last = set()
    return [name for name in layers if name not in last | _on_more_pixels(model, maps_hw)]


def _behind_the_last_maps(model: onnx.ModelProto) -> set[str]:
    """What lies between the last joining of tensors (maps and features) and the outputs."""
    producers = {name: node for node in model.graph.node for name in node.output}
    outputs = {output.name for output in model.graph.output}
    found: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or name in found or (node.op_type == "Concat" and name not in outputs):
            continue
        found.add(name)
        waiting += node.input
    return found


def _on_more_pixels(model: onnx.ModelProto, maps_hw: tuple[int, int]) -> set[str]:
    """Outputs of nodes that are larger than the maps."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim][2:] for value in inferred.value_info
    }
    return {name for name, size in sizes.items() if len(size) == 2 and size[0] * size[1] > maps_hw[0] * maps_hw[1]}
