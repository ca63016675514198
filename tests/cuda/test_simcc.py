"""simcc.cu, run on the CPU, against the numpy reference."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.model.heads.simcc import SimCC
from edgepose.stages.simcc import decode_depth, decode_simcc, merge_flipped_simcc
from tests.cuda.on_cpu import before_a_guard_page, run_depth, run_simcc

HEAD = SimCC()
ORDER = [0, 2, 1]


def vectors(bins: tuple[int, int], dtype: type = np.float32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Of five people with three key points; coarse values, so that there are ties."""
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(-9, 40, (5, 3, length)).astype(dtype) / 32 for length in bins)
    return x, y


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bins", [(384, 512), (192, 256), (1, 1), (129, 7)])
def test_agrees_with_numpy_to_the_bit(kernels, bins, dtype):
    plain, flipped = vectors(bins, dtype), vectors(bins, dtype, seed=1)

    merged = merge_flipped_simcc(plain, flipped, ORDER)
    np.testing.assert_array_equal(run_simcc(kernels, plain, 2.0), decode_simcc(*plain, HEAD))
    np.testing.assert_array_equal(run_simcc(kernels, plain, 2.0, flipped, ORDER), decode_simcc(*merged, HEAD))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, -np.inf])
def test_special_vectors_agree(kernels, value, axis):
    plain = vectors((40, 50))
    plain[axis][1, 2] = value
    plain[axis][0, 0, 7] = value
    plain[0][2, 1] = plain[1][2, 1] = value

    np.testing.assert_array_equal(run_simcc(kernels, plain, 2.0), decode_simcc(*plain, HEAD))


def test_nothing_beyond_the_vectors_is_read(kernels):
    plain, flipped = ([before_a_guard_page(each) for each in vectors((33, 200), np.float16, seed)] for seed in (0, 1))
    for each in (*plain, *flipped):
        each[-1, -1, -1] = 3

    found = run_simcc(kernels, tuple(plain), 2.0, tuple(flipped), ORDER)

    merged = merge_flipped_simcc(tuple(plain), tuple(flipped), ORDER)
    np.testing.assert_array_equal(found, decode_simcc(*merged, HEAD))


def test_key_points_go_to_the_image(kernels):
    plain = vectors((64, 80))
    to_image = np.array([[2, 0.5, 10, 20], [1, 1, 0, 0], [3, 3, -5, 7], [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4]], np.float32)

    found = run_simcc(kernels, plain, 2.0, to_image=to_image)

    wanted = decode_simcc(*plain, HEAD)
    wanted[..., :2] = wanted[..., :2] * to_image[:, None, :2] + to_image[:, None, 2:]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)  # a multiply-add rounds once


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bins", [576, 7])
def test_depths_agree_to_the_bit(kernels, bins, dtype):
    head = SimCC(depth_bins=bins)
    z, mirrored = (vectors((bins, 1), dtype, seed)[0] for seed in (0, 1))
    z[1, 1, 3] = np.nan
    z[0, 2] = -np.inf
    keypoints = np.ones((5, 3, 3), np.float32)
    keypoints[2, 0, 2] = 0  # not found

    merged = np.float32(0.5) * (z.astype(np.float32) + mirrored[:, ORDER])
    plain = run_depth(kernels, before_a_guard_page(z), keypoints, head.depth_range)
    flipped = run_depth(kernels, z, keypoints, head.depth_range, mirrored, ORDER)

    np.testing.assert_array_equal(plain, decode_depth(z, keypoints, head))
    np.testing.assert_array_equal(flipped, decode_depth(merged, keypoints, head))
    assert plain[1, 1] == plain[2, 0] == 0
