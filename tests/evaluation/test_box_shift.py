import numpy as np
import pytest

from edgepose.evaluation.box_shift import compare_boxes

NOBODY = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
TWO = (np.array([[0, 0, 10, 20], [50, 0, 60, 20]], np.float32), np.array([0.9, 0.5], np.float32))


def test_nobody_is_neither_lost_nor_found():
    shift = compare_boxes([(NOBODY, NOBODY)])

    assert shift.figures() == {"people": 0, "lost": 0, "gained": 0}
    assert shift.told(1) == ["of FP32's 0 boxes in 1 held-out pictures INT8 loses 0, and finds 0 others"]


def test_a_box_without_a_partner_is_lost_or_gained():
    assert compare_boxes([(TWO, NOBODY), (NOBODY, TWO), (NOBODY, TWO)]).figures() == {
        "people": 2,
        "lost": 2,
        "gained": 4,
    }


def test_the_boxes_that_are_in_both_are_compared_by_overlap_and_score():
    moved = (np.array([[50, 0, 60, 20], [0, 4, 10, 20], [200, 0, 210, 9]], np.float32), np.float32([0.5, 0.7, 0.4]))

    figures = compare_boxes([(TWO, moved)]).figures()

    assert (figures["people"], figures["lost"], figures["gained"]) == (2, 0, 1)
    assert figures["iou"] == pytest.approx((0.8 + 1) / 2)  # 16 of 20 px, and all
    assert figures["score_change"] == pytest.approx(0.1)


def test_boxes_that_overlap_by_less_than_half_are_others():
    aside = (TWO[0] + np.float32([6, 0, 6, 0]), TWO[1])

    assert compare_boxes([(TWO, aside)]).figures() == {"people": 2, "lost": 2, "gained": 2}
