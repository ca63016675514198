"""What became of each person: two detectors' boxes on the same images, FP32's and INT8's say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgepose.stages.assignment import assign
from edgepose.stages.similarity import box_iou

SAME_PERSON = 0.5  # IoU

Boxes = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class BoxShift:
    """Two results compared.

    Attributes:
        people: in the first result.
        lost, gained: boxes that are only in the first, only in the second.
        iou: (M,) of the boxes that are in both.
        score_change: (M,) how much their scores differ.
    """

    people: int
    lost: int
    gained: int
    iou: np.ndarray
    score_change: np.ndarray

    def figures(self) -> dict[str, float | int]:
        """Counts, and of the boxes that are in both the median IoU and the mean change of score."""
        found: dict[str, float | int] = {name: getattr(self, name) for name in ("people", "lost", "gained")}
        if len(self.iou):
            found |= {"iou": float(np.median(self.iou)), "score_change": float(self.score_change.mean())}
        return found

    def told(self, pictures: int) -> list[str]:
        """What INT8 does to boxes, for people."""
        lines = [
            f"of FP32's {self.people} boxes in {pictures} held-out pictures INT8 loses {self.lost}, and finds "
            f"{self.gained} others"
        ]
        if len(self.iou):
            lines.append(
                f"boxes of the same people overlap by {np.median(self.iou):.3f} (IoU, median); their scores differ by "
                f"{self.score_change.mean():.3f} on average"
            )
        return lines


def compare_boxes(results: Iterable[tuple[Boxes, Boxes]]) -> BoxShift:
    """Compare two results image by image.

    Args:
        results: of each image (N, 4) boxes and (N,) scores, twice. Two boxes are the same person where their IoU is at
            least 0.5.
    """
    people = lost = gained = 0
    overlaps, changes = [np.empty(0)], [np.empty(0)]
    for (first, first_scores), (second, second_scores) in results:
        iou = box_iou(first, second)
        partners = assign(1 - iou)
        rows = np.flatnonzero(partners >= 0)
        rows = rows[iou[rows, partners[rows]] >= SAME_PERSON]
        people += len(first)
        lost += len(first) - len(rows)
        gained += len(second) - len(rows)
        overlaps.append(iou[rows, partners[rows]])
        changes.append(np.abs(first_scores[rows] - second_scores[partners[rows]]))
    return BoxShift(people, lost, gained, np.concatenate(overlaps), np.concatenate(changes))
