from __future__ import annotations

import numpy as np
import pytest

from edgepose.stages.nms import suppress

BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10]], np.float32)  # IoU of the first two: 0.5


@pytest.mark.parametrize(
    ("scores", "iou", "kept"),
    [
        ([0.9, 0.8, 0.7], 0.6, [0, 1, 2]),
        ([0.9, 0.8, 0.7], 0.4, [0, 2]),
        ([0.7, 0.8, 0.9], 0.4, [2, 1]),
        ([0.9, 0.8, 0.7], 0.5, [0, 1, 2]),  # only more than the limit is too much
        ([0.5, 0.5, 0.5], 0.4, [0, 2]),  # of equal ones the first
    ],
)
def test_the_best_of_overlapping_boxes_stays(scores: list[float], iou: float, kept: list[int]):
    assert suppress(BOXES, np.array(scores), iou).tolist() == kept


def test_nobody_stays_nobody():
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)


def test_only_the_best_are_looked_at():
    boxes = np.arange(10)[:, None] * 20 + np.array([0, 0, 10, 10])

    assert suppress(boxes, np.arange(10), 0.5, most=3).tolist() == [9, 8, 7]
