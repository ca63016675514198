"""Local maxima: literals, every pixel compared with its window, and bad arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.stages import peaks as peaks_module
from edgepose.stages.peaks import find_peaks


def maps_of(*pixels: tuple[int, int, float], hw: tuple[int, int] = (6, 8)) -> np.ndarray:
    """(1, 1, h, w) of zeros with (y, x, value) set."""
    maps = np.zeros((1, 1, *hw), np.float32)
    for y, x, value in pixels:
        maps[0, 0, y, x] = value
    return maps


def test_peaks_come_highest_first_and_the_rest_is_zero():
    peaks, counts = find_peaks(maps_of((1, 1, 0.5), (4, 6, 0.9), (0, 7, 0.05)), top_k=4)

    assert counts.tolist() == [[2]]
    np.testing.assert_array_equal(peaks[0, 0], np.float32([[6, 4, 0.9], [1, 1, 0.5], [0, 0, 0], [0, 0, 0]]))


def test_within_a_window_only_the_highest_is_a_peak():
    maps = maps_of((2, 2, 0.8), (4, 4, 0.7), (2, 5, 0.6))  # (4, 4) is 2 px off in x and y, (2, 5) 3 px

    assert find_peaks(maps, window=5)[0][0, 0, :2, :2].tolist() == [[2, 2], [0, 0]]
    assert find_peaks(maps, window=3)[1].tolist() == [[3]]


def test_every_pixel_of_a_plateau_is_a_peak_the_first_in_memory_first():
    peaks, counts = find_peaks(np.full((1, 1, 2, 3), 0.5, np.float32), top_k=4)

    assert counts.tolist() == [[4]]
    assert peaks[0, 0, :, :2].tolist() == [[0, 0], [1, 0], [2, 0], [0, 1]]


@pytest.mark.parametrize("window", [5, 63])
def test_plateaus_are_compared_a_few_times_a_pixel(window, monkeypatch):
    compared = []
    not_lower = peaks_module._not_lower
    monkeypatch.setattr(peaks_module, "_not_lower", lambda *args: compared.append(args[1].size) or not_lower(*args))

    _, counts = find_peaks(np.ones((1, 2, 70, 80), np.float32), window=window)

    assert counts.tolist() == [[30, 30]]
    assert sum(compared) <= (peaks_module.NEAREST + peaks_module.COMPARED + 1) * 2 * 70 * 80


def test_nothing_lies_beyond_the_border():
    maps = np.full((1, 1, 3, 3), -5, np.float32)
    maps[0, 0, 0, 2] = -1  # a zero outside would exceed it

    peaks, _ = find_peaks(maps, threshold=-2)

    assert peaks[0, 0, 0].tolist() == [2, 0, -1]


@pytest.mark.parametrize(("value", "left"), [(np.nan, [[7, 5, 0.5]]), (np.inf, [[7, 5, 0.5]])])
def test_what_is_not_finite_is_no_peak_and_lets_none_be_beside_it(value, left):
    peaks, counts = find_peaks(maps_of((1, 1, value), (2, 2, 0.9), (5, 7, 0.5)))

    assert counts.tolist() == [[1]]
    assert peaks[0, 0, :1].tolist() == left


def test_maps_without_a_number_have_no_peaks():
    maps = np.stack([np.full((4, 4), value, np.float32) for value in (np.nan, -np.inf, np.inf)])[None]

    peaks, counts = find_peaks(maps, threshold=-np.inf)

    assert counts.tolist() == [[0, 0, 0]]
    assert not peaks.any()


def test_no_maps_have_no_peaks():
    peaks, counts = find_peaks(np.zeros((0, 17, 8, 8), np.float32), top_k=5)

    assert peaks.shape == (0, 17, 5, 3)
    assert counts.shape == (0, 17)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 5, 19]), st.sampled_from([0, 8])
)
def test_every_pixel_is_compared_with_its_window(seed, height, width, window, compared):
    generator = np.random.default_rng(seed)
    maps = generator.integers(-4, 5, (2, 2, height, width)).astype(generator.choice([np.float32, np.float16])) / 4
    maps[generator.random(maps.shape) < 0.02] = generator.choice([np.nan, np.inf, -np.inf])

    with pytest.MonkeyPatch.context() as patch, np.errstate(invalid="ignore"):
        patch.setattr(peaks_module, "COMPARED", compared)
        peaks, counts = find_peaks(maps, window=window, threshold=-0.5, top_k=7)

    radius = window // 2
    for map_, found, count in zip(maps.reshape(-1, height, width), peaks.reshape(-1, 7, 3), counts.flat, strict=True):
        wanted = sorted(
            (-map_[y, x], y, x)
            for y in range(height)
            for x in range(width)
            if -0.5 < map_[y, x] < np.inf
            and map_[y, x] == map_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1].max()
        )[:7]
        assert count == len(wanted)
        assert [(-value, y, x) for x, y, value in found[:count].tolist()] == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 4}, "odd"),
        ({"window": -1}, "odd"),
        ({"threshold": np.nan}, "threshold"),
        ({"top_k": 0}, "256"),
        ({"top_k": 257}, "256"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_peaks(maps_of(), **arguments)


@pytest.mark.parametrize(
    "maps", [np.zeros((2, 8, 8), np.float32), np.zeros((1, 1, 8, 8)), np.zeros((1, 1, 0, 8), "f4")]
)
def test_other_arrays_are_refused(maps):
    with pytest.raises(ValueError, match="float32 or float16"):
        find_peaks(maps)
