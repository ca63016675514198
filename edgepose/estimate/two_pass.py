"""From regions to key points: in one pass, or in two where the network was trained for a closer look.

Tompson et al. ("Efficient Object Localization Using Convolutional Networks", CVPR 2015) find each key point coarsely,
crop around it and refine it. Here the second pass runs the same network on a crop around each key point, cut out of
the original image by the same warp, so that it sees pixels that the first crop was too small to hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgepose.backends import Backend
from edgepose.stages.geometry import Regions
from edgepose.stages.gpu_frame import Picture

SURE = 0.8  # of the first pass's score: below it the closer look may have found something else, or nothing
FAR = 0.15  # of the closer crop: what is found so far from its centre is taken for another key point


def find_keypoints(backend: Backend, image: Picture, regions: Regions, *, flip_test: bool = False) -> np.ndarray:
    """An image, as `estimate_poses` takes it, and N regions -> (N, K, 3) float32: x, y in image px, score. N may be 0.

    With a spec that has `refine`, the first pass costs N crops and the second one for each key point it located.
    Position and score are the second pass's; where it is much less sure than the first, both count by their scores,
    and where it looks far away, the first one's stay.

    Raises:
        BackendError: the runtime failed.
    """
    return find_keypoints_of(backend, [image], [regions], flip_test=flip_test)[0]


def find_keypoints_of(
    backend: Backend, images: Sequence[Picture], regions: Sequence[Regions], *, flip_test: bool = False
) -> list[np.ndarray]:
    """What `find_keypoints` gives for each of several images, whose people share the runs of the network."""
    found = backend.keypoints_of(images, regions, flip_test=flip_test)
    refine = backend.spec.refine
    if refine is None:
        return found
    located = [np.nonzero(keypoints[..., 2] > 0) for keypoints in found]
    close = [
        closer_regions(each, keypoints, person, index, refine.share)
        for each, keypoints, (person, index) in zip(regions, found, located, strict=True)
    ]
    seconds = backend.keypoints_of(images, close, flip_test=flip_test, decoder=refine.decoder)
    for keypoints, (person, index), around, again in zip(found, located, close, seconds, strict=True):
        second = again[np.arange(len(again)), index]  # each close crop is about one key point
        keypoints[person, index] = _merged(keypoints[person, index], second, around)
    return found


def _merged(first: np.ndarray, second: np.ndarray, close: Regions) -> np.ndarray:
    """(M, 3) key points of both passes, the second's in M closer regions, to those that are given."""
    sure = np.maximum(second[:, 2], 0)
    weight = np.where(sure >= SURE * first[:, 2], 1, sure / (first[:, 2] + sure))
    moved = np.linalg.norm((second[:, :2] - first[:, :2]) / close.size_wh, axis=-1)
    weight[moved > FAR] = 0
    return first + weight[:, None] * (second - first)


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
