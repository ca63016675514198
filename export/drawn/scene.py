"""Several drawn people in one picture, each cut out of one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgepose.export.drawn.people import make_background, make_pose
from edgepose.export.drawn.rendered import draw_person

SCENE_HW = (420, 640)


@dataclass(frozen=True)
class Cutout:
    """One person: (H, W, 3) uint8 RGB and how much of each pixel is theirs, (H, W) float32, 0 to 1."""

    image: np.ndarray
    cover: np.ndarray


def drawn_cutout(pose: np.ndarray, cloth: Sequence[np.ndarray], rng: np.random.Generator) -> Cutout:
    """A drawn person in a pose (19, 3), cut out: what is the same before black and before white is the person's."""
    state = rng.bit_generator.state
    pictures = []
    for shade in (0, 255):
        rng.bit_generator.state = state
        pictures.append(draw_person(pose, _Behind(shade, cloth), rng).image)
    differs = np.abs(pictures[0].astype(np.int16) - pictures[1]).max(axis=2)
    cover = 1 - differs.astype(np.float32) / 255
    rows, columns = np.flatnonzero((cover > 0.5).any(axis=1)), np.flatnonzero((cover > 0.5).any(axis=0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Cutout(np.ascontiguousarray(pictures[0][window]), cover[window])


def draw_scene(people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of several people side by side, the nearer ones larger; the same seed draws the same one.

    Returns:
        SCENE_HW (h, w, 3) uint8 RGB, and (people, 4) float32 boxes.
    """
    rng = np.random.default_rng(seed)
    height, width = SCENE_HW
    cloth = [make_background(rng) for _ in range(12)]
    picture = cv2.resize(cv2.GaussianBlur(make_background(rng), (0, 0), 3), (width, height)).astype(np.float32)
    sizes = np.sort(rng.uniform(0.5, 0.9, people))
    places = rng.permutation(people)
    boxes = np.zeros((people, 4), np.float32)
    for row, (size, place) in enumerate(zip(sizes, places, strict=True)):
        person = drawn_cutout(make_pose(rng), cloth, rng)
        room = np.array([width / people, height]) * (1.1, size)
        scale = float(min(room / person.cover.shape[::-1]))
        w, h = (max(2, int(side * scale)) for side in person.cover.shape[::-1])
        left = int(np.clip((place + 0.5) * width / people - w / 2, 0, width - w))
        top = int(height * (0.55 + 0.45 * size)) - h
        image, cover = cv2.resize(person.image, (w, h)), cv2.resize(person.cover, (w, h))[..., None]
        part = picture[top : top + h, left : left + w]
        picture[top : top + h, left : left + w] = part * (1 - cover) + image * cover
        boxes[row] = left, top, left + w, top + h
    return picture.astype(np.uint8), boxes


class _Behind(Sequence[np.ndarray]):
    """Backgrounds of which the first one that is asked for is plain: what a drawn person stands before."""

    def __init__(self, shade: int, cloth: Sequence[np.ndarray]) -> None:
        self.shade, self.cloth, self.asked = shade, cloth, 0

    def __len__(self) -> int:
        return len(self.cloth)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        self.asked += 1
        return np.full_like(self.cloth[0], self.shade) if self.asked == 1 else self.cloth[index]
