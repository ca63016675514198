from __future__ import annotations

import numpy as np
import pytest

from edgepose.errors import ModelFileError
from edgepose.estimate.lift import Lifter
from edgepose.estimate.lift_live import LiveLifter
from edgepose.model.heads.lift import Lift
from edgepose.model.skeletons import BODY15, COCO17
from edgepose.stages.poses import Poses
from tests.makers import TWO_POINTS

HEAD = Lift(3, root="left_hand")  # of three frames, the middle one's positions


def windows_of_x(inputs):
    """x, y and z of the right hand: its x in the window's first, middle and last frame. The left hand is at 0."""
    xyz = np.zeros((len(inputs["points"]), 2, 3), np.float32)
    xyz[:, 1] = inputs["points"][:, :, 1, 0]
    return {"xyz": xyz}


def lifter() -> LiveLifter:
    return LiveLifter(Lifter(windows_of_x, HEAD, TWO_POINTS, TWO_POINTS), TWO_POINTS)


def poses_at(*places: float, ids: list[int] | None = None) -> Poses:
    """People whose right hand is at x, of a picture 200 px wide: x / 100 - 1 on the screen."""
    xy = np.array([[(0, 0), (100 + 100 * x, 0)] for x in places], np.float32).reshape(-1, 2, 2)
    count = len(places)
    track_ids = None if ids is None else np.array(ids, np.int64)
    return Poses(xy, np.ones((count, 2), np.float32), np.zeros((count, 4), np.float32), track_ids=track_ids)


def hands(live: LiveLifter, frame: int, poses: Poses) -> np.ndarray:
    return live.take(frame, poses, (200, 100))[:, 1].round(3)


def test_nobody_is_nowhere():
    assert lifter().take(0, poses_at(), (200, 100)).shape == (0, 2, 3)


def test_the_newest_frame_stands_for_those_to_come():
    live = lifter()

    found = [hands(live, frame, poses_at(x, ids=[7]))[0] for frame, x in enumerate((0.1, 0.2, 0.3))]

    np.testing.assert_allclose(found, [(0.1, 0.1, 0.1), (0.1, 0.2, 0.2), (0.2, 0.3, 0.3)], atol=1e-3)


def test_people_are_told_apart_and_the_unknown_have_no_past():
    live = lifter()
    hands(live, 0, poses_at(0.1, 0.5, 0.7, ids=[7, 8, -1]))

    found = hands(live, 1, poses_at(0.6, 0.2, 0.8, ids=[8, 7, -1]))

    np.testing.assert_allclose(found, [(0.5, 0.6, 0.6), (0.1, 0.2, 0.2), (0.8, 0.8, 0.8)], atol=1e-3)


def test_somebody_lost_for_longer_than_the_window_begins_anew_and_is_forgotten():
    live = lifter()
    hands(live, 0, poses_at(0.1, ids=[7]))

    np.testing.assert_allclose(hands(live, 9, poses_at(0.2, ids=[7])), [(0.2, 0.2, 0.2)], atol=1e-3)
    for frame in range(10, 20):
        hands(live, frame, poses_at())
    assert not live._past


def test_a_point_that_was_not_found_is_taken_from_before():
    live = lifter()
    hands(live, 0, poses_at(0.1, ids=[7]))

    np.testing.assert_allclose(hands(live, 1, poses_at(np.nan, ids=[7])), [(0.1, 0.1, 0.1)], atol=1e-3)
    assert np.isnan(hands(live, 1, poses_at(np.nan, ids=[8]))).all()


def test_frames_of_another_size_show_the_same_scaled():
    live = lifter()
    half = poses_at(0.2, ids=[7])
    half.xy[:] /= 2
    hands(live, 0, poses_at(0.1, ids=[7]))

    small = live.take(1, half, (100, 50))[0, 1]
    large = hands(live, 2, poses_at(0.3, ids=[7]))[0]

    np.testing.assert_allclose(small, (0.1, 0.2, 0.2), atol=1e-3)
    np.testing.assert_allclose(large, (0.2, 0.3, 0.3), atol=1e-3)


def test_a_lifter_for_another_skeleton_is_refused():
    with pytest.raises(ModelFileError, match="body15"):
        LiveLifter(Lifter(windows_of_x, Lift(3, points="body15"), BODY15, BODY15), TWO_POINTS)
    LiveLifter(Lifter(windows_of_x, Lift(3, points="body15"), BODY15, BODY15), COCO17)
