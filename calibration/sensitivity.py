"""What each layer's INT8 does to the key points: only that layer in INT8, and all layers but that one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgepose.calibration.costs import NodeCost
from edgepose.calibration.mixes import Ground, quantise
from edgepose.calibration.partial import ChangedPart, changed_part, exact_session, run_tapped
from edgepose.calibration.qdq import quantised_inputs
from edgepose.calibration.ranges import BINS, Histogram
from edgepose.model.spec import ModelSpec
from edgepose.stages.one_person import decode_outputs
from edgepose.watching import Watch, unwatched

CONFIDENT = 0.3
KEPT_BYTES = 1 << 30  # of activations at a time
COLUMNS = 64  # of a histogram that is kept


@dataclass(frozen=True)
class LayerSensitivity:
    """What INT8 in one layer does. Layers stand in the order of the network.

    Attributes:
        name: the layer's first output; `reads`: the tensor that its pair is on.
        only_px: mean shift of confident key points from FP32's with this layer alone in INT8, input px.
        only_noise: power of the output maps' error then, over that of the maps about each map's mean.
        all_but_px, all_but_noise: with all layers but this one in INT8; None if that was not asked for.
        macs_share: of the network's multiply-adds.
        range, largest: what 127 stands for in `reads`, and the largest magnitude seen.
        clipped: the share of its values beyond the range.
        histogram: counts of magnitudes in 64 equal bins from 0 to `top`.
    """

    name: str
    reads: str
    only_px: float
    only_noise: float
    all_but_px: float | None
    all_but_noise: float | None
    macs_share: float
    range: float
    largest: float
    clipped: float
    histogram: tuple[int, ...]
    top: float

    @property
    def only_sqnr_db(self) -> float:
        """Signal to quantisation noise, dB; infinite where nothing changed."""
        return float(-10 * np.log10(self.only_noise)) if self.only_noise > 0 else float("inf")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerSensitivity:
        """Read what `to_json` wrote; TypeError on anything else."""
        return cls(**{**data, "histogram": tuple(data["histogram"])})


def layer_sensitivities(
    ground: Ground,
    crops: Sequence[np.ndarray],
    spec: ModelSpec,
    costs: Sequence[NodeCost],
    *,
    all_but: bool,
    watch: Watch = unwatched,
) -> list[LayerSensitivity]:
    """Of every layer of `ground`, on crops (1, 3, H, W) float32.

    Args:
        all_but: also leave each layer out of an INT8 network: as long again, or longer.
    """
    none, whole = ground.model, quantise(ground, ground.layers)
    only = {name: changed_part(none, quantise(ground, [name])) for name in ground.layers}
    others = {
        name: changed_part(whole, quantise(ground, [each for each in ground.layers if each != name]))
        for name in (ground.layers if all_but else ())
    }
    reads = {name: _tensor_of(ground, name) for name in ground.layers}
    tallies = {name: _Tally() for name in ground.layers}
    tensors = {name: _Values(ground.ranges[name]) for name in set(reads.values())}
    chunks = _chunks(crops, costs)
    outputs = [item.name for item in ground.model.graph.output]
    taken = ground.model.graph.input[0].name
    for index, chunk in enumerate(chunks):
        feeds = [{taken: crop} for crop in chunk]
        step = f"trying layers, part {index + 1} of {len(chunks)}"
        exact = run_tapped(none, feeds, [*outputs, *tensors, *(name for part in only.values() for name in part.reads)])
        rounded = (
            run_tapped(whole, feeds, [*outputs, *(name for part in others.values() for name in part.reads)])
            if all_but
            else exact
        )
        for name, values in tensors.items():
            values.add([each[name] for each in exact])
        for name in watch(step, ground.layers, len(ground.layers)):
            found = _outputs(only[name], exact, outputs)
            tallies[name].only.add(exact, found, outputs, spec)
            if all_but:
                tallies[name].others.add(exact, _outputs(others[name], rounded, outputs), outputs, spec)
    shares = {cost.name: cost.macs for cost in costs}
    total = max(sum(shares.values()), 1)
    return [
        LayerSensitivity(
            name,
            reads[name],
            tallies[name].only.shift_px,
            tallies[name].only.noise,
            tallies[name].others.shift_px if all_but else None,
            tallies[name].others.noise if all_but else None,
            shares.get(name, 0) / total,
            **tensors[reads[name]].summary(),
        )
        for name in ground.layers
    ]


def _tensor_of(ground: Ground, layer: str) -> str:
    """The tensor whose pair a layer reads: its input, or what was handed on to it."""
    return next(iter(quantised_inputs(ground.model, [layer])))


def _chunks(crops: Sequence[np.ndarray], costs: Sequence[NodeCost]) -> list[Sequence[np.ndarray]]:
    """Crops in groups whose activations, twice, fit in KEPT_BYTES."""
    count = max(1, KEPT_BYTES // max(1, 8 * sum(cost.values_out for cost in costs)))
    return [crops[start : start + count] for start in range(0, len(crops), count)]


def _outputs(
    part: ChangedPart, known: Sequence[Mapping[str, np.ndarray]], outputs: Sequence[str]
) -> list[dict[str, np.ndarray]]:
    """The outputs for each crop, where all that did not change is known."""
    unchanged = [{name: values[name] for name in outputs} for values in known]
    changed = [item.name for item in part.model.graph.output]
    if not changed:
        return unchanged
    session = exact_session(part.model)
    found = [session.run(changed, {name: values[name] for name in part.reads}) for values in known]
    return [
        {**before, **dict(zip(changed, after, strict=True))} for before, after in zip(unchanged, found, strict=True)
    ]


class _Difference:
    """Sums over crops of how one way to compute the outputs differs from FP32."""

    def __init__(self) -> None:
        self.error = self.signal = self.distance = 0.0
        self.keypoints = 0

    def add(
        self,
        exact: Sequence[Mapping[str, np.ndarray]],
        found: Sequence[Mapping[str, np.ndarray]],
        outputs: Sequence[str],
        spec: ModelSpec,
    ) -> None:
        for wanted, moved in zip(exact, found, strict=True):
            for name in outputs:
                self.error += float(((moved[name] - wanted[name]) ** 2).sum(dtype=np.float64))
                axes = tuple(range(2, wanted[name].ndim))
                centred = wanted[name] - wanted[name].mean(axis=axes, keepdims=True)
                self.signal += float((centred**2).sum(dtype=np.float64))
            before, after = (
                decode_outputs({name: each[name] for name in outputs}, spec)[0] for each in (wanted, moved)
            )
            confident = before[..., 2] > CONFIDENT
            distance = np.linalg.norm(before[..., :2] - after[..., :2], axis=-1)
            self.distance += float(distance[confident].sum()) * spec.image.size_hw[1] / spec.grid_hw[1]
            self.keypoints += int(confident.sum())

    @property
    def shift_px(self) -> float:
        return self.distance / max(self.keypoints, 1)

    @property
    def noise(self) -> float:
        return self.error / self.signal if self.signal else 0.0


class _Tally:
    def __init__(self) -> None:
        self.only, self.others = _Difference(), _Difference()


class _Values:
    """The values of one tensor over crops: a histogram up to the largest, and how many lie beyond its range."""

    def __init__(self, limit: float) -> None:
        self.limit, self.largest = limit, 0.0
        self.beyond = self.count = 0
        self.histograms: list[Histogram] = []

    def add(self, arrays: Sequence[np.ndarray]) -> None:
        for array in arrays:
            self.histograms.append(Histogram(array))
            self.beyond += int((np.abs(array) > self.limit).sum())
            self.count += array.size
        self.largest = max(self.largest, max((each.largest for each in self.histograms), default=0.0))

    def summary(self) -> dict[str, Any]:
        """The entries of LayerSensitivity that tell of a tensor."""
        top = max((each.top for each in self.histograms), default=0.0)
        counts = np.zeros(BINS, np.int64)
        for each in self.histograms:  # tops are powers of two: bins of a smaller one fall into one each of the larger
            if each.top:
                place = (np.arange(BINS) * (each.top / top)).astype(int)
                np.add.at(counts, place, each.counts)
        columns = counts.reshape(COLUMNS, -1).sum(axis=1)
        return {
            "range": float(self.limit),
            "largest": self.largest,
            "clipped": self.beyond / max(self.count, 1),
            "histogram": tuple(int(count) for count in columns),
            "top": top,
        }
