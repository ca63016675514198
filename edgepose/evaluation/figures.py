"""From poses and annotated people to figures: OKS AP and AR, PCK@0.2, PCKh, those of points, and how far points moved.

A model's key points and the annotations' are brought together by their names, or by their order where the annotations
have none of the names, but as many points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgepose.evaluation.coco_ap import NAMES as COCO_FIGURES
from edgepose.evaluation.coco_ap import average_precision
from edgepose.evaluation.metrics import hit_rate, shift_summary
from edgepose.evaluation.point_figures import NAMES as POINT_FIGURES
from edgepose.evaluation.point_figures import PCK_BOX, point_figures
from edgepose.io.annotations import AnnotatedImage
from edgepose.model.skeletons import COCO17, Skeleton
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions
from edgepose.stages.poses import Poses
from edgepose.stages.similarity import oks_nms, rescore

PCK = "PCK@0.2"
FIGURES = (*COCO_FIGURES, PCK, "PCKh@0.5", "PCKh@0.1", *POINT_FIGURES)

LIMB_POINTS = tuple(
    f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
)
TORSO = ("left_shoulder", "right_hip")  # PCK's length
HEAD = (("head_top", "upper_neck"), ("head_top", "neck"))  # PCKh's length where no head box is annotated
NOT_IN_PCKH = ("pelvis", "thorax")  # MPII leaves them out
CONFIDENT = 0.3  # key points above this score are those a user looks at


@dataclass(frozen=True)
class Found:
    """What one model found in one annotated image.

    Attributes:
        poses: of N boxes, all usable.
        box_scores: (N,).
        pose_of: (M,) for each annotated person the row of poses that is meant for them; -1 if there is none.
    """

    poses: Poses
    box_scores: np.ndarray
    pose_of: np.ndarray


def figures_of(
    truth: Sequence[AnnotatedImage], names: Sequence[str], found: Sequence[Found], spec: ModelSpec
) -> tuple[dict[str, float | None], list[str]]:
    """Score one model's poses.

    OKS AP and AR by the published protocol: a pose's score is its box's times the mean of its key points' above 0.2,
    of poses more alike than OKS 0.9 the best stays, with the padded box as area. PCK@0.2: the share of the 12 limb
    points within 0.2 of |left shoulder - right hip|. PCKh@0.5 and @0.1: the share of all points but pelvis and thorax
    within half or a tenth of a head, which is 0.6 times MPII's head box's diagonal, or else |head top - neck|
    (leoxiaobin's `mpii.py`, of which "Mean" is the same: each key point weighs as often as it is labelled. A point at
    that very distance is found, as there; its "Mean@0.1" is read at 0.11, mmpose's at 0.1 as here). Where AP
    cannot be computed for want of COCO's key points or of constants, `point_figures` of all key points.

    Args:
        truth: annotated images.
        names: of their key points.
        found: the model's poses, image by image.
        spec: the model's.

    Returns:
        Each of FIGURES, None where it cannot be computed; and in words what cannot and why.
    """
    names, by_order = _names_of(names, spec.skeleton)
    coco, no_coco = _coco_figures(truth, names, found, spec)
    true_points, xy = _person_by_person(truth, names, found, spec.skeleton)
    pck, no_pck = _pck(true_points, xy, names, spec.skeleton)
    heads = np.concatenate([np.empty(0), *(image.head_sizes[image.posed] for image in truth)])
    pckh, no_pckh = _pckh(true_points, xy, names, spec.skeleton, heads)
    figures = {**coco, PCK: pck, "PCKh@0.5": pckh[0], "PCKh@0.1": pckh[1], **dict.fromkeys(POINT_FIGURES)}
    reasons = [no_coco, no_pck, no_pckh]
    if no_coco:
        boxes = np.concatenate([np.empty((0, 4)), *(image.boxes_xywh[image.posed] for image in truth)])
        points, no_points = _points(true_points, xy, boxes[:, 2:], names, spec.skeleton)
        figures |= points
        if pck_of(spec.skeleton) != PCK:
            reasons = [no_points]
    return figures, [reason for reason in (by_order, *reasons) if reason]


def pck_of(skeleton: Skeleton) -> str:
    """Which PCK a skeleton is measured by: of torso lengths if it has limb points, of boxes as hands and faces are."""
    return PCK if set(LIMB_POINTS) & set(skeleton.keypoints) else PCK_BOX


def shift_between(found: Sequence[Found], other: Sequence[Found], spec: ModelSpec) -> dict[str, float | int] | None:
    """How far the other model's key points lie from the first's, px of the grid, where the first's score is over 0.3.

    Args:
        found, other: poses of the same boxes, by models of the same spec.
    """
    shifts = [np.empty(0)]
    for one, two in zip(found, other, strict=True):
        regions = Regions.around(one.poses.boxes_xyxy, spec)
        first, second = (regions.to_grid(poses.xy, spec.grid_hw) for poses in (one.poses, two.poses))
        shifts.append(np.linalg.norm(first - second, axis=2)[one.poses.scores > CONFIDENT])
    return shift_summary(np.concatenate(shifts))


def _names_of(names: Sequence[str], skeleton: Skeleton) -> tuple[Sequence[str], str]:
    """The annotations' names, or the model's where those are others and as many; and a word where it is so."""
    if len(names) != len(skeleton) or set(names) & set(skeleton.keypoints):
        return names, ""
    return skeleton.keypoints, (
        f"the annotations name none of the key points of {skeleton.name}: their {len(names)} points are taken in order"
    )


def _points(
    true_points: np.ndarray, xy: np.ndarray, box_wh: np.ndarray, names: Sequence[str], skeleton: Skeleton
) -> tuple[dict[str, float | None], str]:
    """`point_figures` of the key points that both sides name."""
    both = [index for index, name in enumerate(names) if name in skeleton.keypoints]
    if not both:
        return dict.fromkeys(POINT_FIGURES), (
            f"the annotations' {len(names)} key points ({', '.join(names[:3])}, ...) are not the {len(skeleton)} of "
            f"{skeleton.name}, neither by name nor in number"
        )
    eyes = None
    if skeleton.eye_corners:
        one, other = (skeleton.keypoints[index] for index in skeleton.eye_corners)
        eyes = _length(true_points, names, (one, other))
    true_points = true_points[:, both]
    return point_figures(xy[:, both], true_points[..., :2], true_points[..., 2] > 0, box_wh, eyes), ""


def _coco_figures(
    truth: Sequence[AnnotatedImage], names: Sequence[str], found: Sequence[Found], spec: ModelSpec
) -> tuple[dict[str, float | None], str]:
    skeleton = _oks_skeleton(spec.skeleton, names)
    if skeleton is None:
        missing = [name for name in COCO17.keypoints if name not in spec.skeleton.keypoints or name not in names]
        reason = f"AP and AR need all of COCO's key points; {', '.join(missing)} cannot be compared"
        return dict.fromkeys(COCO_FIGURES), reason
    model_order = [spec.skeleton.keypoints.index(name) for name in skeleton.keypoints]
    truth_order = [list(names).index(name) for name in skeleton.keypoints]
    kept = []
    for each in found:
        xy = each.poses.xy[:, model_order]
        scores = rescore(each.poses.scores[:, model_order], each.box_scores)
        areas = Regions.around(each.poses.boxes_xyxy, spec).size_wh.prod(axis=1)
        rows = oks_nms(xy, scores, areas, np.array(skeleton.sigmas))
        kept.append((xy[rows], scores[rows]))
    images = [replace(image, keypoints=image.keypoints[:, truth_order]) for image in truth]
    return average_precision(images, kept, skeleton.sigmas), ""


def _oks_skeleton(skeleton: Skeleton, names: Sequence[str]) -> Skeleton | None:
    """The key points and constants for OKS: the model's own, or COCO's where both sides have them all."""
    for candidate in (skeleton, COCO17):
        if candidate.sigmas and set(candidate.keypoints) <= set(names) & set(skeleton.keypoints):
            return candidate
    return None


def _person_by_person(
    truth: Sequence[AnnotatedImage], names: Sequence[str], found: Sequence[Found], skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """(P, K, 3) annotated points of all posed people, and (P, K, 2) where the model put them; NaN where it did not."""
    both = [name for name in names if name in skeleton.keypoints]
    in_names = [list(names).index(name) for name in both]
    in_model = [skeleton.keypoints.index(name) for name in both]
    true_points, placed = [np.empty((0, len(names), 3))], [np.empty((0, len(names), 2))]
    for image, each in zip(truth, found, strict=True):
        xy = np.full((len(image), len(names), 2), np.nan)
        has_pose = np.flatnonzero(each.pose_of >= 0)
        xy[has_pose[:, None], in_names] = each.poses.xy[each.pose_of[has_pose]][:, in_model]
        true_points.append(image.keypoints[image.posed])
        placed.append(xy[image.posed])
    return np.concatenate(true_points), np.concatenate(placed)


def _length(true_points: np.ndarray, names: Sequence[str], ends: tuple[str, str]) -> np.ndarray:
    """(P,) distance between two annotated points, NaN where not both are labelled."""
    if not set(ends) <= set(names):
        return np.full(len(true_points), np.nan)
    one, two = (true_points[:, list(names).index(name)] for name in ends)
    both = (one[:, 2] > 0) & (two[:, 2] > 0)
    return np.where(both, np.linalg.norm(one[:, :2] - two[:, :2], axis=1), np.nan)


def _share_within(
    true_points: np.ndarray, xy: np.ndarray, names: Sequence[str], chosen: Sequence[str], reach: np.ndarray
) -> float | None:
    columns = [list(names).index(name) for name in chosen]
    true_points, xy = true_points[:, columns], xy[:, columns]
    return hit_rate(xy, true_points[..., :2], true_points[..., 2] > 0, reach)[0]


def _pck(true_points: np.ndarray, xy: np.ndarray, names: Sequence[str], skeleton: Skeleton) -> tuple[float | None, str]:
    missing = [name for name in LIMB_POINTS if name not in names or name not in skeleton.keypoints]
    if missing:
        return None, f"{PCK} needs the 12 limb points; {', '.join(missing)} cannot be compared"
    pck = _share_within(true_points, xy, names, LIMB_POINTS, 0.2 * _length(true_points, names, TORSO))
    return pck, "" if pck is not None else f"{PCK} needs people with left shoulder and right hip labelled"


def _pckh(
    true_points: np.ndarray, xy: np.ndarray, names: Sequence[str], skeleton: Skeleton, heads: np.ndarray
) -> tuple[list[float | None], str]:
    for ends in HEAD:
        heads = np.where(np.isnan(heads), _length(true_points, names, ends), heads)
    chosen = [name for name in names if name in skeleton.keypoints and name not in NOT_IN_PCKH]
    pckh = [_share_within(true_points, xy, names, chosen, share * heads) for share in (0.5, 0.1)]
    reason = "" if pckh[0] is not None else "PCKh needs head sizes: headbox, or head_top and neck, in the annotations"
    return pckh, reason
