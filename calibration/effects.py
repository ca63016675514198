"""What a change of a network does to its key points: how far they move, and the noise in its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edgepose.calibration.partial import THREADS, Outputs, PartialRuns
from edgepose.io.watching import Watch
from edgepose.model.spec import ModelSpec
from edgepose.stages.one_person import decode_outputs

CONFIDENT = 0.3  # score of the key points that are compared


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

    def join(self, other: Difference) -> None:
        """Count what the other has counted, too."""
        self._error += other._error
        self._signal += other._signal
        self._distance += other._distance
        self.keypoints += other.keypoints

    def effect(self) -> Effect:
        """0 and 0 if nothing could be compared."""
        noise = self._error / self._signal if self._signal else 0.0
        return Effect(self._distance / max(self.keypoints, 1), noise)


def differences(
    runs: PartialRuns,
    crops: Sequence[np.ndarray],
    exact: Sequence[Outputs],
    spec: ModelSpec,
    *,
    step: str,
    watch: Watch,
) -> dict[str, Difference]:
    """How each graph's outputs differ from FP32's, by name: a thread of its own computes each crop.

    Args:
        crops: (1, 3, H, W) float32 each.
        exact: FP32's outputs for each crop.
    """

    def of(crop: np.ndarray, wanted: Outputs) -> dict[str, Difference]:
        found = {name: Difference(spec) for name in runs.pieces}
        for name, outputs in runs.outputs(crop):
            found[name].add(wanted, outputs)
        return found

    total = {name: Difference(spec) for name in runs.pieces}
    with ThreadPoolExecutor(THREADS) as pool:
        try:  # in their order: sums are always the same
            for found in watch(step, pool.map(of, crops, exact), len(crops)):
                for name, each in found.items():
                    total[name].join(each)
        finally:  # of an interrupt
            pool.shutdown(cancel_futures=True)
    return total
