from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from edgepose.estimate.follow import PADDING, Followers, Following, boxes_around, follow
from edgepose.stages.poses import Poses
from tests.estimate.fakes import ColourDetector, FixedPose, picture_of


def walk(frames: int, step: int = 1) -> Iterator[tuple[np.ndarray, float]]:
    """One who walks to the right and one who stands."""
    for t in range(frames):
        yield picture_of((5 + step * t, 8, 25 + step * t, 58), (70, 10, 90, 60)), t / 25


def run(frames: list[Any], following: Following | None = None, **scores: Any) -> tuple[list[Poses], ColourDetector]:
    detector = ColourDetector(**scores)
    return list(follow(cast(Any, FixedPose()), detector, frames, following)), detector


def test_people_keep_their_ids():
    poses, detector = run(list(walk(10)))

    assert [one.track_ids.tolist() for one in poses if one.track_ids is not None] == [[1, 2]] * 10
    assert detector.batches == [1] * 10


@pytest.mark.parametrize("every", [1, 3])
def test_people_of_a_skeleton_without_published_sigmas_are_followed_too(every: int):
    pose = FixedPose()
    pose.spec = replace(pose.spec, skeleton=replace(pose.spec.skeleton, name="mine", sigmas=()))

    poses = list(follow(cast(Any, pose), ColourDetector(), walk(6), Following(detect_every=every)))

    assert [one.track_ids.tolist() for one in poses if one.track_ids is not None] == [[1, 2]] * 6


def test_an_empty_frame_and_an_empty_video_are_nobody():
    poses, _ = run([(picture_of(), 0.0)])

    assert [len(one) for one in poses] == [0]
    assert run([])[0] == []


@pytest.mark.parametrize("every", [2, 3])
def test_between_detections_boxes_are_those_of_the_key_points(every: int):
    poses, detector = run(list(walk(6)), Following(detect_every=every))

    assert len(detector.batches) == -(-6 // every)
    for one in poses:
        assert one.track_ids is not None
        assert one.track_ids.tolist() == [1, 2]


def test_auto_looks_again_when_somebody_is_doubted_and_for_those_who_came():
    sure, detector = run(list(walk(21)), Following(detect_every=None, longest=10))
    assert len(sure) == 21
    assert len(detector.batches) == 3

    doubted = ColourDetector()
    list(follow(cast(Any, FixedPose(score=0.1)), doubted, walk(5), Following(detect_every=None)))
    assert doubted.batches == [1] * 5


def test_a_doubtful_box_counts_where_somebody_was():
    detector = ColourDetector()
    followers = Followers(cast(Any, FixedPose()), detector, 1, min_score=0.5)
    picture = picture_of((5, 8, 25, 58))

    counts = []
    for score in (0.4, 0.9, 0.4):
        detector.scores = (score,) * 5
        counts.append(len(followers.take([(0, picture, 0.0)])[0]))

    assert counts == [0, 1, 1]


def test_videos_share_each_run_and_keep_their_ids_apart():
    pose, detector = FixedPose(), ColourDetector()
    followers = Followers(cast(Any, pose), detector, 2)
    first, second = picture_of((5, 8, 25, 58)), picture_of((50, 8, 70, 58), (5, 8, 25, 58))

    for t in range(3):
        poses = followers.take([(0, first, t / 25), (1, second, t / 25)])

    assert detector.batches == [2, 2, 2]
    assert pose.batches == [3, 3, 3]
    assert [one.track_ids.tolist() for one in poses if one.track_ids is not None] == [[1], [1, 2]]


def test_smoothing_needs_ids():
    with pytest.raises(ValueError, match="smooth needs track"):
        Following(track=False, smooth=True)


def test_smoothed_points_are_between_the_last_and_the_new_ones():
    raw, _ = run(list(walk(3, step=4)))
    smoothed, _ = run(list(walk(3, step=4)), Following(smooth=True))

    assert (smoothed[2].xy[0, :, 0] < raw[2].xy[0, :, 0]).all()
    assert (smoothed[2].xy[0, :, 0] > raw[0].xy[0, :, 0]).all()
    np.testing.assert_array_equal(smoothed[2].xy[1], raw[2].xy[1])


def test_boxes_around_nobody_and_around_too_few_points():
    boxes, fine = boxes_around(np.zeros((0, 17, 2)), np.zeros((0, 17)))
    assert (boxes.shape, fine.shape) == ((0, 4), (0,))

    scores = np.zeros((2, 17))
    scores[0, :3], scores[1, :4] = 0.9, 0.9
    xy = np.tile(np.arange(17.0)[None, :, None] * 10, (2, 1, 2))
    boxes, fine = boxes_around(xy, scores)
    assert fine.tolist() == [False, True]
    margin = PADDING * 30
    assert boxes[1].tolist() == pytest.approx([-margin, -margin, 30 + margin, 30 + margin])
