"""Do two ways to compute one network agree? Heat maps by their rms, key points where a peak is clear of all others."""

from __future__ import annotations

import numpy as np

from edgepose.backends import Backend

# Heat maps against the CPU's, rms by rms; chosen before any run on a GPU. FP32 may be TF32 there. INT8's levels tip
# over where activations differ by rounding, with random weights so often that the CPU's own maps tell how far they may
# differ: so many times what they move by when the crops are rounded as FP16 does.
LARGEST_RELATIVE = {"fp32": 0.01, "fp16": 0.02, "int8": 0.05}
TIMES_ROUNDING = 3
HALF_ROUNDING = 2**-11  # relative, of FP16
NEAR = 2  # heat-map px: a peak's own neighbourhood
CLEAR = 4  # times the heat maps' largest difference: so much higher is a clear peak than all that is not near it


def largest_relative(reference: Backend, crops: np.ndarray, heatmaps: np.ndarray) -> float:
    """How far heat maps may be off the reference's, as a share of their rms; `heatmaps` are the reference's."""
    by_rounding = relative_error(reference.heatmaps(rounded(crops)), heatmaps)
    return largest_of(reference.passport.precision, by_rounding)


def rounded(crops: np.ndarray) -> np.ndarray:
    """Crops off by as much as FP16 rounds, at random but the same each time."""
    rounding = np.random.default_rng(0).normal(0, HALF_ROUNDING, crops.shape).astype(np.float32)
    return np.asarray(crops * (1 + rounding))


def largest_of(precision: str, by_rounding: float) -> float:
    """How far values of a precision may be off, given how far rounded crops move them; shares of their rms."""
    return max(LARGEST_RELATIVE[precision], TIMES_ROUNDING * by_rounding)


def relative_error(heatmaps: np.ndarray, reference: np.ndarray) -> float:
    """Rms of the difference over the reference's."""
    return float(np.sqrt(np.mean((heatmaps - reference) ** 2) / np.mean(reference**2)))


def clear_peaks(heatmaps: np.ndarray, margin: float) -> np.ndarray:
    """(N, K) bool: maps (N, K, h, w) whose peak is higher by `margin` than all that is farther than NEAR px from it."""
    count, points, height, width = heatmaps.shape
    index = heatmaps.reshape(count, points, -1).argmax(axis=-1)[..., None, None]
    far = (np.abs(np.arange(width) - index % width) > NEAR) | (
        np.abs(np.arange(height)[:, None] - index // width) > NEAR
    )
    others = np.where(far, heatmaps, -np.inf).max(axis=(2, 3))
    return np.asarray(heatmaps.max(axis=(2, 3)) - others > margin)
