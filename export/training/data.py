"""Labelled people for training: which are held out, how they are varied, and the heat maps they should give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from edgepose.export.drawn.person import KEYPOINTS, Person
from edgepose.io.annotations import Annotations
from edgepose.io.boxes import boxes_for_images
from edgepose.io.images import find_images, read_image
from edgepose.model.skeletons import pairs_from_names
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions

UPPER_BODY = tuple(i for i, name in enumerate(KEYPOINTS) if not name.endswith(("hip", "knee", "ankle")))
LOWER_BODY = tuple(i for i, name in enumerate(KEYPOINTS) if name.endswith(("hip", "knee", "ankle")))
SIGMA = 1.25 / 32  # of the target Gaussians, in heat-map heights
FEWEST_KEYPOINTS = 3  # people with fewer labelled teach little
CLOSE_WEIGHT = 6.0  # of the one map that a close crop teaches; a whole crop teaches a dozen, of weight 1 each
SMALLEST_HEIGHT = 24  # px; smaller people are a smear in the crop


@dataclass(frozen=True)
class _Motion:
    """How a crop is moved: turned by degrees, scaled by a factor, shifted by shares of its width and height."""

    turned: float
    scaled: float
    shift: np.ndarray


def is_held_out(file_name: str, share: float) -> bool:
    """Whether an image is kept from training, by the first byte of its file name's sha256: about `share` of all are."""
    return hashlib.sha256(file_name.encode()).digest()[0] < share * 256


def training_people(annotations: Annotations, images: Path, held_out: float) -> list[Person]:
    """The people of all images that are not held out, with their pictures in memory."""
    columns = [(KEYPOINTS.index(name), i) for i, name in enumerate(annotations.keypoint_names) if name in KEYPOINTS]
    people = []
    for entry in annotations.images:
        if is_held_out(entry.file_name, held_out):
            continue
        image = read_image(images / entry.file_name)
        keypoints = np.zeros((len(entry), len(KEYPOINTS), 3))
        for ours, theirs in columns:
            keypoints[:, ours] = entry.keypoints[:, theirs]
        boxes = entry.boxes_xywh.copy()
        boxes[:, 2:] += boxes[:, :2]
        large = entry.boxes_xywh[:, 3] >= SMALLEST_HEIGHT
        labelled = (keypoints[..., 2] > 0).sum(axis=1) >= FEWEST_KEYPOINTS
        people += [Person(image, keypoints[i], boxes[i]) for i in np.flatnonzero(large & labelled & entry.posed)]
    return people


