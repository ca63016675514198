"""Non-maximum suppression: of boxes that overlap, the best stays."""

from __future__ import annotations

import numpy as np

from edgepose.stages.similarity import box_iou

MOST = 1000  # candidates that are compared: a bad detector gives tens of thousands


def suppress(boxes_xyxy: np.ndarray, scores: np.ndarray, iou: float, most: int = MOST) -> np.ndarray:
    """Choose boxes, best first; a chosen box rules out every box of a lower score that overlaps it by more than `iou`.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,). Of equal scores the first in memory is the better.
        iou: largest intersection over union of two chosen boxes, 0 to 1.
        most: how many of the best boxes are looked at; the others are dropped.

    Returns:
        (M,) int64, the chosen boxes' indices.
    """
    boxes_xyxy = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")[:most]
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[box_iou(boxes_xyxy[best][None], boxes_xyxy[order])[0] <= iou]
    return np.array(kept, np.int64)
