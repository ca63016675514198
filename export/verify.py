"""Does the exported network compute what the checkpoint does? Compared in heat-map values and in key-point pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgepose.errors import ExportError
from edgepose.model.heads.simcc import SimCC
from edgepose.model.spec import ModelSpec

CONFIDENT = 0.3  # a key point's score from which on its position is held to the limits
CLEAR = 0.005  # share of a map's range by which a peak stands above its surroundings and above every other place
PEAK_WIDTH = 64  # networks of heat maps up to this size draw peaks a few px wide, of larger ones wider in proportion
FP32_LIMIT_PX = 1e-3
FP32_LIMIT_RELATIVE = 1e-4  # rounding in FP32 stays below 1e-5 for the networks of the zoo
FP16_LIMIT_PX = 0.25  # of a heat-map px: the step of the published decoder
FP16_LIMIT_RELATIVE = 0.1
RANDOM_VECTORS_LIMIT = 0.25  # of random SimCC vectors: RTMW-m's differ by 0.13, those of another network by 1 and more


Outputs = Sequence[np.ndarray] | np.ndarray  # in the spec's order; of one alone the array


@dataclass(frozen=True)
class Difference:
    """How far two networks' outputs are apart.

    Attributes:
        relative: largest difference of two values, as a share of the reference's largest value.
        px: largest distance between two positions of a clear and confident peak, px of the grid; 0 if there is none.
        peaks: how many peaks were clear and confident.
    """

    relative: float
    px: float
    peaks: int

    def entries(self, name: str) -> dict[str, float]:
        """For a passport's `verified`."""
        return {
            f"{name}_heatmap_relative": self.relative,
            f"{name}_keypoint_px": self.px,
            f"{name}_keypoints_compared": float(self.peaks),
        }


def compare(reference: np.ndarray, heatmaps: np.ndarray, num_keypoints: int) -> Difference:
    """Compare two (n, C, h, w) heat maps of the same crops.

    A peak is clear where it stands above its surroundings and above everything farther away by `CLEAR` of the
    map's range: its position then depends smoothly on the values, so that rounding cannot move it by a whole
    pixel. The position is that of a parabola through the peak and one place on either side, in x and in y.
    Of an output with offsets (3 channels a key point) the positions of the scores' peaks are compared.
    """
    if reference.shape != heatmaps.shape or not np.isfinite(heatmaps).all():
        return Difference(float("inf"), float("inf"), 0)
    relative = float(np.abs(reference - heatmaps).max() / max(float(np.abs(reference).max()), 1e-12))
    step = reference.shape[1] // num_keypoints
    maps, others = (values[:, ::step].reshape(-1, *values.shape[2:]) for values in (reference, heatmaps))
    clear = _clear_peaks(maps)
    distance = np.linalg.norm(_positions(maps[clear]) - _positions(others[clear]), axis=1)
    return Difference(relative, float(distance.max(initial=0.0)), int(clear.sum()))


def compare_outputs(reference: Outputs, found: Outputs, spec: ModelSpec) -> Difference:
    """Compare two networks' outputs on the same crops: heat maps by `compare`, vectors by `compare_vectors`."""
    wanted, others = ([each] if isinstance(each, np.ndarray) else list(each) for each in (reference, found))
    if not isinstance(spec.head, SimCC):
        return compare(wanted[0], others[0], spec.num_keypoints)
    pairs = [compare_vectors(*pair) for pair in zip(wanted, others, strict=True)]
    return Difference(
        max(pair.relative for pair in pairs),
        max(pair.px for pair in pairs) / spec.head.split_ratio,
        min(pair.peaks for pair in pairs),
    )


