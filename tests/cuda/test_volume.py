"""volume.cu, run on the CPU, against the numpy reference."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.cuda.launch import volume_grid
from edgepose.model.heads.volume import Volume
from edgepose.stages.volume import decode_volume
from tests.cuda.on_cpu import before_a_guard_page, run_volume

# Sums of float32 shares in another order: a cell's 1e-4, and as much of its z and its score.
TOLERANCE = 1e-4


def random_volume(head: Volume, people: int, points: int, scale: float, dtype: type) -> np.ndarray:
    depth, height, width = head.volume_dhw
    values = np.random.default_rng(0).normal(0, scale, (people, points * depth, height, width))
    values[:, ::depth, height // 2, width // 2] += 4 * scale  # something to find
    return before_a_guard_page(values.astype(dtype))


@pytest.mark.parametrize(
    ("sizes", "scale", "dtype"),
    [
        ((8, 12, 10), 2.0, np.float32),
        ((5, 7, 33), 0.01, np.float16),
        ((2, 2, 2), 50.0, np.float32),
        ((4, 6, 64), 2.0, np.float16),
    ],
)
def test_volumes_agree(kernels, sizes, scale, dtype):
    head = Volume(sizes, depth_m=1.7)
    volume = random_volume(head, 2, 1, scale, dtype)

    found = run_volume(kernels, volume, head)

    np.testing.assert_allclose(found, decode_volume(volume, head), rtol=0, atol=TOLERANCE)


def test_special_volumes_agree(kernels):
    head = Volume((4, 6, 5))
    volume = np.zeros((1, 7 * 4, 6, 5), np.float32)
    points = volume.reshape(7, 4, 6, 5)
    points[1, 2, 3, 4], points[2, 0, 0, 0], points[3] = np.nan, np.inf, -np.inf
    points[4, :2] = -np.inf
    points[5] = -np.inf
    points[5, 3, 5, 4] = -1e30  # one cell is all there is
    points[6] = np.random.default_rng(1).normal(60000, 1, (4, 6, 5))

    found = run_volume(kernels, volume, head)

    np.testing.assert_allclose(found, decode_volume(volume, head), rtol=0, atol=TOLERANCE)
    assert (found[0, [1, 2, 3]] == 0).all()


def test_no_volumes_are_no_launch():
    with pytest.raises(ValueError, match="at least one volume"):
        volume_grid(0)