def backgrounds_of(
    images: Path, boxes_file: Path, rng: np.random.Generator, count: int, side: int = 160
) -> list[np.ndarray]:
    """Square pieces of a folder's photographs that touch none of the person boxes.

    Returns:
        Up to `count` pieces of (side, side, 3) uint8 RGB.
    """
    pieces = []
    listed = boxes_for_images(find_images([images]), boxes_file)
    for entry in listed:
        image = read_image(entry.path)
        boxes = entry.boxes_in(image)
        shortest = min(image.shape[:2])
        for _ in range(-(-count // len(listed))):
            size = int(rng.integers(min(side // 2, shortest), shortest + 1))
            left, top = rng.integers(0, np.array(image.shape[1::-1]) - size + 1)
            free = ((left, top) >= boxes[:, 2:]) | ((left + size, top + size) <= boxes[:, :2])
            if free.any(axis=1).all():
                piece = image[top : top + size, left : left + size]
                pieces.append(cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA))
    return pieces


def vary(
    person: Person, spec: ModelSpec, rng: np.random.Generator, backgrounds: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """One randomly varied crop of a person.

    Mirrored, turned, scaled, shifted, now and then only half of the body, sometimes with a photograph where the image
    ends; then colours, sharpness and noise, and rectangles that hide a part.

    Returns:
        The crop, (h, w, 3) uint8 RGB, and key points (19, 3) float32: x, y in crop px, and 1 where labelled and
        inside the crop, else 0.
    """
    box = _half_body(person, rng) if rng.random() < 0.2 else person.box_xyxy
    motion = _Motion(_turn(rng), rng.uniform(0.7, 1.3), rng.uniform(-0.08, 0.08, 2))
    return _vary_region(person, Regions.around(box[None], spec), motion, spec, rng, backgrounds)


def vary_close(
    person: Person, spec: ModelSpec, rng: np.random.Generator, backgrounds: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """One randomly varied crop around one labelled key point, as the second pass of a two-pass network gets it.

    The key point lies off the centre by what a first pass may err. It alone counts: its map is the only one that is
    read from such a crop, and so the network may learn that it is near the centre.

    Returns:
        As `vary` does; the third value of a key point is the weight of its map.
    """
    assert spec.heatmaps.refine is not None
    index = int(rng.choice(np.flatnonzero(person.keypoints[:, 2] > 0)))
    whole = Regions.around(person.box_xyxy[None], spec)
    close = Regions(person.keypoints[index][None, :2], whole.size_wh * spec.heatmaps.refine.share, spec.crop.alignment)
    shift = rng.uniform(-0.35, 0.35, 2) if rng.random() < 0.2 else rng.normal(0, 0.08, 2)
    motion = _Motion(_turn(rng), rng.uniform(0.75, 1.3), shift)
    only = person.keypoints * (np.arange(len(KEYPOINTS)) == index)[:, None]
    crop, keypoints = _vary_region(replace(person, keypoints=only), close, motion, spec, rng, backgrounds)
    keypoints[:, 2] *= CLOSE_WEIGHT
    return crop, keypoints


def _vary_region(
    person: Person,
    region: Regions,
    motion: _Motion,
    spec: ModelSpec,
    rng: np.random.Generator,
    backgrounds: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    matrix, mirrored = _random_matrix(region, motion, spec, rng)
    height, width = spec.image.size_hw
    crop = cv2.warpAffine(person.image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    if len(backgrounds) and rng.random() < 0.4:
        inside = np.full(person.image.shape[:2], 255, np.uint8)
        covered = cv2.warpAffine(inside, matrix, (width, height), flags=cv2.INTER_LINEAR)[..., None] >= 128
        piece = backgrounds[int(rng.integers(len(backgrounds)))]
        crop = np.where(covered, crop, cv2.resize(piece, (width, height)))
    keypoints = np.zeros((len(KEYPOINTS), 3), np.float32)
    keypoints[:, :2] = person.keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    inside_crop = (keypoints[:, :2] > -0.5).all(axis=1) & (keypoints[:, :2] < (width - 0.5, height - 0.5)).all(axis=1)
    keypoints[:, 2] = (person.keypoints[:, 2] > 0) & inside_crop
    if mirrored:
        keypoints = keypoints[MIRROR_ORDER]
    return _hide(_recolour(crop, rng), rng), keypoints


def targets(keypoints: np.ndarray, spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """The heat maps a network should give: Gaussians around the true points, not rounded to pixels (DARK, CVPR 2020).

    Args:
        keypoints: (N, K, 3) as `vary` gives them.

    Returns:
        (N, K, h, w) float32, highest 1; and (N, K) float32, 0 where a key point is unlabelled and its map is unknown.
    """
    height, width = spec.heatmaps.size_hw
    xy = keypoints[..., :2] * (
        np.array(spec.heatmaps.size_hw[::-1]) / np.array(spec.image.size_hw[::-1])
    )  # "corner" alignment
    sigma = SIGMA * height
    along_x = np.exp(-((np.arange(width) - xy[..., :1]) ** 2) / (2 * sigma**2))
    along_y = np.exp(-((np.arange(height) - xy[..., 1:]) ** 2) / (2 * sigma**2))
    maps = (along_y[..., :, None] * along_x[..., None, :]).astype(np.float32)
    return maps, keypoints[..., 2].astype(np.float32)


def _mirror_order() -> list[int]:
    order = list(range(len(KEYPOINTS)))
    for left, right in pairs_from_names(KEYPOINTS):
        order[left], order[right] = right, left
    return order


MIRROR_ORDER = _mirror_order()


def _turn(rng: np.random.Generator) -> float:
    return float(rng.uniform(-40, 40)) if rng.random() < 0.6 else 0.0


def _random_matrix(
    region: Regions, motion: _Motion, spec: ModelSpec, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """(2, 3) image px -> crop px, and whether it mirrors."""
    matrix = np.vstack([region.to_grid_matrices(spec.image.size_hw)[0], (0, 0, 1)])
    height, width = spec.image.size_hw
    moved = cv2.getRotationMatrix2D((width / 2, height / 2), motion.turned, motion.scaled)
    moved[:, 2] += motion.shift * (width, height)
    matrix = moved @ matrix
    mirrored = bool(rng.random() < 0.5)
    if mirrored:
        matrix[0] *= -1
        matrix[0, 2] += width - 1
    return matrix, mirrored


def _half_body(person: Person, rng: np.random.Generator) -> np.ndarray:
    """A box around the upper or lower body, where enough of it is labelled; else the person's."""
    half = list(UPPER_BODY if rng.random() < 0.7 else LOWER_BODY)
    points = person.keypoints[half]
    points = points[points[:, 2] > 0, :2]
    if len(points) < FEWEST_KEYPOINTS:
        return person.box_xyxy
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.15 * max(*(high - low), SMALLEST_HEIGHT / 2)
    return np.concatenate([low - margin, high + margin])


def _recolour(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, 3)
    offset = rng.uniform(-25, 25)
    grey = np.arange(256)[:, None] / 255
    table = 255 * grey ** rng.uniform(0.75, 1.35) * gain + offset
    crop = cv2.LUT(crop, np.clip(table, 0, 255).astype(np.uint8).reshape(256, 1, 3))
    height, width = crop.shape[:2]
    if rng.random() < 0.1:
        crop = np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < 0.15:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.3))
    elif rng.random() < 0.15:
        coarse = rng.uniform(0.4, 0.8)
        crop = cv2.resize(cv2.resize(crop, None, fx=coarse, fy=coarse), (width, height))
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(2, 12), crop.shape)
        crop = np.clip(crop + noise, 0, 255).astype(np.uint8)
    return crop


def _hide(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover up to two rectangles with a colour, or with what is elsewhere in the crop."""
    if rng.random() < 0.5:
        return crop
    crop = crop.copy()
    size_hw = np.array(crop.shape[:2])
    for _ in range(rng.integers(1, 3)):
        h, w = (rng.uniform(0.08, 0.3, 2) * size_hw).astype(int)
        (y, x), (from_y, from_x) = (rng.integers(0, size_hw - (h, w)) for _ in range(2))
        if rng.random() < 0.5:
            crop[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        else:
            crop[y : y + h, x : x + w] = crop[from_y : from_y + h, from_x : from_x + w].copy()
    return crop
