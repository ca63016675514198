"""One labelled person in a picture: what drawing makes and training takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepose.model.skeletons import COCO17

# The last two only teach: their channels are cut off the trained network.
KEYPOINTS = (*COCO17.keypoints, "neck", "head_top")


@dataclass(frozen=True)
class Person:
    """One labelled person.

    Attributes:
        image: (H, W, 3) uint8, RGB; shared by the people in it.
        keypoints: (19, 3) float64: x, y in image px, and 0 where unlabelled.
        box_xyxy: (4,) float64, image px.
    """

    image: np.ndarray
    keypoints: np.ndarray
    box_xyxy: np.ndarray
