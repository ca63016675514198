from __future__ import annotations

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
