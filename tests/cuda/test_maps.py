"""maps.cu, run on the CPU, and what asks it, on the stand-in device, against the numpy references."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.cuda.launch import enlarge_grid, flat_grid
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.stages.enlarge import enlarge
from edgepose.stages.field_grouping import limb_strengths
from edgepose.stages.field_points import find_candidates, find_points
from edgepose.stages.peaks import find_peaks
from edgepose.stages.tag_maps import TagArrays
from tests.cuda.on_cpu import before_a_guard_page, launch, pointer
from tests.fake_device.gpu import FATBIN, FakeGpu
from tests.fake_device.install import fake_device
from tests.nvcc import needs_nvcc

pytestmark = needs_nvcc
HW = (46, 62)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float16])
# A pixel of an enlarged map is a sum of 16 products of float32, whose absolute weights add up to at most 1.375^2 of the
# largest value, each rounded some times: 20 roundings of 2^-24.
ROUNDING = 1.375**2 * 20 * 2**-24


def crowd(count: int, hw: tuple[int, int] = HW, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heat maps of 18 key points, their fields, and tags of two numbers of COCO's 17."""
    rng = np.random.default_rng(seed)
    points = draw_people(count, hw, rng, height=35)
    heatmaps, drawn = draw_maps(points, hw, rng)
    coco = points[:, COCO17_OF_18], drawn[:, COCO17_OF_18]
    return heatmaps, draw_fields(points, drawn, hw, rng), np.concatenate([draw_tags(*coco, hw, rng) for _ in range(2)])


@contextmanager
def on_gpu(
    kind: str, first: np.ndarray, second: np.ndarray, head: Any, at_once: int | None = None
) -> Iterator[tuple[Any, FakeGpu]]:
    """FieldsOnGpu or TagsOnGpu of arrays that were put on the stand-in device."""
    with fake_device() as gpu:
        maps, memory = (import_module(f"edgepose.cuda.{name}") for name in ("maps", "memory"))
        maps.AT_ONCE = at_once or maps.AT_ONCE  # of a module that fake_device throws away
        with memory.open_device().active(), ExitStack() as resources:
            stream, placed = memory.Stream(), []
            for array in (first, second):
                room = memory.DeviceMemory(array.nbytes)
                resources.callback(room.free)
                stream.upload(room.address, np.ascontiguousarray(array))
                placed.append(maps.Placed(room.address, array.dtype == np.float16))
            stream.wait()
            made = getattr(maps, kind)(memory.load_module(FATBIN), stream, *placed, head, resources)
            yield made, gpu
            del made
        assert gpu.problems == []
        assert gpu.live == {}


def strange_maps(rng: np.random.Generator, hw: tuple[int, int]) -> np.ndarray:
    """Maps full of ties and of values that are no numbers."""
    maps = rng.integers(-3, 9, (4, *hw)).astype(np.float32) / 8
    for value in (np.nan, np.inf, -np.inf):
        maps[1:][rng.random((3, *hw)) < 0.1] = value
    maps[3] = 0.5
    return maps


