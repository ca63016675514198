"""peaks.cu, run on the CPU, against the numpy reference."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from edgepose.stages.peaks import LARGEST_TOP_K, find_peaks
from tests.cuda.on_cpu import before_a_guard_page, drawn_maps, run_peaks
from tests.makers import make_spec


def assert_same_peaks(kernels: ctypes.CDLL, heatmaps: np.ndarray, window: int, threshold: float, top_k: int) -> None:
    peaks, counts = run_peaks(kernels, heatmaps, window, threshold, top_k)

    wanted_peaks, wanted_counts = find_peaks(heatmaps, window, threshold, top_k)
    np.testing.assert_array_equal(counts, wanted_counts)
    np.testing.assert_array_equal(peaks, wanted_peaks)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("window", "threshold", "top_k"), [(5, 0.1, 30), (3, 0.3, 2), (1, -0.01, 40), (41, 0.1, 5)])
def test_peaks_agree_to_the_bit(kernels, window, threshold, top_k, dtype):
    heatmaps = drawn_maps(make_spec(heatmap_hw=(37, 29)), 3, dtype=dtype)

    assert_same_peaks(kernels, heatmaps, window, threshold, top_k)


@pytest.mark.parametrize("top_k", [1, 4, LARGEST_TOP_K])
def test_any_number_of_peaks_fits(kernels, top_k):
    ramp = np.arange(70 * 80, dtype=np.float32).reshape(70, 80)  # with a window of 1 each pixel is a peak
    shuffled = np.random.default_rng(1).permutation(ramp.ravel()).reshape(70, 80)
    heatmaps = before_a_guard_page(np.stack([ramp, -ramp, shuffled, np.full_like(ramp, 2)])[None])

    assert_same_peaks(kernels, heatmaps, 1, -1e9, top_k)


@pytest.mark.parametrize("threshold", [0.1, -2.0, -np.inf, np.inf])
def test_peaks_of_special_maps_agree(kernels, threshold):
    heatmaps = np.zeros((1, 9, 6, 7), np.float32)
    heatmaps[0, 1] = np.nan
    heatmaps[0, 2] = -np.inf
    heatmaps[0, 3] = np.random.default_rng(0).normal(size=(6, 7)) - 5  # negative throughout
    heatmaps[0, 4, 2, 3], heatmaps[0, 4, 2, 5], heatmaps[0, 4, 0, 0] = np.nan, 1, 1
    heatmaps[0, 5, 2, 3], heatmaps[0, 5, 2, 5], heatmaps[0, 5, 0, 0] = np.inf, 1, 1
    heatmaps[0, 6, 2, 3], heatmaps[0, 6, 2, 5] = -np.inf, 1
    heatmaps[0, 7, ::5, ::6] = 1  # the corners
    heatmaps[0, 8, 1] = -0.0  # ties with 0

    assert_same_peaks(kernels, heatmaps, 5, threshold, 50)


def test_random_maps_full_of_ties_have_the_same_peaks(kernels):
    generator = np.random.default_rng(8)
    for _ in range(20):
        height, width, window = generator.integers(1, 30), generator.integers(1, 30), 2 * generator.integers(0, 4) + 1
        heatmaps = generator.integers(-3, 4, (1, 3, height, width)).astype(np.float16) / 4

        assert_same_peaks(kernels, heatmaps, int(window), float(generator.integers(-4, 3) / 4), 9)
