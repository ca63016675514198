"""Figures of hands, faces and other sets of points that have no constants for OKS: PCK of the box, AUC, EPE and NME."""

from __future__ import annotations

import numpy as np

PCK_BOX = "PCK@0.2 box"
NAMES = (PCK_BOX, "AUC", "EPE px", "NME eyes", "NME box")
AUC_PX = 30
AUC_STEPS = 20


def point_figures(
    xy: np.ndarray, true_xy: np.ndarray, labelled: np.ndarray, box_wh: np.ndarray, eyes: np.ndarray | None = None
) -> dict[str, float | None]:
    """Score all labelled key points, as mmpose 1.x does for hands and faces (`keypoint_eval.py`).

    PCK@0.2 box: the share nearer than 0.2 of the box's longer side, first for each key point, then their mean. (mmpose
    itself takes the larger of the box's right and lower edge for the side, so the figures that it prints are higher.)
    AUC: the mean of such shares within 0, 1.5, 3, ... 28.5 px of the image, so 0.95 at best. EPE: the mean distance,
    image px. NME eyes: the mean of distance / |outer corner of one eye - outer corner of the other| (WFLW: Wu et al.,
    "Look at Boundary", CVPR 2018). NME box, for points without such a pair: of distance / sqrt(width * height) of the
    box (Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?", ICCV 2017). NME is
    a fraction, which papers give in percent too.

    Args:
        xy, true_xy: (P, K, 2) image px. A point that was not found is NaN: PCK and AUC count it as a miss, EPE and NME
            leave it out.
        labelled: (P, K) bool: which true positions exist.
        box_wh: (P, 2) px of the annotated boxes.
        eyes: (P,) px, NaN where a corner is not labelled; None for points without such a pair.

    Returns:
        Each of NAMES; None where nothing can be counted, and for the NME of the other kind.
    """
    distance = np.where(labelled, np.linalg.norm(xy - true_xy, axis=2), np.nan)
    area = box_wh.prod(axis=1)
    return {
        PCK_BOX: _mean_share(distance, labelled, 0.2 * box_wh.max(axis=1, initial=0)),
        "AUC": _area_under_curve(distance, labelled),
        "EPE px": _mean(distance, np.ones(len(distance))),
        "NME eyes": None if eyes is None else _mean(distance, eyes),
        "NME box": _mean(distance, np.sqrt(area)) if eyes is None else None,
    }


def _mean_share(distance: np.ndarray, labelled: np.ndarray, reach: np.ndarray) -> float | None:
    """The mean over key points of the share of people whose point is nearer than `reach` (P,), of reaches over 0."""
    counted = labelled & (reach > 0)[:, None]
    count = counted.sum(axis=0)
    hits = (counted & (distance < reach[:, None])).sum(axis=0)  # False for NaN
    return float((hits[count > 0] / count[count > 0]).mean()) if count.any() else None


def _area_under_curve(distance: np.ndarray, labelled: np.ndarray) -> float | None:
    """The mean of the shares at equal steps from 0 px, where nothing is nearer, to one step before AUC_PX."""
    reaches = [np.full(len(distance), AUC_PX * step / AUC_STEPS) for step in range(1, AUC_STEPS)]
    shares = [_mean_share(distance, labelled, reach) for reach in reaches]
    return None if shares[0] is None else float(sum(share or 0 for share in shares) / AUC_STEPS)


def _mean(distance: np.ndarray, unit: np.ndarray) -> float | None:
    """The mean of all distances in units of (P,) px; people whose unit is NaN or 0 are left out."""
    usable = np.nan_to_num(unit) > 0
    found = distance[usable] / unit[usable, None]
    found = found[np.isfinite(found)]
    return float(found.mean()) if len(found) else None
