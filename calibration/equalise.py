"""Cross-layer equalisation: channels of one tensor are brought to like sizes by scaling the weights around it.

A tensor has one INT8 step for all its channels, so a channel a hundred times smaller than the largest keeps two
levels. Where only operators that commute with a positive factor per channel lie between two convolutions, the first
one's output channel can be multiplied by a factor and the second one's input channel divided by it, and the network
computes the same (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019;
here by the sizes seen on calibration crops). An upper limit of ReLU6 does not commute; there the factors stay so
small that no channel reaches the limit where it did not before, on the crops seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from edgepose.calibration.statistics import ChannelStatistics
from edgepose.export.graph.deconvolutions import without_deconvolutions
from edgepose.export.graph.edit import arrays_of, attributes_of, copy_of, drop_unused, set_weights

COMMUTING = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Clip")
CONVOLUTIONS = ("Conv", "ConvTranspose")
USUAL_SHARE = 0.75  # of the crops, by the size of a channel's largest magnitude: the rest may be anything
STRENGTH = 0.75  # 1 makes all channels alike, at the cost of weights that are less so
LARGEST_FACTOR = 64.0


def channel_groups(model: onnx.ModelProto) -> dict[tuple[str, ...], float]:
    """Tensors that must have the same factors -> the lowest upper limit of the Clips among them (infinite if none).

    Groups that no factor may touch are left out: what the graph takes and gives, and what other operators read.
    """
    arrays = arrays_of(model)
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    frozen = {item.name for item in (*model.graph.input, *model.graph.output)}
    limits: dict[str, float] = {}
    for node in model.graph.node:
        data = [name for name in node.input if name and name not in arrays]
        if node.op_type in CONVOLUTIONS and len(data) == 1:
            continue  # its two sides are independent
        if not _commutes(node, len(data), arrays):
            frozen.update(data, node.output)
            continue
        if node.op_type == "Clip":
            limits[node.output[0]] = float(arrays[node.input[2]]) if len(node.input) > 2 else np.inf
        for name in data:
            leader[find(name)] = find(node.output[0])
    untouchable = {find(name) for name in frozen}
    groups: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.output:
            if find(name) not in untouchable:
                groups.setdefault(find(name), []).append(name)
    return {
        tuple(names): min((limits[name] for name in names if name in limits), default=np.inf)
        for names in groups.values()
    }


def _commutes(node: onnx.NodeProto, num_data: int, arrays: Mapping[str, np.ndarray]) -> bool:
    if node.op_type == "Add":
        return num_data == 2
    if node.op_type == "Clip":
        zero_low = len(node.input) > 1 and node.input[1] in arrays and float(arrays[node.input[1]]) == 0
        return zero_low and all(name in arrays for name in node.input[2:])
    return node.op_type in COMMUTING and num_data == 1


def find_factors(model: onnx.ModelProto, statistics: Mapping[str, ChannelStatistics]) -> dict[str, np.ndarray]:
    """The factor of each channel (C,) of each tensor in the groups.

    Args:
        model: folded, before deconvolutions are rewritten.
        statistics: of this model.
    """
    factors: dict[str, np.ndarray] = {}
    for names, limit in channel_groups(model).items():
        sizes = [statistics[name].largest for name in names if name in statistics]
        if sizes and len({size.shape for size in sizes}) == 1:
            factors |= dict.fromkeys(names, _factors_of(np.max(sizes, axis=0), limit))
    return factors


def _factors_of(sizes: np.ndarray, limit: float) -> np.ndarray:
    """(C,) from (crops, C) largest magnitudes."""
    usual = np.quantile(sizes, USUAL_SHARE, axis=0)
    usual = np.maximum(usual, 1e-3 * usual.max())
    if usual.max() == 0:
        return np.ones(sizes.shape[1])
    factors = np.minimum((usual.max() / usual) ** STRENGTH, LARGEST_FACTOR)  # 1 and above
    room = limit / np.maximum(sizes.max(axis=0), 1e-6)
    return np.clip(factors, 1.0, np.maximum(room, 1.0))


def scale_channels(model: onnx.ModelProto, factors: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy in which each tensor's channels are multiplied by its factors, and the heat maps are the same."""
    scaled = copy_of(model)
    arrays = arrays_of(model)
    for node in scaled.graph.node:
        inward, outward = factors.get(node.input[0]), factors.get(node.output[0])
        if node.op_type not in CONVOLUTIONS or node.input[1] not in arrays or (inward is None and outward is None):
            continue
        weight = arrays[node.input[1]].astype(np.float64)
        groups = int(attributes_of(node).get("group", 1))
        grouped = weight.reshape(groups, -1, *weight.shape[1:])  # (g, out, in, h, w); transposed: (g, in, out, h, w)
        transposed = node.op_type == "ConvTranspose"
        as_out, as_in = ((groups, 1, -1, 1, 1), (groups, -1, 1, 1, 1))[:: 1 if transposed else -1]
        if inward is not None:
            grouped = grouped / inward.reshape(as_in)
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        bias = arrays[node.input[2]].astype(np.float64) if len(node.input) > 2 else np.zeros(channels)
        if outward is not None:
            grouped, bias = grouped * outward.reshape(as_out), bias * outward
        set_weights(scaled, node, grouped.reshape(weight.shape), bias)
    drop_unused(scaled)
    return scaled


def equalised(folded: onnx.ModelProto, factors: Mapping[str, Sequence[float]]) -> onnx.ModelProto:
    """The graph that ranges belong to: a folded one with scaled channels, without deconvolutions."""
    return without_deconvolutions(scale_channels(folded, {name: np.array(values) for name, values in factors.items()}))
