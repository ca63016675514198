"""What grouping reads of heat maps and tags: single pixels, and where a missing key point fits best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

FARTHEST = 1e6  # distance of tags; farther ones are as far
CLEAR = (0.1, 0.01)  # heights of a map above which a missing key point is looked for before all of it is


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
        places = np.zeros(len(kind), int)
        for one in np.unique(kind):
            rows = np.flatnonzero(kind == one)
            flat_tags = self.numbers[:, one].reshape(len(self.numbers), -1)
            places[rows] = _best_places(self.heatmaps[one].ravel(), flat_tags, means[:, rows], weight)
        return places, self.heatmaps.reshape(len(self.heatmaps), -1)[kind, places]


def _best_places(heights: np.ndarray, tags: np.ndarray, means: np.ndarray, weight: float) -> np.ndarray:
    """For each of N mean tags, the first pixel with the highest height - weight * round(distance).

    Where a pixel higher than c has a tag at a distance that rounds to 0, no lower pixel is better. So the few high ones
    are looked at first.

    Args:
        heights: (P,) float32.
        tags: (L, P) float32.
        means: (L, N).
    """
    places = np.zeros(means.shape[1], dtype=int)
    lacking = list(range(len(places)))
    for clear in (*CLEAR, -np.inf):
        with np.errstate(invalid="ignore"):
            high = np.flatnonzero(heights > clear)
        if len(high) == 0:
            continue
        some_heights, some_tags = heights[high], tags[:, high]
        left = []
        for row in lacking:
            distances = _distances(some_tags, means[:, row])
            best = int((some_heights - weight * distances).argmax())
            places[row] = high[best]
            if distances[best] != 0:
                left.append(row)
        lacking = left
    return places


def _distances(tags: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(P,) float32: how far each of (L, P) tags is from a mean, rounded; FARTHEST where it is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        if len(tags) == 1:
            distances = np.abs(tags[0] - np.float32(mean[0]))
        else:
            distances = np.sqrt(((tags - mean[:, None].astype(np.float32)) ** 2).sum(axis=0))
        np.rint(distances, out=distances)
    return np.fmin(distances, np.float32(FARTHEST), out=distances)
