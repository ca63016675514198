"""Drawn people to try a model on where there are no photographs: made-up poses, bodies and backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgepose.export.drawn.person import KEYPOINTS, Person
from edgepose.export.drawn.rendered import draw_person
from edgepose.files import write_bytes, write_json
from edgepose.io.html import jpeg
from edgepose.model.skeletons import COCO17

ENLARGED = 2  # pictures are drawn small; overlays are easier to look at on large ones
AREA_SHARE = 0.53  # of the box: a person's own area, as LSP's annotations take it
BACKGROUNDS = 24

# A grown person's segments, in body heights.
_SHOULDERS, _HIPS, _TORSO, _NECK = 0.21, 0.14, 0.29, 0.17
_UPPER_ARM, _FOREARM, _THIGH, _SHIN = 0.16, 0.15, 0.25, 0.24


def write_people(folder: Path, count: int, seed: int) -> Path:
    """Draw people, one a picture, and write the pictures and their COCO key-point annotations.

    Args:
        folder: for 000.jpg, 001.jpg, ... and annotations.json.
        seed: the same seed draws the same people.

    Returns:
        The annotations' path. Besides COCO's key points they have neck and head_top.
    """
    rng = np.random.default_rng(seed)
    backgrounds = [make_background(rng) for _ in range(BACKGROUNDS)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        person = draw_person(make_pose(rng), backgrounds, rng)
        picture = cv2.resize(person.image, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        name = f"{number:03}.jpg"
        write_bytes(folder / name, jpeg(picture))
        height, width = picture.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations.append(_annotation(number, person))
    head = [name for name in KEYPOINTS if name not in COCO17.keypoints]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "keypoints_head": head}
    path = folder / "annotations.json"
    write_json(path, {"images": images, "categories": [category], "annotations": annotations})
    return path


def make_pose(rng: np.random.Generator) -> np.ndarray:
    """(19, 3): a pose in body heights, y down, with all but the face's points; label 1 or 0.

    Trunk, arms and legs bend at random about standing; one in five is seen from behind.
    """
    points = np.zeros((len(KEYPOINTS), 3))
    lean = rng.normal(0, 0.25)
    turned = rng.uniform(0.45, 1.0) * (1 if rng.random() < 0.8 else -1)  # how wide the shoulders look; < 0 from behind
    pelvis, neck = np.zeros(2), _step(np.pi + lean, _TORSO)
    ends = {"neck": neck, "head_top": neck + _step(np.pi + lean + rng.normal(0, 0.2), _NECK)}
    across = np.array([np.cos(lean), np.sin(lean)]) * turned
    for side, sign in (("left", 1), ("right", -1)):
        outward = sign * np.sign(turned)  # the person's left is on the picture's right, seen from the front
        shoulder, hip = neck + sign * across * _SHOULDERS / 2, pelvis + sign * across * _HIPS / 2
        arm, leg = lean + outward * rng.uniform(-0.2, 2.4), outward * rng.normal(0.2, 0.3)
        elbow = shoulder + _step(arm, _UPPER_ARM)
        knee = hip + _step(leg, _THIGH)
        ends |= {
            f"{side}_shoulder": shoulder,
            f"{side}_elbow": elbow,
            f"{side}_wrist": elbow + _step(arm + outward * rng.uniform(-0.6, 1.8), _FOREARM),
            f"{side}_hip": hip,
            f"{side}_knee": knee,
            f"{side}_ankle": knee + _step(leg - outward * rng.uniform(-0.1, 0.7), _SHIN),
        }
    for name, xy in ends.items():
        points[KEYPOINTS.index(name)] = (*xy, 1)
    return points


def make_background(rng: np.random.Generator, side: int = 256) -> np.ndarray:
    """(side, side, 3) uint8: soft patches of muted colour with finer ones in them."""
    picture = np.zeros((side, side, 3))
    for cells, strength in ((3, 1.0), (9, 0.5), (40, 0.25)):
        grey = rng.uniform(0, 255, (cells, cells, 1))
        cast = rng.uniform(-60, 60, (cells, cells, 3))
        coarse = np.clip(grey + cast, 0, 255).astype(np.float32)
        picture += strength * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    return (picture / 1.75).astype(np.uint8)


def _step(angle: float, length: float) -> np.ndarray:
    """From a joint to the next: 0 is straight down, positive to the picture's right."""
    return np.array([np.sin(angle), np.cos(angle)]) * length


def _annotation(number: int, person: Person) -> dict[str, Any]:
    left, top, right, bottom = (person.box_xyxy * ENLARGED).tolist()
    points = person.keypoints * (ENLARGED, ENLARGED, 1)
    points[:, 2] = np.where(points[:, 2] > 0, 2, 0)
    points[points[:, 2] == 0] = 0
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [left, top, right - left, bottom - top],
        "area": AREA_SHARE * (right - left) * (bottom - top),
        "num_keypoints": int((points[: len(COCO17), 2] > 0).sum()),
        "keypoints": _flat(points[: len(COCO17)]),
        "keypoints_head": _flat(points[len(COCO17) :]),
    }


def _flat(points: np.ndarray) -> Sequence[float]:
    return [round(value, 2) for value in points.ravel().tolist()]
