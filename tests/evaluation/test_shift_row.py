"""When a plan's key points are told to be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.evaluation.plan_check import shift_row


@pytest.mark.parametrize(
    ("shift_px", "agrees"),
    [
        (np.r_[np.zeros(99), 1.414], True),  # two places side by side that tie, and change over for a rounding
        (np.r_[np.zeros(1), 1.414], True),  # one always may, however few are compared
        (np.r_[np.zeros(99), 4.0], False),  # out of its own neighbourhood
        (np.full(100, 1.1), False),  # all of them moved by a pixel
        (np.r_[np.zeros(80), np.full(20, 1.2)], False),
        (np.r_[np.zeros(99), np.nan], False),
        (np.zeros(0), True),
    ],
)
def test_a_clear_peak_stays_in_its_neighbourhood_and_few_move_by_a_pixel(shift_px, agrees):
    assert shift_row("key points", "key points of 8", shift_px, "heat-map px").agrees is agrees
