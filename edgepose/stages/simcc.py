"""SimCC vectors to key points and depths: the numpy reference of cuda/simcc.cu.

Rules and scores are mmpose v1's (`get_simcc_maximum`, `SimCCLabel.decode`, `flip_vectors`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from edgepose.model.heads.simcc import SimCC

MISSING = -1.0  # the bin of a key point that was not found, along every axis


def decode_simcc(x: np.ndarray, y: np.ndarray, head: SimCC) -> np.ndarray:
    """Find the highest bin of each vector.

    Args:
        x: (N, K, W') float32 or float16, bins along x. N may be 0.
        y: (N, K, H') of the same type, bins along y.

    Returns:
        (N, K, 3) float32 of x, y, score: x and y in px of the network's input (bin / split ratio), the score the
        smaller of both vectors' highest values. Of equal bins the lowest wins. A key point with a score of 0 or less
        was not found: its place is bin -1 on both axes. So is one with a NaN or with an infinite score; its score
        is 0.
    """
    _check(x, y)
    people, points, x_bins = x.shape
    rows, y_bins = people * points, y.shape[2]
    if rows == 0:
        return np.empty((people, points, 3), np.float32)
    first_x, first_y, places = _tables(rows, x_bins, y_bins, head.split_ratio)
    bin_x = x.reshape(rows, x_bins).argmax(1)
    bin_y = y.reshape(rows, y_bins).argmax(1)
    found = np.empty((3, rows), np.float32)  # contiguous rows: strided writes cost as much as all the rest
    places.take(bin_x, out=found[0], mode="clip")  # the other modes go through a copy
    places.take(bin_y, out=found[1], mode="clip")
    bin_x += first_x
    bin_y += first_y
    score = np.minimum(x.ravel().take(bin_x), y.ravel().take(bin_y), out=found[2])
    if not (score.item(score.argmin()) > 0 and score.item(score.argmax()) < math.inf):  # a NaN is both
        found[:2, ~((score > 0) & (score < np.inf))] = MISSING / np.float32(head.split_ratio)
        score[~np.isfinite(score)] = 0
    return found.T.reshape(people, points, 3)


@lru_cache(maxsize=64)
def _tables(rows: int, x_bins: int, y_bins: int, split_ratio: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each row of x and of y begins in memory, (rows,) each, and the place of each bin in px of the input."""
    tables = (
        np.arange(rows) * x_bins,
        np.arange(rows) * y_bins,
        np.arange(max(x_bins, y_bins)).astype(np.float32) * np.float32(1 / split_ratio),
    )
    for table in tables:
        table.flags.writeable = False
    return tables


def decode_depth(z: np.ndarray, keypoints: np.ndarray, head: SimCC) -> np.ndarray:
    """Depths of RTMW3D, relative to the person's root (mmpose's `SimCC3DLabel.decode`).

    Args:
        z: (N, K, D) float32 or float16, bins of the depth.
        keypoints: (N, K, 3), as `decode_simcc` found them on the same people.

    Returns:
        (N, K) float32, metres; 0 where the key point was not found or the vector has a NaN.
    """
    if z.shape != (*keypoints.shape[:2], head.depth_bins):
        raise ValueError(f"z must be {(*keypoints.shape[:2], head.depth_bins)}, got {z.shape}")
    bins = z.argmax(axis=2)  # of a NaN, if there is one
    depth = (bins / np.float64(head.depth_bins / 2) - 1) * np.float64(np.float32(head.depth_range))
    numbers = ~np.isnan(np.take_along_axis(z, bins[..., None], axis=2)[..., 0])
    return np.where((keypoints[..., 2] > 0) & numbers, depth, 0).astype(np.float32)


def merge_flipped_simcc(
    vectors: tuple[np.ndarray, np.ndarray], flipped: tuple[np.ndarray, np.ndarray], flip_order: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Average the vectors of crops with those of their mirror images: the published flip test.

    Args:
        vectors: (N, K, W') and (N, K, H') of the crops.
        flipped: the same of the mirrored crops, as the network gave them.
        flip_order: K; `Skeleton.flip_order`.

    Returns:
        (N, K, W') and (N, K, H') float32. Left and right key points change places, x is read backwards; nothing is
        shifted.
    """
    for found, other in zip(vectors, flipped, strict=True):
        if found.shape != other.shape:
            raise ValueError(f"vectors and those of the mirrored crops differ in shape: {found.shape}, {other.shape}")
    (x, y), (mirrored_x, mirrored_y) = vectors, flipped
    order = list(flip_order)
    half = np.float32(0.5)
    return (
        (x.astype(np.float32) + mirrored_x[:, order, ::-1]) * half,
        (y.astype(np.float32) + mirrored_y[:, order]) * half,
    )


def _check(x: np.ndarray, y: np.ndarray) -> None:
    same = x.ndim == y.ndim == 3 and x.shape[:2] == y.shape[:2] and x.dtype == y.dtype
    if not (same and x.dtype in (np.float32, np.float16) and x.shape[2] and y.shape[2]):
        raise ValueError(
            f"vectors must be (N, K, W') and (N, K, H') of float32 or float16, got {x.shape} {x.dtype} "
            f"and {y.shape} {y.dtype}"
        )
