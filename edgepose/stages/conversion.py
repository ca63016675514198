"""Key points of one skeleton from those of another: by name, and by rules for points that lie between others."""

from __future__ import annotations

import numpy as np

from edgepose.errors import ModelFileError
from edgepose.model.skeletons import Skeleton

# A name that a skeleton lacks is the middle of others, which may have to be made in turn; the first that can be made.
# From COCO-17 to Human3.6M-17 these are the rules of mmpose's `convert_keypoint_definition` and of MotionBERT's
# `coco2h36m`: they are approximate, COCO has no thorax, spine and head.
MIDDLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "pelvis": (("hip",), ("left_hip", "right_hip")),
    "thorax": (("left_shoulder", "right_shoulder"),),
    "spine": (("pelvis", "thorax"),),
    "head": (("head_top",), ("top_head",), ("left_eye", "right_eye")),
    "nose": (("upper_neck",),),  # Human3.6M's tenth is between the two
}


def convert_keypoints(
    xy: np.ndarray, scores: np.ndarray, source: Skeleton, target: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores in another skeleton's order.

    Args:
        xy: (..., K, D), two or three coordinates of any unit.
        scores: (..., K).

    Returns:
        (..., K', D), and (..., K'): a point between others has the lowest of their scores.

    Raises:
        ModelFileError: the source cannot tell some of the target's key points.
    """
    sources = sources_of(source, target)
    if xy.shape[-2] != len(source) or scores.shape != xy.shape[:-1]:
        raise ValueError(f"{source.name} has {len(source)} key points, got {xy.shape} and scores {scores.shape}")
    points = [_middle(xy, tree) for tree in sources]
    certain = [scores[..., _leaves(tree)].min(axis=-1) for tree in sources]
    return np.stack(points, axis=-2), np.stack(certain, axis=-1)


Tree = int | tuple["Tree", ...]  # a key point's index, or the middle of several


def sources_of(source: Skeleton, target: Skeleton) -> list[Tree]:
    """For each of the target's key points: its index in the source, or what it lies in the middle of.

    Raises:
        ModelFileError: see `convert_keypoints`.
    """
    found = {name: _find(name, source) for name in target.keypoints}
    missing = [name for name, tree in found.items() if tree is None]
    if missing:
        raise ModelFileError(
            f"{source.name} key points cannot be read as {target.name}: there is no {', '.join(missing)} among them, "
            f"nor what it could be made of: give key points that tell them, or a lifter that wants no others"
        )
    return [tree for tree in found.values() if tree is not None]


def _find(name: str, source: Skeleton) -> Tree | None:
    if name in source.keypoints:
        return source.keypoints.index(name)
    for names in MIDDLES.get(name, ()):
        parts = tuple(part for part in (_find(other, source) for other in names) if part is not None)
        if len(parts) == len(names):
            return parts
    return None


def _middle(xy: np.ndarray, tree: Tree) -> np.ndarray:
    if isinstance(tree, int):
        return xy[..., tree, :]
    return np.mean([_middle(xy, part) for part in tree], axis=0, dtype=xy.dtype)


def _leaves(tree: Tree) -> list[int]:
    return [tree] if isinstance(tree, int) else [leaf for part in tree for leaf in _leaves(part)]
