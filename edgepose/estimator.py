"""The top-down data path: image and boxes in, key points in image px out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepose.backends import Backend
from edgepose.geometry import Regions, usable_boxes
from edgepose.two_pass import find_keypoints


@dataclass(frozen=True)
class Poses:
    """N people in one image.

    Attributes:
        xy: (N, K, 2) float32, image px; may lie outside the image.
        scores: (N, K) float32, the peak's value; 0 where a heat map had no finite peak.
        boxes_xyxy: (N, 4) float32, image px.
    """

    xy: np.ndarray
    scores: np.ndarray
    boxes_xyxy: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes_xyxy)


def estimate_poses(backend: Backend, image: np.ndarray, boxes_xyxy: np.ndarray, *, flip_test: bool = False) -> Poses:
    """Find the key points of the person in each box.

    Args:
        backend: from `load_backend`.
        image: (H, W, 3) uint8, RGB.
        boxes_xyxy: (N, 4), image px; N may be 0. A box that is not finite or has no area gives
            key points of NaN position and score 0 in its place, so that rows keep their box.
        flip_test: average with the mirrored crop, as published accuracies do; costs twice the network.

    Raises:
        ValueError: image or boxes of another shape or dtype.
        BackendError: the runtime failed.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    spec = backend.spec
    boxes = np.asarray(boxes_xyxy, dtype=np.float32)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes_xyxy must be (N, 4), got {boxes.shape}")
    usable = usable_boxes(boxes)
    xy = np.full((len(boxes), spec.num_keypoints, 2), np.nan, np.float32)
    scores = np.zeros((len(boxes), spec.num_keypoints), np.float32)
    regions = Regions.around(boxes[usable], spec)
    keypoints = find_keypoints(backend, image, regions, flip_test=flip_test)
    xy[usable] = keypoints[..., :2]
    scores[usable] = keypoints[..., 2]
    return Poses(xy, scores, boxes)
