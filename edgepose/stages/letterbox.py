"""A whole picture as a network's input: how it is laid into it, and the way back for what is found there.

Coordinates are those of edges: a box from 0 to W is the whole width. A pixel of the input covers as much of the image
wherever it is, as cv2.resize has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgepose.model.spec import Input


@dataclass(frozen=True)
class Letterbox:
    """Where an image lies in a network's input.

    Attributes:
        inner_wh: size that the image is resized to, input px.
        offset_xy: where its top left corner lies, input px.
        image_hw, input_hw: sizes of the image and of the input.
    """

    inner_wh: tuple[int, int]
    offset_xy: tuple[int, int]
    image_hw: tuple[int, int]
    input_hw: tuple[int, int]

    @classmethod
    def fit(cls, image_hw: tuple[int, int], input_hw: tuple[int, int], resize: str) -> Letterbox:
        """How an image of that size is laid into the input.

        Args:
            resize: "letterbox" keeps the aspect ratio and leaves room to the right and below; "letterbox-center"
                leaves it on both sides; "plain" stretches the image over the input.
        """
        (height, width), (input_h, input_w) = image_hw, input_hw
        if resize == "plain":
            return cls((input_w, input_h), (0, 0), image_hw, input_hw)
        scale = min(input_h / height, input_w / width)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        if resize == "letterbox":
            return cls(inner, (0, 0), image_hw, input_hw)
        return cls(inner, ((input_w - inner[0]) // 2, (input_h - inner[1]) // 2), image_hw, input_hw)

    @classmethod
    def of(cls, image_hw: tuple[int, int], picture: Input) -> Letterbox:
        """How an image of that size is laid into a network's input, whose `resize` is not "crop"."""
        centered = picture.resize == "letterbox" and picture.anchor == "center"
        return cls.fit(image_hw, picture.size_hw, "letterbox-center" if centered else picture.resize)

    @property
    def scale_xy(self) -> np.ndarray:
        """(2,) input px per image px."""
        return np.array(self.inner_wh, np.float64) / np.array(self.image_hw[::-1], np.float64)

    def to_input(self, xy: np.ndarray) -> np.ndarray:
        """Image px (..., 2) -> input px, float32. The inverse of `to_image`."""
        return (np.asarray(xy, np.float64) * self.scale_xy + self.offset_xy).astype(np.float32)

    def to_image(self, xy: np.ndarray) -> np.ndarray:
        """Input px (..., 2) -> image px, float32. The inverse of `to_input`."""
        return ((np.asarray(xy, np.float64) - self.offset_xy) / self.scale_xy).astype(np.float32)

    def boxes_to_image(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(N, 4) boxes, input px -> image px, cut off at the image's edges, float32."""
        boxes = self.to_image(np.reshape(boxes_xyxy, (-1, 2, 2)))
        return np.clip(boxes, 0, np.array(self.image_hw[::-1], np.float32)).reshape(-1, 4).astype(np.float32)


def lay_in(image: np.ndarray, letterbox: Letterbox, fill: int) -> np.ndarray:
    """The input's pixels: the image resized, bilinear, and `fill` beside it.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        (h, w, 3) uint8 in the image's colour order.
    """
    inner = cv2.resize(np.ascontiguousarray(image), letterbox.inner_wh, interpolation=cv2.INTER_LINEAR)
    if letterbox.inner_wh == letterbox.input_hw[::-1]:
        return np.asarray(inner)
    pixels = np.full((*letterbox.input_hw, 3), fill, np.uint8)
    (x, y), (width, height) = letterbox.offset_xy, letterbox.inner_wh
    pixels[y : y + height, x : x + width] = inner
    return pixels


def as_input(image: np.ndarray, fit: Letterbox, picture: Input) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (3, h, w) float32, laid in and normalised as the network wants it."""
    pixels = lay_in(image, fit, picture.fill)
    if picture.color_order == "bgr":
        pixels = pixels[..., ::-1]
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)
    planes -= np.array(picture.mean, np.float32).reshape(3, 1, 1)
    planes /= np.array(picture.std, np.float32).reshape(3, 1, 1)
    return planes
