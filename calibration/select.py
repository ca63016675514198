"""Choose crops that cover a set, and see how unlike two sets are, by what the network itself makes of them.

A crop's features are the means and the largest values of the channels that the last layer before the head reads, each
over its spread. Chosen are support points: crops whose energy distance to all of them is small (Mak and Joseph,
"Support points", Annals of Statistics 46, 2018; greedily, as in kernel herding, Chen, Welling and Smola, UAI 2010).
They lie where crops are many and few where they are few. Always the farthest crop (k-centre) chooses what is odd:
docs/decisions/int8.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import onnx

from edgepose.calibration.dataset import CalibrationSet, count_crops, crops_of
from edgepose.calibration.qdq import quantisable_layers, quantised_inputs
from edgepose.calibration.ranges import Probe
from edgepose.io.watching import Watch, unwatched
from edgepose.model.spec import ModelSpec

COMPARED = 100  # crops of each set
FEWEST = 20  # of each set, to compare them at all
UNLIKE = 0.03  # of `unlikeness`


def features_of(prepared: onnx.ModelProto, crops: Iterable[np.ndarray]) -> np.ndarray:
    """(N, F) float64 of crops (1, 3, H, W) float32; N may be 0."""
    layers = quantisable_layers(prepared)
    tensor = next(iter(quantised_inputs(prepared, layers[-1:])))
    probe = Probe(prepared, [tensor])
    rows = []
    for crop in crops:
        value = probe.run(crop)[tensor]
        places = tuple(range(2, value.ndim))
        rows.append(np.concatenate([value.mean(axis=places)[0], value.max(axis=places)[0]]))
    return np.array(rows, np.float64) if rows else np.zeros((0, 0))


def scaled(features: np.ndarray) -> np.ndarray:
    """(N, F) with each feature over its standard deviation; what never changes is 0."""
    spread = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(spread > 0, spread, np.inf)


def support_points(features: np.ndarray, count: int) -> list[int]:
    """Rows of (N, F) features, at most `count`, that stand for all, in the order in which they were chosen.

    Each new one lies near to all crops and far from those chosen before; of equally good ones the first is taken.
    """
    usual = np.array([np.linalg.norm(features - row, axis=1).mean() for row in features])
    taken = np.zeros(len(features))  # the sum of distances to those chosen
    chosen: list[int] = []
    while len(chosen) < min(count, len(features)):
        worth = usual - taken / (len(chosen) + 1)
        worth[chosen] = np.inf
        chosen.append(int(worth.argmin()))
        taken += np.linalg.norm(features - features[chosen[-1]], axis=1)
    return chosen


def covering(
    people: CalibrationSet, prepared: onnx.ModelProto, spec: ModelSpec, count: int, watch: Watch = unwatched
) -> CalibrationSet:
    """The set with `count` of the people who give its ranges, or all if there are no more: those that cover them."""
    crops = watch("choosing people", crops_of(people.fitting, spec), count_crops(people.fitting))
    rows = sorted(support_points(scaled(features_of(prepared, crops)), count))
    fitting, first = [], 0
    for image in people.fitting:
        inside = [row - first for row in rows if first <= row < first + len(image)]
        first += len(image)
        if inside:
            fitting.append(replace(image, boxes_xyxy=image.boxes_xyxy[inside]))
    held_out = tuple(fitting) if people.held_out == people.fitting else people.held_out
    return replace(people, fitting=tuple(fitting), held_out=held_out)


def unlikeness(one: np.ndarray, other: np.ndarray) -> float | None:
    """How unlike two sets of features (N, F) and (M, F) are: near 0 for halves of one set, 1 at most.

    The energy distance over twice the mean distance between the sets, without bias (Székely and Rizzo, "Energy
    statistics", Journal of Statistical Planning and Inference 143, 2013). None for less than 20 rows in either.
    """
    if min(len(one), len(other)) < FEWEST:
        return None
    both = scaled(np.concatenate([one[:COMPARED], other[:COMPARED]]))
    one, other = both[: len(one[:COMPARED])], both[len(one[:COMPARED]) :]
    across = _distances(one, other).mean()
    within = sum(_distances(part, part).sum() / (len(part) * (len(part) - 1)) for part in (one, other))
    return float((2 * across - within) / (2 * across)) if across > 0 else 0.0


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N, M) from (N, F) and (M, F)."""
    return np.stack([np.linalg.norm(other - row, axis=1) for row in one])
