"""What a change of a network does to its key points: how far they move, and the noise in its outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgepose.calibration.partial import Activations, changed_part
from edgepose.io.watching import Watch
from edgepose.model.spec import ModelSpec
from edgepose.stages.one_person import decode_outputs

CONFIDENT = 0.3  # score of the key points that are compared

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Effect:
    """Of a variant of a network, against FP32.

    Attributes:
        shift_px: mean distance of confident key points, input px.
        noise: power of the outputs' error over that of the outputs about each map's mean.
    """

    shift_px: float
    noise: float

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise, dB; infinite where nothing changed."""
        return float(-10 * np.log10(self.noise)) if self.noise > 0 else float("inf")


class Difference:
    """Sums over crops of how one way to compute the outputs differs from FP32.

    Attributes:
        keypoints: confident ones that were compared.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._error = self._signal = self._distance = 0.0
        self.keypoints = 0

    def add(self, wanted: Outputs, found: Outputs) -> None:
        """One crop's outputs by name, (1, ...) each."""
        for name, exact in wanted.items():
            self._error += float(((found[name] - exact) ** 2).sum(dtype=np.float64))
            centred = exact - exact.mean(axis=tuple(range(2, exact.ndim)), keepdims=True)
            self._signal += float((centred**2).sum(dtype=np.float64))
        before, after = (decode_outputs(outputs, self._spec)[0] for outputs in (wanted, found))
        confident = before[..., 2] > CONFIDENT
        distance = np.linalg.norm(before[..., :2] - after[..., :2], axis=-1)
        self._distance += float(distance[confident].sum()) * self._spec.image.size_hw[1] / self._spec.grid_hw[1]
        self.keypoints += int(confident.sum())

    def effect(self) -> Effect:
        """0 and 0 if nothing could be compared."""
        noise = self._error / self._signal if self._signal else 0.0
        return Effect(self._distance / max(self.keypoints, 1), noise)


def effects(
    base: Activations,
    model: onnx.ModelProto,
    variants: Mapping[str, Callable[[], onnx.ModelProto]],
    exact: Sequence[Outputs],
    tallies: Mapping[str, Difference],
    *,
    step: str,
    watch: Watch,
) -> None:
    """Add to `tallies` what each variant of one graph gives on some crops; only what a variant changes is computed.

    Args:
        base: activations of `model`, which the variants differ from in little.
        variants: by name; each is made when it is its turn.
        exact: FP32's outputs for each of the crops.
    """
    for name in watch(step, list(variants), len(variants)):
        part = changed_part(model, variants[name]())
        known = base.with_tensors(part.reads)
        for wanted, values, changed in zip(exact, known, part.run(known), strict=True):
            tallies[name].add(wanted, {each: changed.get(each, values[each]) for each in wanted})


def outputs_of(activations: Activations) -> list[dict[str, np.ndarray]]:
    """The graph's outputs for each of its inputs."""
    return [{name: values[name] for name in activations.outputs} for values in activations.values]


def crossed_tensors(model: onnx.ModelProto) -> Collection[str]:
    """Tensors that a changed part is likely to read: what several nodes read, and what nodes of several inputs read."""
    constants = {item.name for item in model.graph.initializer}
    data = [[name for name in node.input if name and name not in constants] for node in model.graph.node]
    readers: dict[str, int] = {}
    for names in data:
        for name in set(names):
            readers[name] = readers.get(name, 0) + 1
    joined = (name for names in data if len(names) > 1 for name in names)
    return dict.fromkeys([*joined, *(name for name, count in readers.items() if count > 1)])
