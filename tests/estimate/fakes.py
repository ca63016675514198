"""A detector and a pose network that see coloured rectangles, without any runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgepose.model.heads.detections import Detections
from edgepose.model.skeletons import NO_KEYPOINTS
from edgepose.model.spec import Input, ModelSpec, heatmap_spec
from edgepose.stages.crop import cut_out_of
from edgepose.stages.decode import decode_heatmaps
from edgepose.stages.geometry import Regions, join_regions, split_rows

MOST = 5  # people of `ColourDetector`
PEAKS = [(4 + k % 4, 1 + 3 * (k // 4)) for k in range(17)]  # x, y of each key point in its map: an upright person


def picture_of(*boxes: tuple[int, int, int, int], height: int = 64, width: int = 96) -> np.ndarray:
    """(height, width, 3) uint8: black, with a rectangle (left, top, right, bottom) of a grey level of its own each."""
    image = np.zeros((height, width, 3), np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes):
        image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 50 * (number + 1)
    return image


class ColourDetector:
    """Finds the rectangles of `picture_of`, with a score of its own each; counts what it was asked."""

    def __init__(self, scores: tuple[float, ...] = (0.9, 0.8, 0.7, 0.6, 0.5)) -> None:
        picture = Input((64, 96), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="plain")
        self.spec = ModelSpec("colours", picture, Detections("boxes", 1), NO_KEYPOINTS)
        self.scores = scores
        self.batches: list[int] = []
        self.runtime = self

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = inputs["images"]
        self.batches.append(len(images))
        boxes = np.zeros((len(images), MOST, 4), np.float32)
        scores = np.zeros((len(images), MOST, 1), np.float32)
        for row, image in enumerate(images):
            for number in range(MOST):
                y, x = np.nonzero(np.abs(image[0] - 50 * (number + 1)) < 10)
                if len(x):
                    boxes[row, number] = x.min(), y.min(), x.max() + 1, y.max() + 1
                    scores[row, number] = self.scores[number]
        return {"boxes": boxes, "scores": scores}


class FixedPose:
    """Finds the 17 key points at PEAKS of every crop, with `score`; counts its runs."""

    name, arithmetic = "fixed", "FP32"

    def __init__(self, score: float = 0.9) -> None:
        self.spec = heatmap_spec("fixed", (64, 48), (16, 12), decoder="argmax", box_padding=1.0)
        self.score = score
        self.batches: list[int] = []

    def run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        return {"heatmaps": self.heatmaps(crops)}

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        self.batches.append(len(crops))
        maps = np.zeros((len(crops), 17, 16, 12), np.float32)
        for k, (x, y) in enumerate(PEAKS):
            maps[:, k, y, x] = self.score
        return maps

    def keypoints(self, image: np.ndarray, regions: Regions, **_: Any) -> np.ndarray:
        return self.keypoints_of([image], [regions])[0]

    def keypoints_of(self, images: Any, regions: Any, **_: Any) -> list[np.ndarray]:
        together, frame_of = join_regions(regions)
        keypoints = decode_heatmaps(self.heatmaps(cut_out_of(images, frame_of, together, self.spec)), self.spec)
        keypoints[..., :2] = together.to_image(keypoints[..., :2], (16, 12))
        return split_rows(keypoints, regions)

    def close(self) -> None: ...
