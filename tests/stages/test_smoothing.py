from __future__ import annotations

import math

import numpy as np
import pytest

from edgepose.stages.smoothing import Smoother

ONE = np.array([1])


def test_nobody_stays_nobody():
    assert Smoother().smooth(np.zeros((0, 17, 2)), np.zeros(0, int), 0.0).shape == (0, 17, 2)


def test_a_first_and_a_constant_position_are_left_as_they_are():
    smoother = Smoother()
    xy = np.array([[[3.0, 4.0]]])

    for frame in range(5):
        np.testing.assert_array_equal(smoother.smooth(xy, ONE, frame / 25), xy)


def test_two_steps_are_those_of_the_papers_formulas():
    smoother = Smoother(min_cutoff=1.0, beta=0.5, d_cutoff=1.0)
    smoother.smooth(np.array([[[0.0, 0.0]]]), ONE, 0.0)

    (((x, y),),) = smoother.smooth(np.array([[[10.0, 0.0]]]), ONE, 0.1)

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau / 0.1)

    speed = alpha(1.0) * 100
    assert x == pytest.approx(10 * alpha(1.0 + 0.5 * speed), rel=1e-6)
    assert y == 0


def test_still_points_jitter_less_and_a_walker_does_not_lag_behind():
    rng = np.random.default_rng(0)
    smoother = Smoother(beta=0.05)
    truth = np.stack([np.zeros((100, 2)), np.linspace((0, 0), (800, 0), 100)], axis=1)  # still; 200 px/s
    noisy = truth + rng.normal(0, 1, truth.shape)

    smoothed = np.array([smoother.smooth(xy[None], ONE, t / 25)[0] for t, xy in enumerate(noisy)])

    still = [np.abs(np.diff(values[20:, 0], n=2, axis=0)).mean() for values in (noisy, smoothed)]
    assert still[1] < 0.5 * still[0]
    assert np.abs(smoothed[20:, 1] - truth[20:, 1]).mean() < 6  # a frame's step is 8 px


def test_each_person_has_their_own_filter_and_strangers_none():
    smoother = Smoother()
    smoother.smooth(np.array([[[0.0, 0.0]], [[100.0, 0.0]]]), np.array([1, 2]), 0.0)

    xy = smoother.smooth(np.array([[[100.0, 0.0]], [[50.0, 0.0]]]), np.array([2, -1]), 0.04)

    assert xy.tolist() == [[[100.0, 0.0]], [[50.0, 0.0]]]


def test_a_point_that_was_not_seen_begins_anew():
    smoother = Smoother()
    smoother.smooth(np.array([[[0.0, 0.0]]]), ONE, 0.0)

    assert np.isnan(smoother.smooth(np.array([[[np.nan, np.nan]]]), ONE, 0.04)).all()
    assert smoother.smooth(np.array([[[9.0, 9.0]]]), ONE, 0.08).tolist() == [[[9.0, 9.0]]]
