"""What grouping reads of heat maps and tags: single pixels, and where a missing key point fits best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

FARTHEST = 1e6  # distance of tags; farther ones are as far
CLEAR = 0.1  # height of a map above which a missing key point is looked for first
REACH = 1.0  # rounded distance of tags up to which it is looked for next
MANY = 4096  # pixels; of more than these all are looked at, which is as fast


class TagMaps(Protocol):
    """K heat maps and L K maps of tags of one image, enlarged: arrays, or what lies on a GPU."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the enlarged maps, px."""
        ...

    def heights(self, kind: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(P,) float32 of heat maps at P pixels."""
        ...

    def tags(self, kind: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(L, P) float32 of tags at P pixels."""
        ...

    def best_places(self, kind: np.ndarray, means: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """Where the map of each key point, less `weight` times the rounded distance of its tag, is highest.

        Args:
            kind: (P,) int, rising.
            means: (L, P) float64: the tag that is wanted.

        Returns:
            place: (P,) int, the pixel's number in the map, of equal ones the lowest; 0 where no height is a number.
            height: (P,) float32.
        """
        ...


@dataclass(frozen=True)
class TagArrays:
    """`TagMaps` in arrays.

    Attributes:
        heatmaps: (K, h, w) float32.
        numbers: (L, K, h, w) float32.
    """

    heatmaps: np.ndarray
    numbers: np.ndarray

    @property
    def size_hw(self) -> tuple[int, int]:
        """As of TagMaps."""
        return self.heatmaps.shape[1], self.heatmaps.shape[2]

    def heights(self, kind: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """As of TagMaps."""
        return np.asarray(self.heatmaps[kind, y, x])

    def tags(self, kind: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """As of TagMaps."""
        return np.asarray(self.numbers[:, kind, y, x])

    def best_places(self, kind: np.ndarray, means: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """As of TagMaps."""
        heights = self.heatmaps.reshape(len(self.heatmaps), -1)
        tags = self.numbers.reshape(*self.numbers.shape[:2], -1)
        with np.errstate(invalid="ignore", over="ignore"):  # of NaN and infinite heights and tags
            places = _best_places(heights, tags, kind, means.astype(np.float32), weight)
        return places, heights[kind, places]


def _best_places(
    heights: np.ndarray, tags: np.ndarray, kind: np.ndarray, means: np.ndarray, weight: float
) -> np.ndarray:
    """For each of N mean tags, the first pixel with the highest height - weight * rounded distance.

    Few pixels are looked at first: those of peaks, then those with a near tag. They are enough where no other pixel,
    which is lower or whose tag is farther, can be better.

    Args:
        heights: (K, P) float32.
        tags: (L, K, P) float32.
        kind: (N,) which of the K maps.
        means: (L, N) float32.
    """
    places, lacking = np.zeros(len(kind), int), np.ones(len(kind), bool)
    for one in np.unique(kind):
        rows, high = np.flatnonzero(kind == one), np.flatnonzero(heights[one] > CLEAR)
        if len(high):
            distances = _distances(tags[:, one][:, None, high], means[:, rows, None])  # (rows, pixels)
            best = (heights[one, high] - weight * distances).argmax(axis=1)
            places[rows], lacking[rows] = high[best], distances[np.arange(len(rows)), best] != 0
    near: dict[int, np.ndarray] = {}
    for row in np.flatnonzero(lacking).tolist():
        pixels = _near(tags[0, kind[row]], means[0, row])
        if 0 < len(pixels) <= MANY:
            near[row] = pixels
    if near:
        rows = np.array(list(near))
        places[rows], values = _best_of(list(near.values()), heights, tags, kind[rows], means[:, rows], weight)
        tops = heights.max(axis=1)[kind[rows]]  # of NaN NaN, which is no bound
        lacking[rows] = ~(values > tops - weight * (REACH + 1))
    for row in np.flatnonzero(lacking).tolist():
        places[row] = _best_anywhere(heights[kind[row]], tags[:, kind[row]], means[:, row], weight)
    return places


def _near(tags: np.ndarray, mean: np.float32) -> np.ndarray:
    """Numbers of the pixels whose tag lies at a rounded distance up to REACH, and of others close by."""
    margin = REACH + 0.5 + np.maximum(0.1, 1e-6 * np.abs(mean))  # more than what rounding makes of a distance
    return np.flatnonzero((tags > np.float32(mean - margin)) & (tags < np.float32(mean + margin)))


def _best_anywhere(heights: np.ndarray, tags: np.ndarray, mean: np.ndarray, weight: float) -> int:
    """The first best pixel of one map; 0 where no height is a number."""
    values = heights - weight * _distances(tags, mean[:, None])
    return int(np.where(heights > -np.inf, values, -np.inf).argmax())


def _best_of(
    near: Sequence[np.ndarray],
    heights: np.ndarray,
    tags: np.ndarray,
    kind: np.ndarray,
    means: np.ndarray,
    weight: float,
) -> tuple[np.ndarray, np.ndarray]:
    """For each of N means the first best of its own pixels, of which there are some, and its value: (N,) each."""
    counts = np.array([len(pixels) for pixels in near])
    pixels, row = np.concatenate(near), np.repeat(np.arange(len(near)), counts)
    found = heights[kind[row], pixels]
    values = found - weight * _distances(tags[:, kind[row], pixels], means[:, row])
    values[~(found > -np.inf)] = -np.inf
    highest = np.maximum.reduceat(values, np.cumsum(counts) - counts)
    equal = np.flatnonzero(values == highest[row])
    return pixels[equal[np.searchsorted(row[equal], np.arange(len(near)))]], highest


def _distances(tags: np.ndarray, means: np.ndarray) -> np.ndarray:
    """How far tags are from means over the first axis, rounded, float32; FARTHEST where it is not finite."""
    distances = np.abs(tags[0] - means[0]) if len(tags) == 1 else np.sqrt(((tags - means) ** 2).sum(axis=0))
    return np.fmin(np.rint(distances), np.float32(FARTHEST))
