from __future__ import annotations

import numpy as np
import pytest

from edgepose.stages.tracking import NOBODY, Tracker, TrackingSettings


def walker(x: float, y: float = 0.0) -> list[float]:
    return [x, y, x + 20, y + 60]


def follow(tracker: Tracker, frames: list[list[list[float]]]) -> list[list[int]]:
    """Ids of each frame's boxes, all of score 1."""
    return [tracker.update(np.reshape(boxes, (-1, 4)), np.ones(len(boxes))).tolist() for boxes in frames]


def test_nobody_has_no_id_and_is_a_frame_all_the_same():
    tracker = Tracker()

    assert follow(tracker, [[], [walker(0)], []]) == [[], [1], []]


def test_ids_stay_when_people_change_their_rows():
    tracker = Tracker()

    assert follow(tracker, [[walker(0), walker(100)], [walker(102), walker(2)]]) == [[1, 2], [2, 1]]


def test_two_who_cross_keep_their_ids():
    tracker = Tracker()
    frames = [[walker(4 * t), walker(200 - 4 * t, 8)] for t in range(50)]

    assert follow(tracker, frames)[-1] == [1, 2]


def test_an_id_survives_a_short_occlusion_and_no_longer_one():
    lost = TrackingSettings(survive_frames=5)
    for gap, last in ((5, 1), (6, 2)):
        tracker = Tracker(settings=lost)
        frames: list[list[list[float]]] = [[walker(5 * t)] for t in range(10)]
        frames += [[]] * gap + [[walker(5 * (10 + gap))]]

        assert follow(tracker, frames)[-1] == [last]


def test_a_doubtful_box_begins_no_track_but_goes_on_with_one():
    tracker = Tracker(settings=TrackingSettings(new_score=0.5))

    assert tracker.update(np.array([walker(0)]), np.array([0.3])).tolist() == [NOBODY]
    assert tracker.update(np.array([walker(0)]), np.array([0.6])).tolist() == [1]
    assert tracker.update(np.array([walker(1)]), np.array([0.3])).tolist() == [1]


def test_poses_tell_apart_whom_boxes_do_not():
    sigmas = np.full(2, 0.05)
    up, down = np.array([[10.0, 5.0], [10.0, 10.0]]), np.array([[10.0, 50.0], [10.0, 55.0]])
    boxes = np.array([walker(0), walker(0)])
    tracker = Tracker(sigmas)
    tracker.update(boxes, np.ones(2), np.stack([up, down]))

    assert tracker.update(boxes, np.ones(2), np.stack([down, up])).tolist() == [2, 1]


def test_no_id_is_on_two_people():
    tracker, rng = Tracker(), np.random.default_rng(0)
    for _ in range(60):
        corner = rng.uniform(0, 60, (8, 2))

        ids = tracker.update(np.concatenate([corner, corner + 40], axis=1), np.ones(8))

        assert len(set(ids.tolist())) == 8


def test_points_that_are_not_seen_do_not_spoil_a_track():
    tracker = Tracker(np.full(2, 0.05))
    poses = [np.array([[[5.0, 5.0], [np.nan, np.nan]]]), np.full((1, 2, 2), np.nan), np.array([[[7.0, 5], [7, 9]]])]

    assert [tracker.update(np.array([walker(t)]), np.ones(1), xy).tolist() for t, xy in enumerate(poses)] == [[1]] * 3


def test_what_does_not_belong_together_is_told():
    with pytest.raises(ValueError, match="2 boxes, 1 scores"):
        Tracker().update(np.zeros((2, 4)), np.ones(1))
