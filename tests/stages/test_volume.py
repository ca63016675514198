from __future__ import annotations

import numpy as np
import pytest

from edgepose.model.heads.volume import Volume
from edgepose.stages.volume import decode_volume, merge_mirrored

HEAD = Volume((8, 12, 10), depth_m=2.0)


def gaussian(head: Volume, x: float, y: float, z: float, sigma: float = 1.0) -> np.ndarray:
    """(D, h, w): its softmax is a Gaussian around that cell."""
    depth, height, width = head.volume_dhw
    at_z, at_y, at_x = np.mgrid[:depth, :height, :width]
    square = (at_x - x) ** 2 + (at_y - y) ** 2 + (at_z - z) ** 2
    return (-square / (2 * sigma**2)).astype(np.float32)


def test_nobody_has_no_keypoints():
    assert decode_volume(np.zeros((0, 16, 12, 10), np.float32), HEAD).shape == (0, 2, 4)


def test_finds_keypoints_between_cells():
    volume = np.stack([gaussian(HEAD, 4.3, 6.6, 3.5, 0.7), gaussian(HEAD, 5, 4, 3, 0.7)]).reshape(1, 16, 12, 10)

    keypoints = decode_volume(volume, HEAD)

    # a Gaussian summed over cells is off its mean by 4 pi sigma^2 exp(-2 pi^2 sigma^2) at most: 0.0004
    assert np.abs(keypoints[0, :, :2] - [(4.3, 6.6), (5, 4)]).max() < 0.0005
    assert np.abs(keypoints[0, :, 2] - [(3.5 / 8 - 0.5) * 2, (3 / 8 - 0.5) * 2]).max() < 0.0005


def test_computes_what_posenets_published_code_computes():
    """mks0601's soft_argmax, step by step: marginals of the softmax, times 1 to the size, less 1."""
    volume = np.random.default_rng(0).normal(0, 3, (2, 24, 12, 10)).astype(np.float32)
    flat = volume.reshape(2, 3, -1).astype(np.float64)
    share = np.exp(flat - flat.max(axis=2, keepdims=True))
    share = (share / share.sum(axis=2, keepdims=True)).reshape(2, 3, 8, 12, 10)
    x = (share.sum(axis=(2, 3)) * np.arange(1, 11)).sum(axis=2) - 1
    y = (share.sum(axis=(2, 4)) * np.arange(1, 13)).sum(axis=2) - 1
    z = (share.sum(axis=(3, 4)) * np.arange(1, 9)).sum(axis=2) - 1
    metres = (z / 8 * 2 - 1) * (2000 / 2) / 1000  # its bbox_3d_shape is 2000 mm deep

    keypoints = decode_volume(volume, HEAD)

    assert np.allclose(keypoints[..., :3], np.stack([x, y, metres], axis=2), rtol=0, atol=1e-5)  # float32 shares


def test_scores_tell_sharp_from_vague():
    depth, height, width = HEAD.volume_dhw
    sharp = np.full((depth, height, width), -np.inf)
    sharp[3, 4, 5] = 0.0
    two = sharp.copy()
    two[3, 4, 9] = 0.0  # 4 cells beside: the standard deviation is 2, a fifth of the width
    flat = np.zeros((depth, height, width))
    volume = np.stack([sharp, two, flat]).reshape(1, -1, height, width).astype(np.float32)

    scores = decode_volume(volume, HEAD)[0, :, 3]

    assert scores[0] == pytest.approx(1)
    assert scores[1] == pytest.approx(np.exp(-(0.2**2) / 3 / 0.1**2))
    assert scores[2] < 0.001


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_volume_that_is_no_likelihood_gives_nothing(value):
    volume = np.zeros((1, 16, 12, 10), np.float32)
    volume[0, 3, 2, 1] = value

    keypoints = decode_volume(volume, HEAD)

    assert (keypoints[0, 0] == 0).all()
    assert keypoints[0, 1, 3] > 0


def test_a_volume_of_minus_infinity_gives_nothing():
    assert (decode_volume(np.full((1, 8, 12, 10), -np.inf, np.float32), HEAD) == 0).all()


def test_large_values_do_not_overflow():
    volume = gaussian(HEAD, 4, 6, 3)[None] + np.float32(60000)

    keypoints = decode_volume(volume, HEAD)

    assert np.abs(keypoints[0, 0, :2] - (4, 6)).max() < 0.1  # float32 steps of 1/256 there


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(N, K \* 8, 12, 10\), got \(1, 9, 12, 10\)"):
        decode_volume(np.zeros((1, 9, 12, 10), np.float32), HEAD)


def test_the_flip_test_brings_a_mirrored_crop_back():
    points = np.array([[[1.5, 2, 0.3, 0.5], [7, 3, -0.3, 0.9]]], np.float32)
    mirrored = (points * (-1, 1, 1, 1) + (9, 0, 0, 0))[:, [1, 0]]

    assert np.allclose(merge_mirrored(points, mirrored, [1, 0], 10), points)


@pytest.mark.parametrize("sizes", [(8, 12), (8, 12, 1), (8, 12, 10.0), (0, 12, 10)])
def test_sizes_must_be_three_whole_numbers(sizes):
    with pytest.raises(ValueError, match="volume_dhw"):
        Volume(sizes)


@pytest.mark.parametrize("depth", [0, -1, float("nan"), 100])
def test_depth_must_be_a_number_of_metres(depth):
    with pytest.raises(ValueError, match="depth_m"):
        Volume((8, 8, 8), depth_m=depth)
