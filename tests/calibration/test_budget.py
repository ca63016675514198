"""What INT8 loses, and how certain that is."""

import numpy as np
import pytest

from edgepose.calibration.budget import Loss, certain


@pytest.mark.parametrize(
    ("freedom", "wanted"),  # one-sided 95 % of Student's t, from tables
    [(1, 6.314), (2, 2.920), (3, 2.353), (5, 2.015), (9, 1.833), (29, 1.699), (1000, 1.646)],
)
def test_few_parts_need_more_standard_errors(freedom, wanted):
    assert certain(freedom) == pytest.approx(wanted, abs=0.01)


def test_a_single_part_makes_nothing_certain():
    assert Loss(0.49, np.array([0.49])).upper == float("inf")


def test_the_certain_loss_covers_the_true_one_in_95_of_100_draws():
    rng = np.random.default_rng(0)
    draws = rng.normal(1.0, 0.5, (4000, 4))

    covered = np.mean([Loss(float(parts.mean()), parts).upper >= 1.0 for parts in draws])

    assert covered == pytest.approx(0.95, abs=0.0138)  # four standard errors of a share of 4000
