"""Pictures of drawn people: real poses, made-up bodies, and a face with all five of its points.

Few photographs at hand have labelled faces; these teach where a face's points lie on a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgepose.export.drawn.person import KEYPOINTS, Person

HEIGHT = 170  # px of a drawn person
MARGIN = 0.08  # of the box around the points, in their extent: as LSP's boxes are

_AT = {name: i for i, name in enumerate(KEYPOINTS)}
_NEEDED = [i for name, i in _AT.items() if name not in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]
_LEGS = (("hip", "knee", 0.085), ("knee", "ankle", 0.065))  # and their width in figure heights
_ARMS = (("shoulder", "elbow", 0.055), ("elbow", "wrist", 0.045))
_TORSO = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")


def draw_people(
    poses: Sequence[np.ndarray], backgrounds: Sequence[np.ndarray], count: int, rng: np.random.Generator
) -> list[Person]:
    """Draw `count` people in poses taken from `poses`.

    Args:
        poses: (19, 3) key points each; only those with all but the face's are used.
        backgrounds: (side, side, 3) uint8 photographs, for what is behind and for the cloth.
    """
    whole = [pose for pose in poses if (pose[_NEEDED, 2] > 0).all()]
    if not whole or not backgrounds:
        raise ValueError(f"drawing people needs whole poses and backgrounds, got {len(whole)} and {len(backgrounds)}")
    return [draw_person(whole[int(rng.integers(len(whole)))], backgrounds, rng) for _ in range(count)]


def draw_person(pose: np.ndarray, backgrounds: Sequence[np.ndarray], rng: np.random.Generator) -> Person:
    """Draw one person in a pose (19, 3) that has all but the face's points."""
    points, size_wh = _placed(pose, rng)
    picture = cv2.resize(backgrounds[int(rng.integers(len(backgrounds)))], size_wh)
    unit = HEIGHT * rng.uniform(0.8, 1.25)  # how stout the figure is
    skin = np.array([rng.uniform(90, 240)] * 3) * (1, rng.uniform(0.7, 0.85), rng.uniform(0.5, 0.75))
    trousers, shirt = (_Cloth(backgrounds, size_wh, rng) for _ in range(2))
    sides = ["left", "right"] if rng.random() < 0.5 else ["right", "left"]
    bare_arms, bare_legs = rng.random(2) < (0.5, 0.4)

    def limbs(side: str, parts: Sequence[tuple[str, str, float]], bare: bool, cloth: _Cloth) -> None:
        for i, (start, end, width) in enumerate(parts):
            ends = [points[_AT[f"{side}_{name}"], :2] for name in (start, end)]
            mask = _line(size_wh, ends[0], ends[1], width * unit)
            _paint(picture, mask, skin if bare and i else cloth.texture, rng.uniform(0.75, 1.1))

    limbs(sides[0], _ARMS, bare_arms, shirt)
    for side in sides:
        limbs(side, _LEGS, bare_legs, trousers)
    _paint(picture, _torso(size_wh, points, unit), shirt.texture, 1.0)
    _head(picture, points, skin, rng)
    limbs(sides[1], _ARMS, bare_arms, shirt)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.0))
    return Person(picture, points, _box_around(points))


class _Cloth:
    """A colour, or a piece of a photograph in that colour's cast."""

    def __init__(self, backgrounds: Sequence[np.ndarray], size_wh: tuple[int, int], rng: np.random.Generator) -> None:
        colour = rng.uniform(10, 245, 3)
        photograph = cv2.resize(backgrounds[int(rng.integers(len(backgrounds)))], size_wh)[
            :, :: int(rng.choice([-1, 1]))
        ]
        share = rng.uniform(0, 0.7)
        self.texture = photograph * share + colour * (1 - share)


