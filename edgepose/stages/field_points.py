"""Key points of everybody in heat maps that come with part affinity fields.

Which pixel is one is as in lightweight OpenPose (`extract_keypoints`): not the rule of peaks.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepose.model.heads.fields import Fields


@dataclass(frozen=True)
class Points:
    """Peaks of K maps, those of map k in rows first[k] to first[k + 1], from left to right.

    Attributes:
        xy: (P, 2) int, px of the map.
        scores: (P,) float64, the peak's value.
        first: (K + 1,) int.
    """

    xy: np.ndarray
    scores: np.ndarray
    first: np.ndarray


def find_points(heatmaps: np.ndarray, head: Fields) -> Points:
    """Peaks: higher than the four pixels around, and not too near to one further left.

    Args:
        heatmaps: (K, h, w).
    """
    return choose_points(*find_candidates(heatmaps, head.peak_threshold), heatmaps.shape, head)


def find_candidates(heatmaps: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of at least a threshold over 0 that are higher than the four around. The CUDA kernel's reference.

    Args:
        heatmaps: (K, h, w) float32. Beyond the border lies 0. Neither a NaN nor an infinity is a candidate.

    Returns:
        place: (P,) int, the pixel's number in memory, rising.
        value: (P,) float32.
    """
    _, height, width = heatmaps.shape
    bordered = np.pad(heatmaps, ((0, 0), (1, 1), (1, 1)))
    flat = bordered.ravel()
    with np.errstate(invalid="ignore"):
        index = np.flatnonzero(flat >= threshold)
        value = flat[index]
        for step in (-1, 1, -(width + 2), width + 2):
            index, value = _higher_than(flat, index, value, step)
    index, value = index[np.isfinite(value)], value[np.isfinite(value)]
    row, x = np.divmod(index, width + 2)
    kind, y = np.divmod(row, height + 2)
    return (kind * height + y - 1) * width + x - 1, value


def choose_points(place: np.ndarray, value: np.ndarray, maps: tuple[int, ...], head: Fields) -> Points:
    """The points that stay of candidates, which may come in any order.

    Args:
        place, value: (P,) as of `find_candidates`.
        maps: K, h, w.
    """
    count, height, width = maps
    row, x = np.divmod(place, width)
    kind, y = np.divmod(row, height)
    order = np.lexsort((y, x, kind))
    kind, xy, scores = kind[order], np.stack([x, y], axis=1)[order], value[order].astype(np.float64)
    kept = np.flatnonzero(_apart(kind, xy, head.peak_distance, maps))
    first = np.searchsorted(kind[kept], np.arange(count + 1))
    if np.diff(first).max(initial=0) > head.top_k:
        by_height = kept[np.lexsort((-scores[kept], kind[kept]))]
        rank = np.arange(len(kept)) - first[kind[by_height]]
        kept = np.sort(by_height[rank < head.top_k])
        first = np.searchsorted(kind[kept], np.arange(count + 1))
    return Points(xy[kept], scores[kept], first)


def _higher_than(flat: np.ndarray, index: np.ndarray, value: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    higher = value > flat[index + step]  # False for NaN
    return index[higher], value[higher]


def _apart(kind: np.ndarray, xy: np.ndarray, distance: float, maps: tuple[int, ...]) -> np.ndarray:
    """(P,) bool: each point, in order, unless one that stays lies nearer in the same map of (K, h, w)."""
    stays = _alone(kind, xy, distance, maps)
    reach = int(np.ceil(distance))
    steps = np.arange(-reach, reach + 1)
    widths = (np.hypot(steps[:, None], steps) < distance).sum(axis=1)  # of a disc's rows, from top to bottom
    high, wide = maps[1] + 2 * reach, maps[2] + 2 * reach
    taken = bytearray(maps[0] * high * wide)
    starts = (steps * wide - widths // 2)[widths > 0].tolist()
    disc = [(start, b"\1" * width) for start, width in zip(starts, widths[widths > 0].tolist(), strict=True)]
    near = np.flatnonzero(~stays)
    places = (kind[near] * high + xy[near, 1] + reach) * wide + xy[near, 0] + reach
    for row, place in zip(near.tolist(), places.tolist(), strict=True):
        if not taken[place]:
            stays[row] = True
            for start, ones in disc:
                taken[place + start : place + start + len(ones)] = ones
    return stays


def _alone(kind: np.ndarray, xy: np.ndarray, distance: float, maps: tuple[int, ...]) -> np.ndarray:
    """(P,) bool: which points surely have nobody near, in cells of the distance's size; most have not."""
    size = max(int(np.ceil(distance)), 1)
    x, y = (xy // size + 1).T
    rows, columns = maps[1] // size + 3, maps[2] // size + 3
    cell = (kind * rows + y) * columns + x
    points = np.bincount(cell, minlength=maps[0] * rows * columns)
    around = sum(points[cell + step_y * columns + step_x] for step_y in (-1, 0, 1) for step_x in (-1, 0, 1))
    return np.asarray(around == 1)
