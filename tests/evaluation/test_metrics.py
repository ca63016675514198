from __future__ import annotations

import math

import numpy as np
import pytest

from edgepose.evaluation.metrics import hit_rate, shift_summary
from edgepose.stages.similarity import box_iou, oks_between, oks_nms, rescore

SIGMAS = np.array([0.05, 0.1])


def test_a_person_is_as_sure_as_its_box_times_its_confident_key_points():
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.1, 0.0]])

    person_scores = rescore(scores, np.array([0.5, 1.0]))

    assert person_scores == pytest.approx([0.5 * (0.9 + 0.5) / 2, 0])  # 0.2 itself does not count


def test_nobody_has_no_score():
    assert rescore(np.empty((0, 17)), np.empty(0)).shape == (0,)


def test_similarity_is_the_published_formula():
    pose = np.array([[10.0, 10], [20, 20]])
    others = pose + np.array([[[0, 0], [0, 0]], [[3, 4], [0, 0]]])

    oks = oks_between(pose, 400.0, others, np.array([400.0, 600.0]), SIGMAS)

    assert oks == pytest.approx([1, (math.exp(-25 / (2 * 500 * 0.1**2)) + 1) / 2])


def test_a_key_point_that_was_not_found_is_like_none():
    pose = np.array([[10.0, 10], [20, 20]])
    other = np.array([[[np.nan, np.nan], [20, 20]]])

    assert oks_between(pose, 400.0, other, np.array([400.0]), SIGMAS) == pytest.approx([0.5])


def test_of_two_poses_of_one_person_the_surer_stays():
    pose = np.array([[10.0, 10], [20, 20]])
    xy = np.stack([pose, pose + 100, pose + 0.1])

    kept = oks_nms(xy, np.array([0.5, 0.4, 0.9]), np.full(3, 400.0), SIGMAS)

    assert kept.tolist() == [2, 1]


def test_of_equally_sure_poses_the_first_stays():
    xy = np.zeros((2, 2, 2))

    assert oks_nms(xy, np.ones(2), np.full(2, 400.0), SIGMAS).tolist() == [0]


def test_nobody_is_left_of_nobody():
    assert oks_nms(np.empty((0, 2, 2)), np.empty(0), np.empty(0), SIGMAS).tolist() == []


def test_only_as_many_poses_stay_as_coco_counts():
    xy = 1000.0 * np.arange(30)[:, None, None] + np.zeros((30, 2, 2))
    scores = np.arange(30) / 30

    kept = oks_nms(xy, scores, np.full(30, 400.0), SIGMAS)

    assert kept.tolist() == list(range(29, 9, -1))


def test_a_key_point_at_the_end_of_the_reach_is_found_and_one_beyond_is_not():
    true_xy = np.zeros((1, 2, 2))
    xy = np.array([[[3.0, 4], [3.0, 4.01]]])

    assert hit_rate(xy, true_xy, np.ones((1, 2), bool), np.array([5.0])) == (0.5, 2)


def test_only_labelled_points_of_people_with_a_length_count():
    true_xy = np.zeros((3, 2, 2))
    labelled = np.array([[True, False], [True, True], [True, True]])
    xy = np.where(labelled[..., None], 0, 99.0)

    assert hit_rate(xy, true_xy, labelled, np.array([1.0, np.nan, 0.0])) == (1.0, 1)


def test_a_person_who_was_not_found_is_missed():
    xy = np.full((1, 2, 2), np.nan)

    assert hit_rate(xy, np.zeros((1, 2, 2)), np.ones((1, 2), bool), np.array([5.0])) == (0.0, 2)


def test_where_nothing_counts_there_is_no_rate():
    assert hit_rate(np.empty((0, 2, 2)), np.empty((0, 2, 2)), np.empty((0, 2), bool), np.empty(0)) == (None, 0)


def test_overlap_of_boxes():
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [40, 40, 50, 50]])

    assert box_iou(boxes, others) == pytest.approx(np.array([[1, 1 / 3, 0], [0, 0, 0]]))
    assert box_iou(boxes, np.empty((0, 4))).shape == (2, 0)


def test_shifts_in_short():
    summary = shift_summary(np.array([0.0, 0.5, 1.0, 2.5]))

    assert summary == {"mean": 1.0, "p95": pytest.approx(2.275), "max": 2.5, "share_over_1": 0.25, "keypoints": 4}
    assert shift_summary(np.empty(0)) is None
