"""What INT8 in each layer and each tensor does to the key points: that one alone, and all but that one.

Variants share most of their arithmetic with the network in FP32, or with the one wholly in INT8, so of each crop those
two are run first; of a variant only what its change reaches is computed (`partial`). Single tensors are tried on a
quarter of the crops: what a layer does says nearly the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgepose.calibration.effects import Difference, Effect, differences
from edgepose.calibration.mixes import Ground
from edgepose.calibration.partial import PartialRuns, run_tapped, segment_starts
from edgepose.calibration.qdq import quantised_inputs
from edgepose.calibration.seen import TensorSeen, TensorValues
from edgepose.calibration.variants import Variants
from edgepose.io.watching import Watch, unwatched
from edgepose.model.spec import ModelSpec

TENSOR_SHARE, TENSOR_CROPS = 4, 16  # one crop in four, and at least so many, show what single tensors do
WHOLE = ""  # among layers, the network wholly in INT8

Graphs = Mapping[str, onnx.ModelProto]


@dataclass(frozen=True)
class Sensitivity:
    """What INT8 does in one place.

    Attributes:
        only: with INT8 there alone.
        all_but: with INT8 everywhere else.
    """

    only: Effect
    all_but: Effect


@dataclass(frozen=True)
class Sensitivities:
    """What INT8 does in each place of a network, in the network's order.

    Attributes:
        whole: all layers in INT8.
        layers: by the layer's first output: its weights and what it reads.
        reads: the tensor whose pair a layer reads.
        tensors: by name: one pair alone, weights in float; and all but that pair.
        seen: the values of each of those tensors.
        crops, keypoints: how many it was measured on; without key points all shifts are 0.
        tensor_crops: on how many of these crops effects of tensors were measured.
    """

    whole: Effect
    layers: dict[str, Sensitivity]
    reads: dict[str, str]
    tensors: dict[str, Sensitivity]
    seen: dict[str, TensorSeen]
    crops: int
    tensor_crops: int
    keypoints: int


def sensitivities(
    ground: Ground, crops: Sequence[np.ndarray], spec: ModelSpec, watch: Watch = unwatched
) -> Sensitivities:
    """Of every layer of `ground` and every tensor with a pair, on crops (1, 3, H, W) float32, at least one."""
    layers, places = ground.layers, quantised_inputs(ground.model, ground.layers)
    variants = Variants(ground)
    none, whole = variants.graph(()), variants.graph(layers)
    starts = segment_starts(ground.model, layers)
    values = {name: TensorValues(ground.ranges[name]) for name in places}
    exact = []
    for known in watch("looking at tensors", run_tapped(ground.model, crops, list(places)), len(crops)):
        exact.append({item.name: known[item.name] for item in ground.model.graph.output})
        for name, tensor in values.items():
            tensor.add(known[name])

    def tried(base: onnx.ModelProto, graphs: Graphs, count: int, step: str) -> dict[str, Difference]:
        runs = PartialRuns(base, graphs, variants.constants, starts)
        return differences(runs, crops[:count], exact[:count], spec, step=step, watch=watch)

    only = {name: variants.graph([name]) for name in layers}
    rest = {name: variants.graph([each for each in layers if each != name]) for name in layers}
    alone = tried(none, {WHOLE: whole, **only}, len(crops), "each layer alone in INT8")
    others = tried(whole, rest, len(crops), "all but each layer in INT8")
    some = max(TENSOR_CROPS, len(crops) // TENSOR_SHARE)
    only = {name: variants.paired({name: readers}) for name, readers in places.items()}
    rest = {name: variants.graph(layers, [name]) for name in places}
    alone_tensors = tried(none, only, some, "each tensor alone in INT8")
    other_tensors = tried(whole, rest, some, "all but each tensor in INT8")
    return Sensitivities(
        alone[WHOLE].effect(),
        {name: Sensitivity(alone[name].effect(), others[name].effect()) for name in layers},
        {name: _read_by(ground, name) for name in layers},
        {name: Sensitivity(alone_tensors[name].effect(), other_tensors[name].effect()) for name in places},
        {name: tensor.seen() for name, tensor in values.items()},
        len(crops),
        min(some, len(crops)),
        alone[WHOLE].keypoints,
    )


def layer_noises(
    ground: Ground, crops: Sequence[np.ndarray], spec: ModelSpec, watch: Watch = unwatched
) -> dict[str, float]:
    """The noise that INT8 in each layer alone makes in the outputs, on crops (1, 3, H, W) float32, at least one."""
    variants = Variants(ground)
    graphs = {name: variants.graph([name]) for name in ground.layers}
    exact = list(run_tapped(ground.model, crops))
    exact = [{item.name: known[item.name] for item in ground.model.graph.output} for known in exact]
    runs = PartialRuns(variants.graph(()), graphs, variants.constants, segment_starts(ground.model, ground.layers))
    found = differences(runs, crops, exact, spec, step="trying layers", watch=watch)
    return {name: each.effect().noise for name, each in found.items()}


def _read_by(ground: Ground, layer: str) -> str:
    """The tensor whose pair a layer reads: its input, or what was handed on to it."""
    return next(iter(quantised_inputs(ground.model, [layer])))
