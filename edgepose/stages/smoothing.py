"""Key points without jitter: the One-Euro filter (Casiez, Roussel and Vogel, CHI 2012), for each point of each person.

A low-pass filter whose cut-off frequency grows with the speed: still points become quiet, quick ones do not lag.
"""

from __future__ import annotations

import math

import numpy as np

MIN_CUTOFF, BETA, D_CUTOFF = 1.0, 0.007, 1.0  # Hz; cut-off per px/s; Hz: as published


class Smoother:
    """Smooths the key points of one video's people, who are known by their track ids.

    Args:
        min_cutoff: Hz; lower is smoother where nothing moves.
        beta: by so many Hz the cut-off rises for each px/s; higher lags less.
        d_cutoff: Hz; of the speed's own filter.
        forget_frames: a person unseen for more frames begins anew.
    """

    def __init__(
        self,
        min_cutoff: float = MIN_CUTOFF,
        beta: float = BETA,
        d_cutoff: float = D_CUTOFF,
        forget_frames: int = 30,
    ) -> None:
        if not (min_cutoff > 0 and d_cutoff > 0 and beta >= 0 and forget_frames >= 0):
            raise ValueError(
                f"cut-offs must be positive and beta not negative, got {min_cutoff}, {d_cutoff} and {beta}"
            )
        self._min_cutoff, self._beta, self._d_cutoff, self._forget = min_cutoff, beta, d_cutoff, forget_frames
        self._people: dict[int, tuple[np.ndarray, np.ndarray, int, float]] = {}  # xy, speed, frame, seconds
        self._frame = 0

    def smooth(self, xy: np.ndarray, track_ids: np.ndarray, seconds: float) -> np.ndarray:
        """The key points of one frame, smoothed with those of the frames before.

        Args:
            xy: (N, K, 2), image px. A key point that is NaN stays NaN, and begins anew when it is seen again.
            track_ids: (N,); a person without one (negative) is left as they are.
            seconds: the frame's time; later than the last one's, or nothing is smoothed.

        Returns:
            (N, K, 2) float32.
        """
        self._frame += 1
        smoothed = np.array(xy, np.float64)
        for row, track in enumerate(np.asarray(track_ids).tolist()):
            if track < 0:
                continue
            speed = np.zeros_like(smoothed[row])
            if track in self._people:
                before, its_speed, _, then = self._people[track]
                if seconds > then:
                    smoothed[row], speed = self._step(smoothed[row], before, its_speed, seconds - then)
            self._people[track] = (smoothed[row].copy(), speed, self._frame, seconds)
        gone = [track for track, state in self._people.items() if self._frame - state[2] > self._forget]
        for track in gone:
            del self._people[track]
        return smoothed.astype(np.float32)

    def _step(
        self, xy: np.ndarray, before: np.ndarray, speed_before: np.ndarray, seconds: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(K, 2) positions and speeds after one step."""
        known = np.isfinite(xy) & np.isfinite(before)
        a = _weight(np.float64(self._d_cutoff), seconds)
        raw = np.where(known, (xy - before) / seconds, 0.0)
        speed = np.where(known, a * raw + (1 - a) * speed_before, 0.0)
        weight = _weight(self._min_cutoff + self._beta * np.abs(speed), seconds)
        return np.where(known, weight * xy + (1 - weight) * before, xy), speed


def _weight(cutoff: np.ndarray | np.float64, seconds: float) -> np.ndarray:
    """What a new value weighs in exponential smoothing with that cut-off frequency: the paper's alpha."""
    ratio = 2 * math.pi * cutoff * seconds
    return np.asarray(ratio / (ratio + 1))
