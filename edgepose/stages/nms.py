"""Non-maximum suppression: of boxes that overlap, the best stays."""

from __future__ import annotations

import numpy as np

from edgepose.stages.similarity import box_iou

MOST = 1000  # candidates that are compared; a bad detector's tens of thousands end here


def suppress(boxes_xyxy: np.ndarray, scores: np.ndarray, iou: float, most: int = MOST) -> np.ndarray:
    """The boxes that stay, best first: each drops those of a lower score that overlap it by more than `iou`.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,); of equal ones the first in memory is the better.
        most: only so many of the best are looked at.

    Returns:
        (M,) int64, indices of the boxes.
    """
    boxes_xyxy = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")[:most]
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[box_iou(boxes_xyxy[best][None], boxes_xyxy[order])[0] <= iou]
    return np.array(kept, np.int64)
