from __future__ import annotations

import numpy as np
import pytest

from edgepose.model.heads.simcc import SimCC
from edgepose.stages.simcc import decode_depth, decode_simcc, merge_flipped_simcc
from tests.shared_data import SHARED, needs_shared

HEAD = SimCC(split_ratio=2.0)


def one_hot(bins: list[list[int]], length: int, height: float = 0.5) -> np.ndarray:
    """(N, K, length) vectors, each with one bin above the rest."""
    at = np.array(bins, int).reshape(-1, len(bins[0]) if bins else 3)
    vectors = np.full((*at.shape, length), -0.1, np.float32)
    np.put_along_axis(vectors, at[..., None], height, axis=2)
    return vectors


def plainly(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What `decode_simcc` says it does, a key point at a time."""
    found = np.empty((*x.shape[:2], 3), np.float32)
    for place in np.ndindex(x.shape[:2]):
        bins, tops = (x[place].argmax(), y[place].argmax()), (x[place].max(), y[place].max())
        if np.isnan(tops).any() or np.isposinf(min(tops)):
            found[place] = -0.5, -0.5, 0
        elif min(tops) > 0:
            found[place] = bins[0] / 2, bins[1] / 2, min(tops)
        else:
            found[place] = -0.5, -0.5, min(tops) if np.isfinite(min(tops)) else 0
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("people", [0, 1, 7])
def test_what_is_fast_gives_what_is_plain(people, dtype):
    rng = np.random.default_rng(people)
    x, y = (rng.normal(0, 1, (people, 17, bins)).round(1).astype(dtype) for bins in (24, 32))
    for vectors in (x, y):  # a NaN of either sign, infinities and vectors without a positive value, here and there
        for value in (np.nan, -np.nan, np.inf, -np.inf):
            vectors[rng.random(vectors.shape) < 0.003] = value
        vectors[rng.random(vectors.shape[:2]) < 0.1] = 0
        vectors[rng.random(vectors.shape[:2]) < 0.1] = -1

    np.testing.assert_array_equal(decode_simcc(x, y, HEAD), plainly(x, y))


def test_vectors_may_lie_in_memory_as_they_like():
    x, y = np.random.default_rng(0).random((2, 5, 3, 8), np.float32)
    expected = decode_simcc(x, y, HEAD)

    strided = [np.asfortranarray(x), np.repeat(y, 2, axis=1)[:, ::2]]

    np.testing.assert_array_equal(decode_simcc(*strided, HEAD), expected)


@needs_shared
def test_decodes_as_mmpose_does():
    with np.load(SHARED / "golden/decode_simcc.npz") as golden:
        keypoints = decode_simcc(golden["simcc_x"], golden["simcc_y"], HEAD)

        np.testing.assert_array_equal(keypoints[..., :2], golden["keypoints"])
        np.testing.assert_array_equal(keypoints[..., 2], golden["scores"])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bins", [[], [[0, 5, 63]], [[1, 2, 3], [4, 5, 6]]])
def test_the_highest_bin_is_the_place(bins, dtype):
    x, y = one_hot(bins, 64, 0.5).astype(dtype), one_hot(bins, 80, 0.25).astype(dtype)

    keypoints = decode_simcc(x, y, HEAD)

    assert keypoints.dtype == np.float32
    assert keypoints.shape == (len(bins), 3, 3)
    assert (keypoints[..., 0] == np.array(bins).reshape(-1, 3) / 2).all()
    assert (keypoints[..., 1] == keypoints[..., 0]).all()
    assert (keypoints[..., 2] == 0.25).all()  # the smaller of both


def test_of_equal_bins_the_lowest_wins():
    x, y = np.ones((1, 1, 8), np.float32), np.ones((1, 1, 6), np.float32)
    x[0, 0, [3, 5]] = 2

    assert decode_simcc(x, y, HEAD).tolist() == [[[1.5, 0, 1]]]


@pytest.mark.parametrize(("value", "score"), [(0, 0), (-2, -2), (np.nan, 0), (-np.inf, 0)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_vector_without_a_positive_value_is_not_found(value, score, axis):
    vectors = [np.full((1, 2, 8), 1, np.float32), np.full((1, 2, 8), 1, np.float32)]
    vectors[axis][0, 1] = value

    keypoints = decode_simcc(*vectors, HEAD)

    assert keypoints[0, 0].tolist() == [0, 0, 1]
    assert keypoints[0, 1].tolist() == [-0.5, -0.5, score]  # bin -1, as published


def test_the_flip_test_undoes_the_mirror():
    rng = np.random.default_rng(0)
    x, y = rng.random((3, 3, 12), np.float32), rng.random((3, 3, 16), np.float32)
    order = [0, 2, 1]

    merged = merge_flipped_simcc((x, y), (x[:, order, ::-1], y[:, order]), order)

    np.testing.assert_array_equal(merged[0], x)  # the mean of equal numbers
    np.testing.assert_array_equal(merged[1], y)


def test_depth_runs_from_minus_to_plus_its_range():
    head = SimCC(depth_bins=8, depth_range=2.0)
    z = one_hot([[0, 4, 6]], 8)
    keypoints = np.array([[[1, 1, 0.5], [1, 1, 0.5], [-0.5, -0.5, 0]]], np.float32)

    assert decode_depth(z, keypoints, head).tolist() == [[-2, 0, 0]]  # the last was not found


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((1, 2, 8), np.float32), np.zeros((1, 3, 8), np.float32)),  # another number of key points
        (np.zeros((1, 2, 8), np.float32), np.zeros((2, 2, 8), np.float32)),
        (np.zeros((1, 2, 8), np.float32), np.zeros((1, 2, 8), np.float16)),
        (np.zeros((1, 2, 8), np.int32), np.zeros((1, 2, 8), np.int32)),
        (np.zeros((1, 2, 8, 8), np.float32), np.zeros((1, 2, 8, 8), np.float32)),
        (np.zeros((1, 2, 0), np.float32), np.zeros((1, 2, 8), np.float32)),
    ],
)
def test_what_is_not_two_rows_of_vectors_is_refused(x, y):
    with pytest.raises(ValueError, match="vectors must be"):
        decode_simcc(x, y, HEAD)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split_ratio": 0}, "bins a px"),
        ({"split_ratio": float("nan")}, "bins a px"),
        ({"sigma": (1.0,)}, "two positive numbers"),
        ({"depth_bins": -1}, "depth_bins"),
        ({"depth_range": 0.0}, "depth_range"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SimCC(**fields)


def test_a_split_ratio_that_makes_no_whole_bins_is_refused():
    assert SimCC(2.0).bins((256, 192)) == (384, 512)
    with pytest.raises(ValueError, match="whole numbers"):
        SimCC(1.3).bins((256, 192))
