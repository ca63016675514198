"""How alike two poses or boxes are, and a pose's score as published accuracies count it.

Positions are in image px; a NaN position is far from everything.
"""

from __future__ import annotations

import numpy as np

RESCORE_ABOVE = (
    0.2  # key points below this do not count in a person's score: Microsoft's in_vis_thre, mmpose's keypoint_score_thr
)
SAME_PERSON_OKS = 0.9  # two poses more alike than this are one person
COUNTED = 20  # COCO counts an image's 20 surest poses


def rescore(scores: np.ndarray, box_scores: np.ndarray) -> np.ndarray:
    """(N,) person scores: the box's times the mean of its key points' scores above 0.2; 0 where none is above.

    Args:
        scores: (N, K) key-point scores.
        box_scores: (N,) detector scores; 1 for annotated boxes.
    """
    confident = scores > RESCORE_ABOVE
    total = np.where(confident, scores, 0).sum(axis=1, dtype=np.float64)
    return np.asarray(total / np.maximum(confident.sum(axis=1), 1) * box_scores)


def oks_between(
    xy: np.ndarray, area: float, others_xy: np.ndarray, other_areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """(N,) object key-point similarity of one pose (K, 2) with N others (N, K, 2).

    The mean over key points of exp(-d^2 / (2 (2 sigma)^2 area)), area the mean of both people's, px^2: what
    microsoft/human-pose-estimation.pytorch `oks_iou` compares predictions with.
    """
    squared = ((others_xy - xy) ** 2).sum(axis=2)  # (N, K)
    mean_area = (other_areas[:, None] + area) / 2 + np.spacing(1)
    exponent = squared / (2 * np.asarray(sigmas)) ** 2 / mean_area / 2
    return np.exp(-np.where(np.isfinite(exponent), exponent, np.inf)).mean(axis=1)


def oks_nms(
    xy: np.ndarray,
    person_scores: np.ndarray,
    areas: np.ndarray,
    sigmas: np.ndarray,
    *,
    threshold: float = SAME_PERSON_OKS,
    most: int = COUNTED,
) -> np.ndarray:
    """Indices of the poses kept, best first: of poses more alike than `threshold`, the one of the highest score.

    Stops at `most`: those after it change no figure, and thousands of poses in an image would take hours.

    Args:
        xy: (N, K, 2) poses of one image.
        person_scores: (N,); of equal ones the first is taken first.
        areas: (N,) px^2; the published protocol takes the padded box's.
    """
    left = np.argsort(-person_scores, kind="stable")
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[oks_between(xy[best], areas[best], xy[left], areas[left], sigmas) <= threshold]
    return np.array(kept, dtype=np.int64)


def box_iou(boxes_xyxy: np.ndarray, others_xyxy: np.ndarray) -> np.ndarray:
    """(N, M) intersection over union of boxes (N, 4) and others (M, 4)."""
    low = np.maximum(boxes_xyxy[:, None, :2], others_xyxy[None, :, :2])
    high = np.minimum(boxes_xyxy[:, None, 2:], others_xyxy[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)
    area, other_area = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (boxes_xyxy, others_xyxy))
    union = area[:, None] + other_area[None, :] - common
    return np.asarray(common / np.maximum(union, np.finfo(np.float64).tiny))
