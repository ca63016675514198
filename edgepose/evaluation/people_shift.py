"""What became of each person: two bottom-up results on the same images, FP32's and INT8's say.

No box ties such people together. Two are the same person where their key points lie near each other, by the person's
size; who has no partner was lost or gained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgepose.evaluation.metrics import shift_summary
from edgepose.stages.assignment import assign
from edgepose.stages.poses import Poses

SAME_PERSON = 0.1  # of the square root of the box's area: the median distance of common key points
FEWEST_COMMON = 3  # key points


@dataclass(frozen=True)
class PeopleShift:
    """Two results compared.

    Attributes:
        people: in the first result.
        lost, gained: who is only in the first, who only in the second.
        points_lost, points_gained: likewise the key points of people who are in both.
        shift_px: (M,) distances of the key points that both have, image px.
    """

    people: int
    lost: int
    gained: int
    points_lost: int
    points_gained: int
    shift_px: np.ndarray

    def figures(self) -> dict[str, float | int]:
        """Counts, and the shift's mean, 95th percentile, maximum, share over 1 px and number of key points."""
        counts = ("people", "lost", "gained", "points_lost", "points_gained")
        return {**{name: getattr(self, name) for name in counts}, **(shift_summary(self.shift_px) or {})}

    def told(self, pictures: int) -> list[str]:
        """What INT8 does to people, for people."""
        lines = [
            f"of FP32's {self.people} people in {pictures} held-out pictures INT8 loses {self.lost}, and finds "
            f"{self.gained} others"
        ]
        shift = shift_summary(self.shift_px)
        if shift is not None:
            lines.append(
                f"key points of the same people moved by {shift['mean']:.2f} image px on average, {shift['p95']:.1f} "
                f"at the 95th percentile"
            )
        return lines


def compare_people(results: Iterable[tuple[Poses, Poses]]) -> PeopleShift:
    """Compare two results image by image.

    Args:
        results: the first and the second result of each image; a key point that was not found is NaN.
    """
    people = lost = gained = points_lost = points_gained = 0
    shifts = [np.empty(0)]
    for first, second in results:
        rows, partners = same_people(first, second)
        people += len(first)
        lost += len(first) - len(rows)
        gained += len(second) - len(rows)
        one, other = first.xy[rows], second.xy[partners]
        has, others = np.isfinite(one).all(axis=2), np.isfinite(other).all(axis=2)
        points_lost += int((has & ~others).sum())
        points_gained += int((others & ~has).sum())
        shifts.append(np.linalg.norm(one - other, axis=2)[has & others])
    return PeopleShift(people, lost, gained, points_lost, points_gained, np.concatenate(shifts))


def same_people(first: Poses, second: Poses) -> tuple[np.ndarray, np.ndarray]:
    """Rows of people in the first result, and of the same ones in the second."""
    distance = np.linalg.norm(first.xy[:, None] - second.xy[None], axis=3)  # (N, M, K), NaN where one lacks the point
    common = np.isfinite(distance).sum(axis=2)
    ordered = np.sort(distance, axis=2)  # NaN last
    middle = np.maximum(common - 1, 0) // 2
    median = np.take_along_axis(ordered, middle[..., None], axis=2)[..., 0]
    size = np.sqrt(np.maximum((first.boxes_xyxy[:, 2:] - first.boxes_xyxy[:, :2]).prod(axis=1), 1))
    apart = np.where(common >= FEWEST_COMMON, median / size[:, None], np.inf)
    partners = assign(np.minimum(np.nan_to_num(apart, nan=np.inf), 1))
    rows = np.flatnonzero(partners >= 0)
    rows = rows[apart[rows, partners[rows]] <= SAME_PERSON]
    return rows, partners[rows]
