"""Crowds drawn into the maps of bottom-up networks: key points, fields and tags with noise, as a network makes them."""

from __future__ import annotations

import cv2
import numpy as np

from edgepose.model.heads.fields import OPENPOSE18_FIELDS, OPENPOSE18_LIMBS

# A standing person of height 1: nose neck, right arm, left arm, right leg, left leg, eyes, ears (OpenPose's 18).
STANDING18 = np.array(
    [
        (0.0, 0.06), (0.0, 0.18), (-0.11, 0.18), (-0.16, 0.33), (-0.18, 0.47), (0.11, 0.18), (0.16, 0.33),
        (0.18, 0.47), (-0.07, 0.5), (-0.08, 0.73), (-0.08, 0.96), (0.07, 0.5), (0.08, 0.73), (0.08, 0.96),
        (-0.025, 0.04), (0.025, 0.04), (-0.055, 0.05), (0.055, 0.05),
    ],
)  # fmt: skip
COCO17_OF_18 = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)


def draw_people(count: int, map_hw: tuple[int, int], rng: np.random.Generator, *, height: float = 60) -> np.ndarray:
    """(N, 18, 2) key points of people anywhere in a map, px: each a little turned, bent and of its own size."""
    turn, scale = rng.normal(0, 0.15, count), height * rng.uniform(0.7, 1.2, count)
    bent = STANDING18 - (0, 0.5) + rng.normal(0, 0.012, (count, 18, 2))
    cosine, sine = np.cos(turn), np.sin(turn)
    rotation = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], 1)
    place = rng.uniform((0.05, 0.1), (0.95, 0.9), (count, 2)) * map_hw[::-1]
    return np.einsum("nij,nkj->nki", rotation, bent) * scale[:, None, None] + place[:, None]


def draw_maps(
    points: np.ndarray, map_hw: tuple[int, int], rng: np.random.Generator, *, sigma: float = 2.0, missing: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """A heat map for each of K key points, with noise, and which points are in it.

    Args:
        points: (N, K, 2), px.
        missing: share of the points that are not drawn, as if hidden.

    Returns:
        heatmaps: (K, h, w) float32.
        drawn: (N, K) bool.
    """
    inside = ((points >= 0) & (points <= np.array(map_hw[::-1]) - 1)).all(axis=2)
    drawn = inside & (rng.random(points.shape[:2]) >= missing)
    heatmaps = _noise(points.shape[1], 0.015, map_hw, rng)
    for person, kind in zip(*np.nonzero(drawn), strict=True):
        window, (y, x) = _window(points[person, kind], points[person, kind], 3 * sigma, map_hw)
        blob = rng.uniform(0.4, 1) * np.exp(
            -((np.stack([x, y], -1) - points[person, kind]) ** 2).sum(-1) / 2 / sigma**2
        )
        heatmaps[kind][window] = np.maximum(heatmaps[kind][window], blob)
    return heatmaps, drawn


def draw_fields(
    points: np.ndarray, drawn: np.ndarray, map_hw: tuple[int, int], rng: np.random.Generator, *, width: float = 3.0
) -> np.ndarray:
    """(38, h, w) float32: fields of people with OpenPose's 18 key points; where limbs cross, their mean."""
    pafs = np.zeros((2 * len(OPENPOSE18_LIMBS), *map_hw), np.float32)
    covered = np.zeros((len(OPENPOSE18_LIMBS), *map_hw), np.float32)
    for (a, b), field in zip(OPENPOSE18_LIMBS, OPENPOSE18_FIELDS, strict=True):
        for person in np.flatnonzero(drawn[:, a] & drawn[:, b]):
            start, end = points[person, a], points[person, b]
            length = max(float(np.hypot(*(end - start))), 1e-6)
            unit = (end - start) / length
            window, (y, x) = _window(start, end, width, map_hw)
            offset = np.stack([x, y], -1) - start
            along, across = offset @ unit, np.abs(offset @ (-unit[1], unit[0]))
            on = (along >= -1) & (along <= length + 1) & (across <= width)
            covered[field][window] += on
            for axis in (0, 1):
                pafs[2 * field + axis][window] += on * unit[axis]
    pafs /= np.repeat(np.maximum(covered, 1), 2, axis=0)
    return pafs + _noise(len(pafs), 0.02, map_hw, rng)


def draw_tags(
    points: np.ndarray, drawn: np.ndarray, map_hw: tuple[int, int], rng: np.random.Generator, *, apart: float = 1.0
) -> np.ndarray:
    """(K, h, w) float32 tags: each person's own number around their points, `apart` from the next person's.

    Args:
        apart: networks are trained to 1 or more; less makes people who are hard to tell apart.
    """
    tags = _noise(points.shape[1], 0.3, map_hw, rng)
    numbers = apart * (rng.permutation(len(points)) - len(points) / 2)
    for person, kind in zip(*np.nonzero(drawn), strict=True):
        window, _ = _window(points[person, kind], points[person, kind], 4, map_hw)
        tags[kind][window] = numbers[person] + rng.normal(0, 0.05, tags[kind][window].shape)
    return tags


def _noise(count: int, height: float, map_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(count, h, w) float32, as smooth as maps that were enlarged four times."""
    coarse = rng.normal(0, height, (count, -(-map_hw[0] // 4), -(-map_hw[1] // 4))).astype(np.float32)
    return np.stack([cv2.resize(noise, map_hw[::-1], interpolation=cv2.INTER_CUBIC) for noise in coarse])


def _window(
    start: np.ndarray, end: np.ndarray, margin: float, map_hw: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The part of a map around two points, and its pixels' y and x."""
    low = np.clip(np.floor(np.minimum(start, end) - margin), 0, None).astype(int)
    high = np.clip(np.ceil(np.maximum(start, end) + margin) + 1, 0, map_hw[::-1]).astype(int)
    rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
    return (rows, columns), np.mgrid[rows, columns]
