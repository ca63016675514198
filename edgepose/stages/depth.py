"""Key points with depths to positions in space around the person's root.

Neither PoseNet nor RTMW3D tells how large a px is in metres: their publishers take it from a camera, or guess it. Both
guesses are the publishers' own, and both are scale alone: the shape of a person does not hang on them.
"""

from __future__ import annotations

import numpy as np

from edgepose.errors import ModelFileError
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.volume import Volume
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import ModelSpec

FOCAL_PX = (1145.04940459, 1143.78109572)  # of Human3.6M's camera, which mmpose takes where none is given
ROOT_DEPTH_M = 5.14388  # mmpose's SimCC3DLabel: the mean of its training sets


def check_root(spec: ModelSpec) -> None:
    """ModelFileError where a network gives depths and nobody knows the root that they are measured from."""
    if spec.gives_depth and not root_of(spec.skeleton):
        raise ModelFileError(
            f"{spec.name} gives positions in space, and its skeleton {spec.skeleton.name} has neither pelvis nor hips "
            f"to measure them from: name the root pelvis in the skeleton"
        )


def root_of(skeleton: Skeleton) -> list[int]:
    """The key points whose mean is the root: the pelvis, or else both hips; none where it has neither."""
    for names in (("pelvis",), ("left_hip", "right_hip")):
        if all(name in skeleton.keypoints for name in names):
            return [skeleton.keypoints.index(name) for name in names]
    return []


def positions(keypoints: np.ndarray, spec: ModelSpec, sizes_wh: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Where key points are in space.

    Of a volume a px is `depth_m` / sqrt(w h) metres, w and h of the region in image px: the person is so far away that
    the region is as large as the volume is deep. That is the first guess of the distance in 3DMPPE (Moon et al., ICCV
    2019, equation 2), in which the focal length cancels out. Of SimCC vectors x and y are those of mmpose's default
    camera, with the root 5.14388 m away.

    Args:
        keypoints: (N, K, 4) x, y in image px, score, depth in metres behind the root. N may be 0.
        sizes_wh: (N, 2) of the regions, image px.
        image_hw: of the image.

    Returns:
        (N, K, 3) float32 metres around the root: x to the right, y down, z away from the camera. NaN where a key point
        or the root was not found (score 0).

    Raises:
        ModelFileError: see `check_root`; or the network gives no depths.
    """
    check_root(spec)
    xy, depth = keypoints[..., :2].astype(np.float64), keypoints[..., 3:].astype(np.float64)
    if isinstance(spec.head, Volume):
        metres = spec.head.depth_m / np.sqrt(np.prod(sizes_wh, axis=1))
        across = xy * metres[:, None, None]
    elif isinstance(spec.head, SimCC) and spec.gives_depth:
        across = (xy - np.array(image_hw[::-1]) / 2) / np.array(FOCAL_PX) * (depth + ROOT_DEPTH_M)
    else:
        raise ModelFileError(f"{spec.name} gives no depths (its head is {spec.head.kind})")
    space = np.concatenate([across, depth], axis=2)
    space[~(keypoints[..., 2] > 0)] = np.nan
    around = space[:, root_of(spec.skeleton)].mean(axis=1, keepdims=True)
    return (space - around).astype(np.float32)
