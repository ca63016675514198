from __future__ import annotations

import numpy as np
import pytest

from edgepose.model.heads.lift import Lift
from edgepose.model.skeletons import BODY15, H36M16, H36M17
from edgepose.stages.lifting import fill_gaps, mirrored, person_units, to_metres, to_units, windows_of


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("length", "frames"), [(0, 27), (1, 27), (5, 27), (40, 9), (3, 1)])
def test_windows_are_padded_as_published(length, frames, causal):
    """VideoPose3D's UnchunkedGenerator: pad + shift frames before, pad - shift after, each the end's."""
    pad, shift = (frames - 1) // 2, (frames - 1) // 2 if causal else 0

    windows = windows_of(length, Lift(frames, causal=causal))

    assert windows.shape == (length, frames)
    if length:
        padded = np.pad(np.arange(length), (pad + shift, pad - shift), "edge")
        assert np.array_equal(windows, np.lib.stride_tricks.sliding_window_view(padded, frames))


def test_a_track_without_gaps_stays_as_it_is():
    xy = np.random.default_rng(0).normal(size=(6, 3, 2))

    assert np.array_equal(fill_gaps(np.arange(4, 10), xy, np.ones((6, 3), bool)), xy)


def test_what_was_not_found_moves_straight_on():
    frames = np.array([10, 11, 14])  # 12 and 13 are missing
    xy = np.zeros((3, 2, 2))
    xy[:, 0] = [(0, 0), (np.nan, np.nan), (8, 4)]  # the first point is unknown in frame 11 too
    xy[:, 1] = [(5, 5), (6, 5), (9, 5)]
    found = np.array([[True, True], [True, True], [True, False]])  # the second was not found in the last frame

    dense = fill_gaps(frames, xy, found)

    assert dense[:, 0].tolist() == [[0, 0], [2, 1], [4, 2], [6, 3], [8, 4]]
    assert dense[:, 1].tolist() == [[5, 5], [6, 5], [6, 5], [6, 5], [6, 5]]


def test_what_was_never_found_is_unknown():
    dense = fill_gaps(np.array([0]), np.zeros((1, 2, 2)), np.array([[True, False]]))

    assert np.isnan(dense[0, 1]).all()
    assert not np.isnan(dense[0, 0]).any()


def test_screen_units_are_videopose3ds():
    corners = np.array([(0, 0), (1000, 0), (0, 600), (500, 300)], float).reshape(1, 1, 4, 2)

    units = to_units(corners, Lift(1), H36M17, (1000, 600))

    assert np.allclose(units[0, 0], [(-1, -0.6), (1, -0.6), (-1, 0.6), (0, 0)])
    assert units.dtype == np.float32


def test_person_units_forget_place_and_size():
    points = np.random.default_rng(0).normal(size=(2, 5, 15, 2))
    head = Lift(5, points="body15", units="person")

    units = to_units(points, head, BODY15, (640, 480))

    assert np.allclose(to_units(points * 30 + (320, 240), head, BODY15, (640, 480)), units, atol=1e-5)
    assert (units[:, :, 0] == 0).all()
    assert np.allclose((units**2).sum(axis=3).mean(axis=(1, 2)), 1, atol=1e-5)


def test_a_person_in_one_point_has_no_size_and_no_nan():
    assert (person_units(np.ones((1, 3, 15, 2)), np.ones((1, 3, 2))) == 0).all()


def test_statistics_scale_in_and_out():
    head = Lift(
        1,
        points="h36m16",
        units="statistics",
        root_given=False,
        statistics={
            "input_mean": (10.0,) * 32,
            "input_std": (4.0,) * 32,
            "output_mean": (0.5,) * 45,
            "output_std": (2.0,) * 45,
        },
    )

    assert (to_units(np.full((1, 1, 16, 2), 18.0), head, H36M16, (640, 480)) == 2).all()
    xyz = to_metres(np.ones((1, 15, 3)), head, H36M16)
    assert (xyz[0, 0] == 0).all()
    assert (xyz[0, 1:] == 2.5).all()


def test_positions_are_relative_to_the_root():
    output = np.random.default_rng(0).normal(size=(2, 17, 3))

    xyz = to_metres(output, Lift(27, root="spine"), H36M17)

    assert np.allclose(xyz, output - output[:, 7:8], atol=1e-6)


def test_mirroring_twice_changes_nothing():
    xyz = np.random.default_rng(0).normal(size=(2, 17, 3)).astype(np.float32)

    once = mirrored(xyz, H36M17)

    assert np.array_equal(once[:, 4], xyz[:, 1] * (-1, 1, 1))
    assert np.array_equal(mirrored(once, H36M17), xyz)
