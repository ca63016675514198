from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepose.io.overlay import BOX, LEFT, MIDDLE, RIGHT, draw_poses
from edgepose.stages.poses import Poses
from tests.makers import TWO_POINTS

BLANK = np.full((100, 200, 3), 127, np.uint8)


def poses(xy, scores=((0.9, 0.9),), box=(10, 10, 190, 90)) -> Poses:
    return Poses(np.array(xy, np.float32), np.array(scores, np.float32), np.array([box], np.float32))


def test_left_is_orange_right_is_blue_and_a_limb_between_them_is_green():
    drawn = draw_poses(BLANK, poses([[[50, 50], [150, 50]]]), TWO_POINTS)

    np.testing.assert_array_equal(drawn[50, [50, 150, 100]], [LEFT, RIGHT, MIDDLE])
    np.testing.assert_allclose(drawn[10, 100], BOX, atol=20)  # thin lines are blended with what is below


def test_the_image_given_stays_as_it_was():
    image = BLANK.copy()

    draw_poses(image, poses([[[50, 50], [150, 50]]]), TWO_POINTS)

    np.testing.assert_array_equal(image, BLANK)


def test_nobody_means_the_same_picture():
    nobody = Poses(np.zeros((0, 2, 2)), np.zeros((0, 2)), np.zeros((0, 4)))

    np.testing.assert_array_equal(draw_poses(BLANK, nobody, TWO_POINTS), BLANK)


def test_an_unsure_point_and_its_limb_are_left_out():
    drawn = draw_poses(BLANK, poses([[[50, 50], [150, 50]]], scores=[[0.9, 0.1]]), TWO_POINTS)

    np.testing.assert_array_equal(drawn[50, 50], LEFT)
    np.testing.assert_array_equal(drawn[50, [100, 150]], BLANK[50, [100, 150]])


@pytest.mark.parametrize("far", [-1e3, 1e4, 1e30, np.nan, np.inf])
def test_points_and_boxes_far_outside_do_no_harm(far):
    drawn = draw_poses(BLANK, poses([[[50, 50], [far, far]]], box=(-1e5, -1e5, 9e5, 9e5)), TWO_POINTS)

    np.testing.assert_array_equal(drawn[50, 50], LEFT)


def test_a_picture_of_one_pixel_is_drawn_on():
    assert draw_poses(BLANK[:1, :1], poses([[[0, 0], [1, 1]]]), TWO_POINTS).shape == (1, 1, 3)


def test_a_number_is_hidden_by_nobody():
    xy, scores = np.array([[[12, 30], [40, 30]]] * 2, np.float32), np.full((2, 2), 0.9, np.float32)
    people = Poses(xy, scores, np.array([[10, 40, 60, 90]] * 2, np.float32))
    numbered = replace(people, track_ids=np.array([8, -1]))  # the second person lies over the first one's number

    changed = (draw_poses(BLANK, numbered, TWO_POINTS) != draw_poses(BLANK, people, TWO_POINTS)).any(axis=2)

    assert changed[29:32, 12:24].any()
    assert np.argwhere(changed)[:, 0].max() < 40


def test_a_number_stays_in_the_picture():
    corner = replace(poses([[[150, 50], [150, 60]]], box=(195, 0, 300, 90)), track_ids=np.array([88]))

    changed = draw_poses(BLANK, corner, TWO_POINTS) != draw_poses(BLANK, replace(corner, track_ids=None), TWO_POINTS)

    assert np.ptp(np.argwhere(changed)[:, 1]) > 16  # both digits
