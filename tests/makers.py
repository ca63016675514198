"""Small things to test with: specs, images, boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepose.passport import ModelSpec
from edgepose.skeletons import Skeleton

TWO_POINTS = Skeleton("two", ("left_hand", "right_hand"), flip_pairs=((0, 1),), limbs=((0, 1),), sigmas=(0.05, 0.05))


def make_spec(**changes: Any) -> ModelSpec:
    """A 64x48 input, 16x12 heat-map spec of two key points."""
    values: dict[str, Any] = {"name": "toy", "input_hw": (64, 48), "heatmap_hw": (16, 12), "skeleton": TWO_POINTS}
    return ModelSpec(**{**values, **changes})


def smooth_image(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 of smooth random colour."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
