"""What INT8 in each layer and each tensor does to the key points: that one alone, and all but that one.

Variants share most of their arithmetic with the network in FP32, or with the one wholly in INT8, so those two are run
once and their activations kept; of a variant only what its change reaches is computed (`partial`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx

from edgepose.calibration.effects import Difference, Effect, crossed_tensors, effects, outputs_of
from edgepose.calibration.mixes import Ground, quantise
from edgepose.calibration.partial import Activations, run_tapped
from edgepose.calibration.qdq import insert_pairs, quantised_inputs
from edgepose.calibration.seen import TensorSeen, TensorValues
from edgepose.io.watching import Watch, unwatched
from edgepose.model.spec import ModelSpec

KEPT_BYTES = 2 << 30  # of activations at a time

Variants = dict[str, Callable[[], onnx.ModelProto]]


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
    """

    whole: Effect
    layers: dict[str, Sensitivity]
    reads: dict[str, str]
    tensors: dict[str, Sensitivity]
    seen: dict[str, TensorSeen]
    crops: int
    keypoints: int


def sensitivities(
    ground: Ground, crops: Sequence[np.ndarray], spec: ModelSpec, watch: Watch = unwatched
) -> Sensitivities:
    """Of every layer of `ground` and every tensor with a pair, on crops (1, 3, H, W) float32, at least one."""
    model, whole = ground.model, quantise(ground, ground.layers)
    places = quantised_inputs(model, ground.layers)
    only: Variants = {f"layer {name}": partial(quantise, ground, [name]) for name in ground.layers}
    only |= {
        f"tensor {name}": partial(insert_pairs, model, ground.ranges, {name: readers}, ())
        for name, readers in places.items()
    }
    rest: Variants = {
        f"layer {name}": partial(quantise, ground, [each for each in ground.layers if each != name])
        for name in ground.layers
    }
    rest |= {f"tensor {name}": partial(quantise, ground, ground.layers, [name]) for name in places}
    alone, others = ({name: Difference(spec) for name in only} for _ in range(2))
    values = {name: TensorValues(ground.ranges[name]) for name in places}
    everywhere = Difference(spec)
    for index, count, chunk in _chunks(model, crops, [*places, *crossed_tensors(model)]):
        said = f" ({index + 1} of {count})" if count > 1 else ""
        base = Activations(model, chunk, [*places, *crossed_tensors(model)])
        for name, tensor in values.items():
            for known in base.values:
                tensor.add(known[name])
        exact = outputs_of(base)
        effects(base, model, only, exact, alone, step=f"each alone in INT8{said}", watch=watch)
        base = Activations(whole, chunk, [*places, *crossed_tensors(whole)])  # in place of the other: memory
        for wanted, rounded in zip(exact, outputs_of(base), strict=True):
            everywhere.add(wanted, rounded)
        effects(base, whole, rest, exact, others, step=f"all but each in INT8{said}", watch=watch)
    found = {name: Sensitivity(alone[name].effect(), others[name].effect()) for name in only}
    return Sensitivities(
        everywhere.effect(),
        {name: found[f"layer {name}"] for name in ground.layers},
        {name: _read_by(ground, name) for name in ground.layers},
        {name: found[f"tensor {name}"] for name in places},
        {name: tensor.seen() for name, tensor in values.items()},
        len(crops),
        everywhere.keypoints,
    )


def layer_noises(
    ground: Ground, crops: Sequence[np.ndarray], spec: ModelSpec, watch: Watch = unwatched
) -> dict[str, float]:
    """The noise that INT8 in each layer alone makes in the outputs, on crops (1, 3, H, W) float32, at least one."""
    variants: Variants = {name: partial(quantise, ground, [name]) for name in ground.layers}
    tallies = {name: Difference(spec) for name in variants}
    wanted = [*quantised_inputs(ground.model, ground.layers), *crossed_tensors(ground.model)]
    for _, _, chunk in _chunks(ground.model, crops, wanted):
        base = Activations(ground.model, chunk, wanted)
        effects(base, ground.model, variants, outputs_of(base), tallies, step="trying layers", watch=watch)
    return {name: each.effect().noise for name, each in tallies.items()}


def _read_by(ground: Ground, layer: str) -> str:
    """The tensor whose pair a layer reads: its input, or what was handed on to it."""
    return next(iter(quantised_inputs(ground.model, [layer])))


def _chunks(
    model: onnx.ModelProto, crops: Sequence[np.ndarray], tensors: Sequence[str]
) -> Iterator[tuple[int, int, Sequence[np.ndarray]]]:
    """Crops in groups whose tensors fit in KEPT_BYTES: each group's index, the number of groups, the crops."""
    first: Mapping[str, np.ndarray] = run_tapped(model, [{model.graph.input[0].name: crops[0]}], tensors)[0]
    size = max(1, KEPT_BYTES // max(1, sum(value.nbytes for value in first.values())))
    starts = range(0, len(crops), size)
    for index, start in enumerate(starts):
        yield index, len(starts), crops[start : start + size]
