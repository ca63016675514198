from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepose.io.boxes import ImageBoxes
from edgepose.io.people import left_out, usable_people

IMAGE = np.zeros((100, 200, 3), np.uint8)


def entry(boxes: list[list[float]] | None, unusable: int = 0) -> ImageBoxes:
    array = None if boxes is None else np.array(boxes, np.float32).reshape(-1, 4)
    return ImageBoxes(Path("a.png"), None, array, np.linspace(0.1, 0.9, 1 if boxes is None else len(boxes)), unusable)


@pytest.mark.parametrize(
    ("boxes", "shown", "unusable"),
    [
        ([], [], 0),
        (None, [[0, 0, 200, 100]], 0),
        ([[10, 10, 20, 20]], [[10, 10, 20, 20]], 0),
        ([[300, 10, 320, 20], [10, 10, 20, 20], [-9, -9, -1, -1]], [[10, 10, 20, 20]], 2),
    ],
)
def test_boxes_are_kept_where_the_image_shows_them(boxes, shown, unusable):
    people = usable_people(IMAGE, entry(boxes, unusable=3))

    assert people.boxes_xyxy.tolist() == shown
    assert len(people.scores) == len(people) == len(shown)
    assert people.unusable == unusable + 3


def test_a_score_stays_with_its_box():
    assert usable_people(IMAGE, entry([[300, 0, 310, 9], [1, 1, 9, 9]])).scores == [0.9]


def test_nothing_left_out_is_no_line():
    assert left_out(0) == []
    assert "2 boxes left out" in left_out(2)[0]
