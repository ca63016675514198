from __future__ import annotations

import numpy as np
import pytest

from edgepose.evaluation.position_errors import mpjpe, n_mpjpe, p_mpjpe

ROUNDING = 1e-12


def poses(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 17, 3))


def rotation(angle: float) -> np.ndarray:
    """About the axis (1, 1, 1), by Rodrigues' formula."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.mark.parametrize("error", [mpjpe, n_mpjpe, p_mpjpe])
def test_nobody_has_no_errors(error):
    assert error(np.zeros((0, 17, 3)), np.zeros((0, 17, 3))).shape == (0,)


def test_mpjpe_is_the_mean_distance():
    truth = poses(2)
    found = truth.copy()
    found[0] += (3, 4, 0)
    found[1, 0] += (0, 0, 17)

    assert np.allclose(mpjpe(found, truth), [5, 1], rtol=0, atol=ROUNDING)


def test_n_mpjpe_forgives_a_wrong_size_and_nothing_else():
    truth = poses()

    assert np.allclose(n_mpjpe(truth * 3, truth), 0, rtol=0, atol=ROUNDING)
    assert (n_mpjpe(truth @ rotation(0.3).T, truth) > 0.1).all()


def test_p_mpjpe_forgives_size_turn_and_place_but_not_a_mirror():
    truth = poses()
    moved = 0.4 * truth @ rotation(2.0).T + (1, -2, 3)

    assert np.allclose(p_mpjpe(moved, truth), 0, rtol=0, atol=ROUNDING)
    assert (p_mpjpe(truth * (-1, 1, 1), truth) > 0.1).all()


def test_p_mpjpe_turns_a_flat_pose_onto_its_mirror_image():
    triangle = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]])

    assert np.allclose(p_mpjpe(triangle * (-1, 1, 1), triangle), 0, atol=ROUNDING)


def test_n_mpjpe_takes_the_scale_of_least_squares():
    found = np.array([[[1, 0, 0], [0, 2, 0.0]]])
    truth = np.array([[[2, 0, 0], [0, 2, 0.0]]])

    error = n_mpjpe(found, truth)  # scale (1 * 2 + 2 * 2) / (1 + 4) = 1.2, which leaves 0.8 and 0.4

    assert np.allclose(error, 0.6, rtol=0, atol=ROUNDING)


def test_p_mpjpe_is_the_same_wherever_and_however_large_the_pose_is():
    truth = poses()
    found = truth + np.random.default_rng(1).normal(0, 0.3, truth.shape)

    moved = 2.5 * found @ rotation(0.5).T + (7, 0, -3)

    assert np.allclose(p_mpjpe(moved, truth), p_mpjpe(found, truth), rtol=1e-9)
    assert (p_mpjpe(found, truth) > 0.1).all()


@pytest.mark.parametrize("error", [mpjpe, n_mpjpe, p_mpjpe])
def test_a_pose_in_one_point_has_a_finite_error(error):
    assert np.isfinite(error(np.zeros((1, 17, 3)), poses(1))).all()


def test_poses_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(N, K, 3\)"):
        mpjpe(np.zeros((1, 17, 3)), np.zeros((1, 16, 3)))