@DTYPES
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_maps_are_enlarged_as_opencv_does(kernels, factor, interpolation, dtype):
    maps = before_a_guard_page(np.random.default_rng(0).normal(0, 1, (3, 13, 9)).astype(dtype))
    found = before_a_guard_page(np.full((3, 13 * factor, 9 * factor), 99, np.float32))
    function = kernels.run_enlarge_f16 if dtype is np.float16 else kernels.run_enlarge_f32

    function(
        pointer(maps), pointer(found), 13, 9, factor, int(interpolation == "cubic"), launch(*enlarge_grid(found.shape))
    )

    np.testing.assert_allclose(found, enlarge(maps, factor, interpolation), rtol=0, atol=ROUNDING * np.abs(maps).max())


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (9, 1), (2, 2), (17, 23)])
def test_candidates_are_those_of_numpy_to_the_bit_and_have_room(kernels, hw):
    rng = np.random.default_rng(3)
    for maps in (strange_maps(rng, hw), rng.random((2, *hw), np.float32), np.indices(hw).sum(axis=0)[None] % 2 + 0.0):
        maps = before_a_guard_page(maps.astype(np.float32))
        room = before_a_guard_page(np.zeros((1 + len(maps) * -(-hw[0] * hw[1] // 2), 2), np.int32))

        kernels.run_candidates(
            pointer(maps), pointer(room), maps.size, *hw, ctypes.c_float(0.1), launch(*flat_grid(maps.size, 256))
        )

        place, value = find_candidates(maps, 0.1)
        found = room[1 : 1 + room[0, 0]]
        found = found[found[:, 0].argsort()]
        assert found[:, 0].tolist() == place.tolist()
        assert found[:, 1].view(np.float32).tolist() == value.tolist()


@pytest.mark.parametrize(("count", "dtype"), [(0, np.float32), (1, np.float32), (12, np.float16)])
def test_points_of_fields_are_those_of_numpy(count, dtype):
    heatmaps, pafs, _ = (maps.astype(dtype) for maps in crowd(count))
    head = Fields(HW, upsample=4, peak_distance=3)

    with on_gpu("FieldsOnGpu", heatmaps, pafs, head) as (maps, _):
        found = maps.find_points()

    wanted = find_points(enlarge(heatmaps, 4, "cubic"), head)
    assert found.first.tolist() == wanted.first.tolist()
    assert found.xy.tolist() == wanted.xy.tolist()
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=ROUNDING)


def test_any_number_of_candidates_comes_down():
    heatmaps = np.random.default_rng(0).random((18, *HW), np.float32)  # thousands, of which top_k of each map stay
    head = Fields(HW, upsample=1, peak_distance=0)
    with on_gpu("FieldsOnGpu", heatmaps, np.zeros((38, *HW), np.float32), head, 2048) as (maps, _):
        found = [maps.find_points(), maps.find_points()]

    wanted = find_points(heatmaps, head)
    assert len(find_candidates(heatmaps, head.peak_threshold)[0]) > 5000
    for points in found:  # the second count begins at 0 again
        assert points.xy.tolist() == wanted.xy.tolist()
        assert points.scores.tolist() == wanted.scores.tolist()


@DTYPES
@pytest.mark.parametrize(("upsample", "samples", "share"), [(1, 10, 0.8), (4, 10, 0.8), (2, 7, 0.0)])
def test_limbs_are_as_strong_as_in_numpy(dtype, upsample, samples, share):
    _, pafs, _ = crowd(6)
    pafs[3, 20:30, 20:30], pafs[8, 5:9, 5:9] = np.nan, np.inf
    pafs = pafs.astype(dtype)
    head = Fields(HW, upsample=upsample, samples=samples, samples_share=share)
    rng = np.random.default_rng(1)
    limb = rng.integers(0, 19, 20_000)  # more than at once
    start, end = (rng.integers(0, upsample * np.array(HW[::-1]), (len(limb), 2)) for _ in range(2))
    end[::3] = np.clip(start[::3] + rng.integers(-5, 6, (len(limb[::3]), 2)), 0, upsample * np.array(HW[::-1]) - 1)
    end[0] = start[0]

    with on_gpu("FieldsOnGpu", np.zeros((18, *HW), dtype), pafs, head) as (maps, _):
        found = maps.strengths(limb, start, end)
        nobody = maps.strengths(limb[:0], start[:0], end[:0])

    wanted = limb_strengths(enlarge(pafs, upsample, "cubic"), head, limb, start, end)
    assert nobody.shape == (0,)
    assert 50 < (wanted > 0).sum() < len(wanted)
    same = (found > 0) == (wanted > 0)
    assert same.mean() > 0.999  # a sample within a rounding of the threshold may count here and not there
    np.testing.assert_allclose(found[same], wanted[same], rtol=0, atol=1e-5)


@DTYPES
@pytest.mark.parametrize(("upsample", "numbers"), [(1, 1), (2, 1), (2, 2)])
def test_tags_are_answered_as_in_numpy(dtype, upsample, numbers):
    heatmaps, _, tags = crowd(5)
    heatmaps, tags = heatmaps[list(COCO17_OF_18)].astype(dtype), tags[: 17 * numbers].astype(dtype)
    heatmaps[3, 4:6], heatmaps[4], heatmaps[5] = np.nan, np.nan, -np.inf
    tags[6, :9], tags[7] = np.nan, np.inf
    head = Tags(HW, upsample=upsample, tag_size=numbers)
    large, high = (enlarge(maps, upsample, "linear") for maps in (tags, heatmaps))
    arrays = TagArrays(high, large.reshape(numbers, *high.shape))
    rng = np.random.default_rng(2)
    kind = np.sort(rng.integers(0, 17, 60))
    y, x = (rng.integers(0, side, 60) for side in arrays.size_hw)
    means = rng.normal(0, 3, (numbers, 60))

    with on_gpu("TagsOnGpu", heatmaps, tags, head) as (maps, _):
        peaks, counts = maps.find_peaks()
        heights, values = maps.heights(kind, y, x), maps.tags(kind, y, x)
        places, tops = maps.best_places(kind, means, 100)
        size_hw = maps.size_hw

    atol = ROUNDING * float(np.nanmax(np.abs(tags[np.isfinite(tags)])))
    wanted_peaks, wanted_counts = find_peaks(high[None], head.window, head.peak_threshold, head.top_k)
    assert counts.tolist() == wanted_counts[0].tolist()
    np.testing.assert_allclose(peaks, wanted_peaks[0], rtol=0, atol=ROUNDING)
    for found, wanted in ((heights, arrays.heights(kind, y, x)), (values, arrays.tags(kind, y, x))):
        finite = np.isfinite(wanted)  # between infinities OpenCV gives NaN
        assert 10 < finite.sum() < finite.size
        assert not np.isfinite(found[~finite]).any()
        np.testing.assert_allclose(found[finite], wanted[finite], rtol=0, atol=atol)
    wanted_places, wanted_tops = arrays.best_places(kind, means, 100)
    assert (size_hw, places.tolist()) == (arrays.size_hw, wanted_places.tolist())
    np.testing.assert_allclose(tops[np.isfinite(wanted_tops)], wanted_tops[np.isfinite(wanted_tops)], rtol=0, atol=atol)


def test_more_questions_than_at_once_are_answered():
    heatmaps, _, tags = crowd(2)
    heatmaps, rng = heatmaps[:17], np.random.default_rng(0)
    kind, y, x = np.sort(rng.integers(0, 17, 5000)), rng.integers(0, HW[0], 5000), rng.integers(0, HW[1], 5000)
    arrays = TagArrays(heatmaps, tags.reshape(2, 17, *HW))

    with on_gpu("TagsOnGpu", heatmaps, tags, replace(Tags(HW), tag_size=2), 1024) as (maps, gpu):
        values = maps.tags(kind, y, x)

        assert gpu.launched.count("read_f32") == 10  # of two numbers each
    assert values.tolist() == arrays.tags(kind, y, x).tolist()
