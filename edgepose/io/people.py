"""An image's people as `infer`, `evaluate` and `calibrate` take them: picture, usable boxes, what was dropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepose.files import read_input
from edgepose.io.boxes import MOST, ImageBoxes
from edgepose.io.images import decode_image, turned_by_exif
from edgepose.stages.frames import Frame, hw_of
from edgepose.stages.geometry import boxes_in_view


@dataclass(frozen=True)
class PeopleBoxes:
    """The boxes of one image that show something of it.

    Attributes:
        boxes_xyxy: (N, 4) float32, image px.
        scores: (N,) float32.
        unusable: boxes left out: not finite, without area, wholly outside the image, or less sure than MOST others.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    unusable: int

    def __len__(self) -> int:
        return len(self.boxes_xyxy)


def usable_people(image: np.ndarray | Frame, entry: ImageBoxes) -> PeopleBoxes:
    """The entry's boxes that an image (H, W, 3) shows; the whole of it where none were given."""
    boxes = entry.boxes_in(image)
    inside = boxes_in_view(boxes, hw_of(image))
    return PeopleBoxes(boxes[inside], entry.box_scores[inside], entry.unusable + int((~inside).sum()))


def read_picture(entry: ImageBoxes) -> tuple[np.ndarray, bool]:
    """(H, W, 3) uint8 RGB, and whether its EXIF notes a rotation, which is ignored.

    Raises:
        InputError: it cannot be read.
    """
    data = read_input(entry.path)
    return decode_image(entry.path, data), turned_by_exif(data)


def left_out(count: int) -> list[str]:
    """What the user should know of unusable boxes: a line, or none."""
    why = f"not finite, without area, outside their image, or beyond its {MOST} surest"
    return [f"{count} boxes left out: {why}"] if count else []
