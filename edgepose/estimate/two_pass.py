"""From regions to key points: in one pass, or in two where the network was trained for a closer look.

Tompson et al. ("Efficient Object Localization Using Convolutional Networks", CVPR 2015) find each key point coarsely,
crop around it and refine it. Here the second pass runs the same network on a crop around each key point, cut out of
the original image by the same warp, so that it sees pixels that the first crop was too small to hold.
"""

from __future__ import annotations

import numpy as np

from edgepose.backends import Backend
from edgepose.stages.geometry import Regions

SURE = 0.8  # of the first pass's score: below it the closer look may have found something else, or nothing
FAR = 0.15  # of the closer crop: what is found so far from its centre is taken for another key point


def find_keypoints(backend: Backend, image: np.ndarray, regions: Regions, *, flip_test: bool = False) -> np.ndarray:
    """Image (H, W, 3) uint8 RGB and N regions -> (N, K, 3) float32: x, y in image px, score. N may be 0.

    With a spec that has `refine`, the first pass costs N crops and the second one for each key point it located.
    Position and score are the second pass's; where it is much less sure than the first, both count by their scores,
    and where it looks far away, the first one's stay.

    Raises:
        BackendError: the runtime failed.
    """
    keypoints = backend.keypoints(image, regions, flip_test=flip_test)
    refine = backend.spec.refine
    if refine is None:
        return keypoints
    person, index = np.nonzero(keypoints[..., 2] > 0)
    close = closer_regions(regions, keypoints, person, index, refine.share)
    found = backend.keypoints(image, close, flip_test=flip_test, decoder=refine.decoder)
    found = found[np.arange(len(found)), index]  # each close crop is about one key point
    first, second = keypoints[person, index, 2], np.maximum(found[:, 2], 0)
    weight = np.where(second >= SURE * first, 1, second / (first + second))
    moved = np.linalg.norm((found[:, :2] - keypoints[person, index, :2]) / close.size_wh, axis=-1)
    weight[moved > FAR] = 0
    keypoints[person, index] += weight[:, None] * (found - keypoints[person, index])
    return keypoints


def closer_regions(
    regions: Regions, keypoints: np.ndarray, person: np.ndarray, index: np.ndarray, share: float
) -> Regions:
    """The second pass's regions: around key point index[i] of person[i], for M pairs.

    Args:
        regions: N regions of the first pass; keypoints: (N, K, 2 or more), x and y in image px.
        person, index: (M,) integers.
        share: side of a closer region, as a share of the first one's.
    """
    centers = keypoints[person, index, :2].astype(np.float64)
    return Regions(centers, regions.size_wh[person] * share, regions.alignment)
