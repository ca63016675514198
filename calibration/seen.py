"""What was seen in one tensor: its histogram, the range that was chosen for it, and what that range costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepose.calibration.qdq import LEVELS, as_step
from edgepose.calibration.ranges import BINS, Histogram

COLUMNS = 64  # of a histogram that is kept


@dataclass(frozen=True)
class TensorSeen:
    """The values of one tensor over crops.

    Attributes:
        range, largest: what 127 stands for, and the largest magnitude seen.
        clipped: the share of values beyond the range.
        noise: power of the rounding and clipping error over the values' power.
        histogram: counts of magnitudes in 64 equal bins from 0 to `top`.
    """

    range: float
    largest: float
    clipped: float
    noise: float
    histogram: tuple[int, ...]
    top: float


class TensorValues:
    """Collects what is seen in one tensor, an array at a time."""

    def __init__(self, limit: float) -> None:
        self._limit, self._largest = limit, 0.0
        self._step = float(as_step(np.array(limit / LEVELS)))
        self._beyond = self._count = 0
        self._error = self._power = 0.0
        self._histograms: list[Histogram] = []

    def add(self, values: np.ndarray) -> None:
        """Count the values of one crop, float32."""
        histogram = Histogram(values)
        self._histograms.append(histogram)
        self._largest = max(self._largest, histogram.largest)
        self._beyond += int((np.abs(values) > self._limit).sum())
        self._count += values.size
        rounded = np.clip(np.rint(values / self._step), -LEVELS - 1, LEVELS) * self._step
        self._error += float(((rounded - values) ** 2).sum(dtype=np.float64))
        self._power += float((values**2).sum(dtype=np.float64))

    def seen(self) -> TensorSeen:
        """What was counted."""
        top = max((each.top for each in self._histograms), default=0.0)
        return TensorSeen(
            float(self._limit),
            self._largest,
            self._beyond / max(self._count, 1),
            self._error / self._power if self._power else 0.0,
            _columns(self._histograms, top),
            top,
        )


def _columns(histograms: Sequence[Histogram], top: float) -> tuple[int, ...]:
    counts = np.zeros(BINS, np.int64)
    for each in histograms:  # tops are powers of two: bins of a smaller one fall into one each of the larger
        if each.top:
            place = (np.arange(BINS) * (each.top / top)).astype(int)
            np.add.at(counts, place, each.counts)
    return tuple(int(count) for count in counts.reshape(COLUMNS, -1).sum(axis=1))
