"""N people's key points in one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Poses:
    """N people in one image.

    Attributes:
        xy: (N, K, 2) float32, image px; may lie outside the image.
        scores: (N, K) float32, the peak's value; 0 where a heat map had no finite peak.
        boxes_xyxy: (N, 4) float32, image px.
        box_scores: (N,) float32, the detector's; None where nobody told.
        track_ids: (N,) int64, the same for one person in all frames of a video, -1 for none; None outside of videos.
        xyz: (N, K, 3) float32, metres around each person's root: x to the right, y down, z away from the camera; NaN
            where a key point was not found. None of networks that find no depths.
    """

    xy: np.ndarray
    scores: np.ndarray
    boxes_xyxy: np.ndarray
    box_scores: np.ndarray | None = None
    track_ids: np.ndarray | None = None
    xyz: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes_xyxy)
