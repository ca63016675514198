"""Maps of a bottom-up network at another size: key points are looked for in larger ones than it gives."""

from __future__ import annotations

import cv2
import numpy as np

INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


def enlarge(maps: np.ndarray, factor: int, interpolation: str) -> np.ndarray:
    """(C, h, w) -> (C, factor h, factor w) float32, between pixel centres; "linear" or "cubic", as cv2.resize."""
    maps = np.asarray(maps, np.float32)
    if factor == 1:
        return maps
    channels, height, width = maps.shape
    large = np.empty((channels, height * factor, width * factor), np.float32)
    for source, target in zip(maps, large, strict=True):
        cv2.resize(source, target.shape[::-1], dst=target, interpolation=INTERPOLATIONS[interpolation])
    return large