def compare_vectors(reference: np.ndarray, vectors: np.ndarray) -> Difference:
    """Compare two (n, K, L) SimCC vectors of the same crops, as `compare` does heat maps; px are bins."""
    if reference.shape != vectors.shape or not np.isfinite(vectors).all():
        return Difference(float("inf"), float("inf"), 0)
    relative = float(np.abs(reference - vectors).max() / max(float(np.abs(reference).max()), 1e-12))
    distances = []
    reach = max(1, reference.shape[2] // PEAK_WIDTH)
    for line, other in zip(
        *(each.reshape(-1, each.shape[2]).astype(float) for each in (reference, vectors)), strict=True
    ):
        at, there = int(line.argmax()), int(other.argmax())
        if not reach <= at < len(line) - reach or line[at] <= CONFIDENT:
            continue
        far = np.delete(line, slice(at - reach + 1, at + reach))
        if line[at] - far.max() > CLEAR * np.ptp(line):
            distances.append(abs(at + _vertex(line, at, reach) - there - _vertex(other, there, reach)))
    return Difference(relative, max(distances, default=0.0), len(distances))


def _clear_peaks(maps: np.ndarray) -> np.ndarray:
    """(m,) bool for (m, h, w) maps."""
    reach = _reach(maps)
    clear = np.zeros(len(maps), bool)
    for index, values in enumerate(maps):
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        around = values[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        if around.shape != (2 * reach + 1, 2 * reach + 1):
            continue  # at the border
        far = values.copy()
        far[y - reach : y + reach + 1, x - reach : x + reach + 1] = -np.inf
        beside = max(around[0, reach], around[-1, reach], around[reach, 0], around[reach, -1])
        margin = CLEAR * float(values.max() - values.min())
        clear[index] = values[y, x] > CONFIDENT and values[y, x] - max(beside, far.max()) > margin
    return clear


def _positions(maps: np.ndarray) -> np.ndarray:
    """(m, 2) x, y of the parabola through each map's peak; at the border, and where it is flat, the peak itself."""
    reach = _reach(maps)
    xy = np.zeros((len(maps), 2))
    for index, values in enumerate(maps.astype(np.float64)):
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        xy[index] = x + _vertex(values[y], int(x), reach), y + _vertex(values[:, x], int(y), reach)
    return xy


def _vertex(line: np.ndarray, at: int, reach: int) -> float:
    if not reach <= at < len(line) - reach:
        return 0.0
    before, here, after = line[at - reach], line[at], line[at + reach]
    bend = before - 2 * here + after
    return float(reach * (before - after) / (2 * bend)) if bend < 0 else 0.0


def _reach(maps: np.ndarray) -> int:
    """How far from a peak its surroundings are looked at, px."""
    return max(1, max(maps.shape[1:]) // PEAK_WIDTH)


def check_fp32(
    reference: Outputs, found: Outputs, spec: ModelSpec, what: str, *, exact: Callable[[], Outputs] | None = None
) -> Difference:
    """Compare a graph with the network it was made from.

    Args:
        exact: gives the network's outputs in double precision, for networks that magnify their own rounding (a norm
            divides by a token's length, which may be nearly 0): asked only where the graph is off.

    Raises:
        ExportError: it is off by more than rounding: 1e-3 heat-map px, or 1e-4 of the largest value; and, where the
            exact outputs are known, by more than twice what the network itself is.
    """
    try:
        return _check(reference, found, spec, what, FP32_LIMIT_PX, FP32_LIMIT_RELATIVE)
    except ExportError:
        if exact is None:
            raise
        truth = exact()
        own, its = compare_outputs(truth, reference, spec), compare_outputs(truth, found, spec)
        if not (its.px <= max(2 * own.px, FP32_LIMIT_PX) and its.relative <= 2 * own.relative):
            raise
    return compare_outputs(reference, found, spec)


def check_fp16(
    reference: Outputs, found: Outputs, spec: ModelSpec, what: str, *, random_weights: bool = False
) -> Difference:
    """Compare the FP16 graph with the FP32 one.

    Args:
        random_weights: the maps' peaks are ties that any rounding decides, so only the values are held to a limit; of
            SimCC vectors all together, in the root of the mean square, for RTMW's norms magnify single ones.

    Raises:
        ExportError: a clear, confident key point moves by more than 0.25 heat-map px, or a value by more than a
            tenth of the largest.
    """
    if random_weights and isinstance(spec.head, SimCC) and _root_mean_square(reference, found) <= RANDOM_VECTORS_LIMIT:
        return compare_outputs(reference, found, spec)
    limit_px = math.inf if random_weights else FP16_LIMIT_PX
    return _check(reference, found, spec, what, limit_px, FP16_LIMIT_RELATIVE)


def _root_mean_square(reference: Outputs, found: Outputs) -> float:
    """Of the differences, as a share of the reference's; of several outputs the largest."""
    wanted, others = ([each] if isinstance(each, np.ndarray) else list(each) for each in (reference, found))
    shares = [
        np.linalg.norm(a.astype(np.float64) - b) / max(float(np.linalg.norm(a.astype(np.float64))), 1e-12)
        for a, b in zip(wanted, others, strict=True)
    ]
    return float(np.max(shares))


def _check(
    reference: Outputs, found: Outputs, spec: ModelSpec, what: str, limit_px: float, limit_relative: float
) -> Difference:
    difference = compare_outputs(reference, found, spec)
    if not (difference.px <= limit_px and difference.relative <= limit_relative):  # NaN must fail as well
        raise ExportError(
            f"{what}: key points are off by up to {difference.px:.2g} {spec.grid_unit} (at most {limit_px:g}), "
            f"{spec.outputs_in_words} by {difference.relative:.2g} of their largest value "
            f"(at most {limit_relative:g}); no file was written"
        )
    return difference
