"""Scenes for training the person detector: photographs, cut-out people on photographs, and drawn people.

The Leeds pictures show one person each and have key points but no outline: GrabCut (Rother et al., SIGGRAPH 2004)
finds one, begun from the limbs. A cut-out is then pasted into any picture, and its box is its outline's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from edgepose.export.drawn.person import KEYPOINTS, Person
from edgepose.export.drawn.scene import Cutout
from edgepose.export.training.data import _recolour, is_held_out
from edgepose.io.boxes import read_json
from edgepose.io.images import read_image

GREY = 114  # of the input beside the picture
SMALLEST = 6.0  # px of a shown box's shorter side that is still learned
SEEN = 0.25  # of a box's area must be in view; others teach neither way

_LIMBS = tuple(
    (KEYPOINTS.index(f"{side}_{start}"), KEYPOINTS.index(f"{side}_{end}"))
    for side in ("left", "right")
    for start, end in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
_TORSO = tuple(KEYPOINTS.index(f"{side}_{part}") for side in ("left", "right") for part in ("shoulder", "hip"))
_HEAD = (KEYPOINTS.index("neck"), KEYPOINTS.index("head_top"))


@dataclass(frozen=True)
class Photograph:
    """A picture with all its people: (H, W, 3) uint8 RGB, and boxes (N, 4), image px; `crowd` ones do not teach."""

    image: np.ndarray
    boxes_xyxy: np.ndarray
    crowd: np.ndarray

    @cached_property
    def half(self) -> np.ndarray:
        """The picture at half its size: bilinear sampling of the whole one would leave pixels out."""
        return np.asarray(cv2.resize(self.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


@dataclass(frozen=True)
class Material:
    """What scenes are made of."""

    photographs: list[Photograph]
    cutouts: list[Cutout]
    backgrounds: list[np.ndarray]


def read_photographs(images: Path, boxes_file: Path, held_out: float, *, kept: bool = False) -> list[Photograph]:
    """The photographs that are not held out (`kept`: those that are), with the boxes of a COCO annotation file."""
    data = read_json(boxes_file)
    photographs = []
    for entry in data["images"]:
        if is_held_out(entry["file_name"], held_out) != kept:
            continue
        people = [one for one in data["annotations"] if one["image_id"] == entry["id"]]
        boxes = np.array([one["bbox"] for one in people], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        crowd = np.array([bool(one.get("iscrowd", 0)) for one in people], bool)
        photographs.append(Photograph(read_image(images / entry["file_name"]), boxes, crowd))
    return photographs


def cut_person_out(person: Person) -> Cutout | None:
    """The person's outline by GrabCut, begun from the labelled limbs; None where no sensible one is found."""
    height, width = person.image.shape[:2]
    points = person.keypoints
    length = float(np.linalg.norm(person.box_xyxy[2:] - person.box_xyxy[:2]))
    sure, likely = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)

    def draw(start: int, end: int, share: float) -> None:
        if points[start, 2] > 0 and points[end, 2] > 0:
            ends = [tuple(int(v) for v in points[i, :2].round()) for i in (start, end)]
            cv2.line(sure, *ends, 1, max(1, round(0.25 * share * length)))
            cv2.line(likely, *ends, 1, max(3, round(1.6 * share * length)))

    for start, end in _LIMBS:
        draw(start, end, 0.07)
    draw(*_HEAD, 0.11)
    torso = np.array([points[i, :2] for i in _TORSO if points[i, 2] > 0]).round().astype(np.int32)
    if len(torso) < 3 or not sure.any():
        return None
    cv2.fillConvexPoly(sure, cv2.convexHull(torso), 1)
    cv2.fillConvexPoly(likely, cv2.convexHull(torso), 1)
    reach = max(3, round(0.09 * length)) | 1
    possible = cv2.dilate(likely, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    mask = np.where(sure > 0, cv2.GC_FGD, np.where(likely > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD)).astype(np.uint8)
    mask[possible == 0] = cv2.GC_BGD
    if not (mask == cv2.GC_BGD).any():
        return None
    try:
        models = [np.zeros((1, 65)) for _ in range(2)]
        cv2.grabCut(person.image, mask, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels of one kind
        return None
    found = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    if len(rows) < 20 or len(columns) < 8 or found.sum() < 1.2 * sure.sum():
        return None
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    cover = cv2.GaussianBlur(found.astype(np.float32), (3, 3), 0)[window]
    return Cutout(np.ascontiguousarray(person.image[window]), cover)


def make_scene(material: Material, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One random scene.

    Returns:
        (side, side, 3) uint8 RGB; boxes (N, 4) float32, px; and (N,) bool, those that teach neither way.
    """
    kind = rng.random()
    if kind < 0.6:
        scene = _photograph(material, side, rng)
    elif kind < 0.8:
        scene = _four(material, side, rng)
    else:
        scene = _empty(material, side, rng)
    if kind >= 0.8 or rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 5))):
            scene = _with_person(scene, material, rng)
    picture, boxes, ignored = scene
    if rng.random() < 0.5:
        picture, boxes = picture[:, ::-1], boxes * (-1, 1, -1, 1) + (side, 0, side, 0)
        boxes = boxes[:, [2, 1, 0, 3]]
    picture = _recolour(np.ascontiguousarray(picture), rng)
    clipped = np.clip(boxes, 0, side)
    share = _areas(clipped) / np.maximum(_areas(boxes), 1e-6)
    shown = (share > 0.02) & ((clipped[:, 2:] - clipped[:, :2]).min(axis=1, initial=np.inf) > 1)
    small = (clipped[:, 2:] - clipped[:, :2]).min(axis=1, initial=np.inf) < SMALLEST
    ignored = ignored | (share < SEEN) | small
    return picture, clipped[shown].astype(np.float32), ignored[shown]


Scene = tuple[np.ndarray, np.ndarray, np.ndarray]


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _photograph(material: Material, side: int, rng: np.random.Generator) -> Scene:
    """A photograph, larger or smaller than the input, shifted; grey where it ends."""
    chosen = material.photographs[int(rng.integers(len(material.photographs)))]
    fit = side / max(chosen.image.shape[:2])
    scale = fit * (1.0 if rng.random() < 0.2 else float(np.exp(rng.uniform(np.log(0.6), np.log(2.2)))))
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    scale_xy = np.array([scale * stretch, scale / stretch])
    room = side - scale_xy * chosen.image.shape[1::-1]
    shift = rng.uniform(np.minimum(room, 0), np.maximum(room, 0))
    if len(chosen.boxes_xyxy) and rng.random() < 0.5:  # look at somebody
        box = chosen.boxes_xyxy[int(rng.integers(len(chosen.boxes_xyxy)))]
        center = (box[:2] + box[2:]) / 2 * scale_xy
        shift = np.clip(rng.uniform(0.25, 0.75, 2) * side - center, np.minimum(room, 0), np.maximum(room, 0))
    matrix = np.array([[scale_xy[0], 0, shift[0]], [0, scale_xy[1], shift[1]]])
    image = chosen.half if scale < 0.6 else chosen.image
    matrix[:, :2] *= np.array(chosen.image.shape[1::-1]) / np.array(image.shape[1::-1])
    picture = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(GREY,) * 3
    )
    return picture, chosen.boxes_xyxy * np.tile(scale_xy, 2) + np.tile(shift, 2), chosen.crowd


def _four(material: Material, side: int, rng: np.random.Generator) -> Scene:
    """Parts of four photographs around a point (Bochkovskiy et al., "YOLOv4", 2020)."""
    x, y = (int(v) for v in rng.uniform(0.3, 0.7, 2) * side)
    picture = np.empty((side, side, 3), np.uint8)
    boxes, ignored = [], []
    for left, top, right, bottom in ((0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)):
        part, of_part, skipped = _photograph(material, max(right - left, bottom - top), rng)
        picture[top:bottom, left:right] = part[: bottom - top, : right - left]
        whole = _areas(of_part)
        of_part = np.clip(of_part, 0, (right - left, bottom - top) * 2)
        share = _areas(of_part) / np.maximum(whole, 1e-6)
        boxes.append(of_part[share > 0.02] + (left, top, left, top))
        ignored.append((skipped | (share < SEEN))[share > 0.02])
    return picture, np.concatenate(boxes), np.concatenate(ignored)


def _empty(material: Material, side: int, rng: np.random.Generator) -> Scene:
    """Nobody: a piece of a photograph."""
    piece = material.backgrounds[int(rng.integers(len(material.backgrounds)))]
    return cv2.resize(piece, (side, side)), np.zeros((0, 4)), np.zeros(0, bool)


def _with_person(scene: Scene, material: Material, rng: np.random.Generator) -> Scene:
    """One more person, in front of the others; those who are mostly hidden by it teach neither way."""
    picture, boxes, ignored = scene
    side = len(picture)
    chosen = material.cutouts[int(rng.integers(len(material.cutouts)))]
    image, cover = chosen.image, chosen.cover
    height = side * float(np.exp(rng.uniform(np.log(0.12), np.log(0.95))))
    scale = height / max(cover.shape)
    size = tuple(max(4, int(v * scale)) for v in cover.shape[::-1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image, cover = cv2.resize(image, size, interpolation=how), cv2.resize(cover, size, interpolation=how)
    if rng.random() < 0.7:
        image = _recolour(image, rng)
    low = np.round(rng.uniform(-0.25, 1.0, 2) * (side, side) - (0.0, 0.0)).astype(int)
    low = np.minimum(low, side - np.array(size) // 2)
    x0, y0 = np.maximum(low, 0)
    x1, y1 = np.minimum(low + size, side)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return scene
    part = slice(y0 - low[1], y1 - low[1]), slice(x0 - low[0], x1 - low[0])
    share = cover[part][..., None]
    picture = picture.copy()
    picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - share) + image[part] * share
    box = np.array([*low, *(low + size)], np.float64)
    common = np.clip(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0, None).prod(axis=1)
    hidden = common > 0.75 * _areas(boxes)
    return picture, np.vstack([boxes, box]), np.append(ignored | hidden, False)
