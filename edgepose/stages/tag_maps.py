"""What grouping reads of heat maps and tags: single pixels, and where a missing key point fits best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

FARTHEST = 1e6  # distance of tags; farther ones are as far
COARSE = 2.0**19  # of larger tags float32 does not tell whether they are near: the byte's error reaches half a level
CLEAR = np.float32(0.1)  # height of a map above which a missing key point is looked for first
MANY = 8192  # pixels; of more the whole map is looked at, for one person after the other, which bounds the memory
LEVELS = 6  # of a byte, to a unit of tags


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

    Few pixels are looked at first: those of peaks. They are enough where no tag of the map is so near that a lower
    pixel can be better.

    Args:
        heights: (K, P) float32.
        tags: (L, K, P) float32.
        kind: (N,) which of the K maps.
        means: (L, N) float32.
    """
    places, best = np.zeros(len(kind), int), np.full(len(kind), -np.inf, np.float32)
    lowest = float(means[0].min(initial=np.inf))
    for one in np.unique(kind).tolist():
        rows = np.flatnonzero(kind == one)
        places[rows], best[rows] = _best_of_high(heights[one], tags[:, one], means[:, rows], weight)
        rows = rows[best[rows] <= CLEAR]
        rows = rows[_may_be_near(tags[0, one], means[0, rows], lowest) | (best[rows] <= CLEAR - weight)]
        for row in rows.tolist():
            apart = _apart(tags[:, one], means[:, row, None])
            if best[row] <= CLEAR - weight * _rounded(np.fmin.reduce(apart)):
                places[row] = _first_best(heights[one], apart, weight)
    return places


def _best_of_high(
    heights: np.ndarray, tags: np.ndarray, means: np.ndarray, weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of each of N means the first best of one map's high pixels, and its value; -inf if there are too many."""
    high = np.flatnonzero(heights > CLEAR)
    if not 0 < len(high) <= MANY:
        return np.zeros(means.shape[1], int), np.full(means.shape[1], -np.inf, np.float32)
    apart = _apart(tags.take(high, axis=1)[:, None], means[..., None])  # (means, pixels)
    values = heights.take(high) - weight * _rounded(apart)
    column = values.argmax(axis=1)
    return high[column], values[np.arange(len(column)), column]


def _may_be_near(tags: np.ndarray, means: np.ndarray, lowest: float) -> np.ndarray:
    """(N,) bool: False only where none of P tags has a rounded distance of 0 from the mean, told from bytes.

    Args:
        lowest: no mean is lower, and few tags of people.
    """
    near = np.ones(len(means), bool)
    if len(means) and abs(lowest) < COARSE:  # False for NaN
        levels = cv2.convertScaleAbs(tags, alpha=LEVELS, beta=LEVELS * (1 - lowest))
        for row, level in enumerate(np.floor(LEVELS * (means + (1 - lowest))).tolist()):
            if level + LEVELS < 255:  # a tag not farther than 0.5 is at most 3 levels below and 4 above
                near[row] = (levels - np.uint8(level - 3)).min() <= 7
    return near


def _first_best(heights: np.ndarray, apart: np.ndarray, weight: float) -> int:
    """The first best pixel of one map; 0 where no height is a number."""
    values = heights - weight * _rounded(apart)
    place = int(values.argmax())
    if np.isnan(values[place]):  # of a height: distances are numbers
        place = int(np.where(heights > -np.inf, values, -np.inf).argmax())
    return place


def _apart(tags: np.ndarray, means: np.ndarray) -> np.ndarray:
    """How far tags are from means over the first axis, float32."""
    if len(tags) > 1:
        return np.asarray(np.sqrt(((tags - means) ** 2).sum(axis=0)))
    apart = tags[0] - means[0]
    return np.abs(apart, out=apart)


def _rounded(apart: np.ndarray) -> np.ndarray:
    """Whole distances, float32; FARTHEST where one is not finite."""
    return np.fmin(np.rint(apart), np.float32(FARTHEST))
