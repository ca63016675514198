"""One person's key points over time -> a lifter's input, and its output -> metres around the root.

Windows, padding and scaling are VideoPose3D's (Pavllo et al., CVPR 2019) and Martinez et al.'s (ICCV 2017).
"""

from __future__ import annotations

import numpy as np

from edgepose.model.heads.lift import Lift
from edgepose.model.skeletons import Skeleton

SMALLEST_SIZE = 1e-6  # of a person; all points in one place have no size


def fill_gaps(frames: np.ndarray, xy: np.ndarray, found: np.ndarray) -> np.ndarray:
    """A track without gaps: where a point was not found, or a frame is missing, it moves straight on to the next.

    Args:
        frames: (T,) whole numbers, rising; T >= 1.
        xy: (T, K, 2); what is not found may be NaN.
        found: (T, K) bool.

    Returns:
        (F, K, 2) float64 for all frames from the first to the last. Before it is first found, and after the last time,
        a point stays there; one that was never found is NaN.
    """
    every = np.arange(frames[0], frames[-1] + 1)
    dense = np.full((len(every), *xy.shape[1:]), np.nan)
    usable = found & np.isfinite(xy).all(axis=2)
    for point in np.flatnonzero(usable.any(axis=0)):
        known = usable[:, point]
        for axis in range(xy.shape[2]):
            dense[:, point, axis] = np.interp(every, frames[known], xy[known, point, axis])
    return dense


def windows_of(length: int, head: Lift) -> np.ndarray:
    """(length, frames) indices of the frames that go in for each frame; beyond the ends the end is repeated."""
    before = head.frames - 1 if head.causal else head.frames // 2
    return np.clip(np.arange(length)[:, None] + np.arange(head.frames) - before, 0, max(length - 1, 0))


def to_units(points: np.ndarray, head: Lift, skeleton: Skeleton, image_wh: tuple[int, int]) -> np.ndarray:
    """Windows of key points as the network wants them.

    Args:
        points: (n, frames, K, 2) image px.
        skeleton: of the points: the head's `points`.
        image_wh: width and height of the image, px.

    Returns:
        (n, frames, K, 2) float32.
    """
    if head.units == "screen":
        width, height = image_wh
        return np.asarray(points * (2 / width) - (1, height / width), np.float32)
    if head.units == "person":
        return person_units(points, points[:, :, skeleton.keypoints.index(head.root)])
    mean, std = (np.reshape(head.statistics[key], (len(skeleton), 2)) for key in ("input_mean", "input_std"))
    return np.asarray((points - mean) / std, np.float32)


def person_units(points: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Windows of points in units of the person: the root at 0 in every frame, the mean square distance from it 1.

    Args:
        points: (n, frames, K, 2) in any unit.
        root: (n, frames, 2) in the same.

    Returns:
        (n, frames, K, 2) float32; a window whose points all lie on the root is 0.
    """
    relative = points - root[:, :, None]
    size = np.sqrt((relative**2).sum(axis=-1).mean(axis=(1, 2)))[:, None, None, None]
    return np.asarray(relative / np.maximum(size, SMALLEST_SIZE), np.float32)


def mirrored(values: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The mirrored person: (..., K, D) points in network units, or positions; x negated, left and right exchanged."""
    factors = np.ones(values.shape[-1], values.dtype)
    factors[0] = -1
    return np.asarray(values[..., skeleton.flip_order, :] * factors)


def to_metres(output: np.ndarray, head: Lift, skeleton: Skeleton) -> np.ndarray:
    """The network's output as positions of all key points around the root.

    Args:
        output: (n, K', 3); K' is one less than the skeleton has where the root is not among them.

    Returns:
        (n, K, 3) float32 metres: x to the right, y down, z away from the camera, the root at (0, 0, 0).
    """
    root = skeleton.keypoints.index(head.root)
    xyz = np.asarray(output, np.float64)
    if head.statistics:
        mean, std = (np.reshape(head.statistics[key], (-1, 3)) for key in ("output_mean", "output_std"))
        xyz = xyz * std + mean
    if not head.root_given:
        xyz = np.insert(xyz, root, 0.0, axis=1)
    with np.errstate(invalid="ignore"):  # infinite ones are none
        return (xyz - xyz[:, root : root + 1]).astype(np.float32)