def _placed(pose: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """The pose jittered, scaled to HEIGHT and moved into a picture of its own; and that picture's (width, height)."""
    points = pose.astype(np.float64).copy()
    low = points[_NEEDED, :2].min(axis=0)
    extent = np.ptp(points[_NEEDED, :2], axis=0)
    points[:, :2] = (points[:, :2] - low) * HEIGHT / max(*extent, 1)
    points[:, :2] += rng.normal(0, 0.012 * HEIGHT, (len(points), 2))
    border = rng.uniform(0.1, 0.3, 2) * HEIGHT
    points[:, :2] += border
    width, height = (points[_NEEDED, :2].max(axis=0) + border).astype(int)
    return points, (int(width), int(height))


def _box_around(points: np.ndarray) -> np.ndarray:
    seen = points[points[:, 2] > 0, :2]
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = MARGIN * (high - low)
    return np.concatenate([low - margin, high + margin])


def _pixel(xy: np.ndarray) -> tuple[int, int]:
    return round(float(xy[0])), round(float(xy[1]))


def _line(size_wh: tuple[int, int], start: np.ndarray, end: np.ndarray, width: float) -> np.ndarray:
    mask = np.zeros(size_wh[::-1], np.uint8)
    cv2.line(mask, _pixel(start), _pixel(end), 255, max(2, round(width)), cv2.LINE_AA)
    return mask


def _torso(size_wh: tuple[int, int], points: np.ndarray, unit: float) -> np.ndarray:
    mask = np.zeros(size_wh[::-1], np.uint8)
    corners = np.array([_pixel(points[_AT[name], :2]) for name in _TORSO], np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(corners), 255, cv2.LINE_AA)
    cv2.polylines(mask, [corners], True, 255, max(2, round(0.05 * unit)), cv2.LINE_AA)
    return mask


def _paint(picture: np.ndarray, mask: np.ndarray, texture: np.ndarray, brightness: float) -> None:
    """Lay a texture (a colour, or a picture of the same size) over `picture` where the mask says, in place."""
    cover = mask[..., None] / 255
    picture[...] = np.clip(picture * (1 - cover) + texture * brightness * cover, 0, 255)


def _head(picture: np.ndarray, points: np.ndarray, skin: np.ndarray, rng: np.random.Generator) -> None:
    """Draw the head between neck and head top, and set the five points of its face (in place).

    Seen from the front a person's left shoulder is on the right. From behind only the ears are labelled.
    """
    neck, top = points[_AT["neck"], :2], points[_AT["head_top"], :2]
    length = max(float(np.linalg.norm(top - neck)), 6.0)
    up = (top - neck) / max(float(np.linalg.norm(top - neck)), 1e-6)
    right = np.array([-up[1], up[0]])  # on the picture's right when the head is upright
    shoulders = points[_AT["left_shoulder"], :2] - points[_AT["right_shoulder"], :2]
    across = float(shoulders @ right) / length
    front = across > -0.15 if rng.random() < 0.9 else across <= -0.15
    yaw = rng.uniform(-1, 1) * (1.0 if abs(across) < 0.8 else 0.6)  # -1 looks to the picture's left, 1 to its right

    def at(x: float, y: float) -> np.ndarray:
        return neck + length * (x * right + y * up)

    size_wh = (picture.shape[1], picture.shape[0])
    _paint(picture, _line(size_wh, neck, at(0, 0.4), 0.3 * length), skin, 0.85)
    angle = float(np.degrees(np.arctan2(right[1], right[0])))
    hair = rng.uniform(10, 160) * np.array([1.0, rng.uniform(0.7, 1), rng.uniform(0.4, 1)])
    for centre, axes, colour in (
        (at(-0.06 * yaw * front, 0.62), (0.33, 0.4), hair),
        (at(0.05 * yaw, 0.52), (0.27, 0.36), skin if front else hair),
    ):
        mask = np.zeros(size_wh[::-1], np.uint8)
        cv2.ellipse(mask, _pixel(centre), _pixel(np.array(axes) * length), angle, 0, 360, 255, -1, cv2.LINE_AA)
        _paint(picture, mask, colour, 1.0)
    left = 1.0 if front else -1.0  # the side of the picture on which the person's left is
    face = {
        "nose": at(0.2 * yaw, 0.48),
        "left_eye": at(0.16 * yaw + left * 0.12 * (1 - 0.4 * abs(yaw)), 0.6),
        "right_eye": at(0.16 * yaw - left * 0.12 * (1 - 0.4 * abs(yaw)), 0.6),
        "left_ear": at(-0.2 * yaw + left * 0.27 * (1 - 0.5 * abs(yaw)), 0.55),
        "right_ear": at(-0.2 * yaw - left * 0.27 * (1 - 0.5 * abs(yaw)), 0.55),
    }
    for name, xy in face.items():
        far_side = name != "nose" and yaw * left * (1 if name.startswith("left") else -1) > 0.5
        shown = name.endswith("ear") or front
        points[_AT[name]] = (*xy, shown and not (far_side and name.endswith("ear")))
    dark = rng.uniform(10, 70, 3)
    for name, size in (
        ("left_eye", 0.05),
        ("right_eye", 0.05),
        ("nose", 0.04),
        ("left_ear", 0.07),
        ("right_ear", 0.07),
    ):
        if points[_AT[name], 2]:
            mask = np.zeros(size_wh[::-1], np.uint8)
            cv2.circle(mask, _pixel(face[name]), max(1, round(size * length)), 255, -1, cv2.LINE_AA)
            _paint(picture, mask, dark if name.endswith("eye") else skin, 1.0 if name.endswith("eye") else 0.8)
    if front:
        _paint(
            picture, _line(size_wh, at(0.13 * yaw - 0.08, 0.33), at(0.13 * yaw + 0.08, 0.33), 0.04 * length), dark, 1.5
        )
