"""How good poses are: PCK, PCKh, and how far key points of two models are apart. Positions are in image px."""

from __future__ import annotations

import numpy as np


def hit_rate(xy: np.ndarray, true_xy: np.ndarray, labelled: np.ndarray, reach: np.ndarray) -> tuple[float | None, int]:
    """The share of labelled key points found within each person's reach, and how many were counted.

    Args:
        xy, true_xy: (N, K, 2).
        labelled: (N, K) bool: which true positions exist.
        reach: (N,) px: 0.2 torso lengths for PCK@0.2, half a head for PCKh@0.5; people whose reach is
            NaN or 0 are left out.

    Returns:
        The share (None where nothing can be counted), and the count.
    """
    counted = labelled & (np.nan_to_num(reach) > 0)[:, None]
    total = int(counted.sum())
    if total == 0:
        return None, 0
    distance = np.linalg.norm(xy - true_xy, axis=2)
    hits = np.nan_to_num(distance, nan=np.inf) <= np.nan_to_num(reach)[:, None]
    return float((hits & counted).sum() / total), total


def shift_summary(shift_px: np.ndarray) -> dict[str, float | int] | None:
    """Mean, 95th percentile and maximum of distances (N,), and the share over 1 px; None for N = 0."""
    if len(shift_px) == 0:
        return None
    return {
        "mean": float(shift_px.mean()),
        "p95": float(np.percentile(shift_px, 95)),
        "max": float(shift_px.max()),
        "share_over_1": float((shift_px > 1).mean()),
        "keypoints": len(shift_px),
    }
