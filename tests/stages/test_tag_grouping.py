from dataclasses import replace

import numpy as np
import pytest

from edgepose.benchmarks.studies import published_grouping as published
from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_maps, draw_people, draw_tags
from edgepose.model.heads.tags import Tags
from edgepose.stages import tag_maps
from edgepose.stages.peaks import find_peaks
from edgepose.stages.tag_grouping import decode_tags, group_peaks
from edgepose.stages.tag_maps import COARSE, FARTHEST, TagArrays
from tests.shared_data import SHARED, needs_shared

HW = (92, 164)
HEAD = Tags(HW, center_shift=0.0)


def crowd(count: int, *, apart: float = 1.0, missing: float = 0.1, numbers: int = 1) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(count)
    points = draw_people(count, HW, rng, height=45)[:, COCO17_OF_18]
    heatmaps, drawn = draw_maps(points, HW, rng, missing=missing)
    return heatmaps, np.concatenate([draw_tags(points, drawn, HW, rng, apart=apart) for _ in range(numbers)]), points


def peaks_of(heatmaps: np.ndarray, tags: np.ndarray, head: Tags) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    peaks, counts = find_peaks(heatmaps[None], head.window, head.peak_threshold, head.top_k)
    x, y = peaks[0, ..., :2].transpose(2, 0, 1).astype(int)
    at = tags.reshape(-1, *heatmaps.shape)[:, np.arange(17)[:, None], y, x]
    return peaks[0], counts[0], at.transpose(1, 2, 0)


def sorted_people(people: np.ndarray) -> list:
    return sorted(people.tolist())


@pytest.mark.parametrize("apart", [1.0, 0.5])
@pytest.mark.parametrize("numbers", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 12, 30])
def test_people_are_those_of_the_published_algorithm(count, numbers, apart):
    heatmaps, tags, _ = crowd(count, apart=apart, numbers=numbers)
    found = peaks_of(heatmaps, tags, HEAD)

    people = group_peaks(*found, HEAD)

    assert sorted_people(people) == sorted_people(published.group_by_tags(*found, HEAD))


def test_of_equal_sums_of_distances_the_one_that_keeps_people_together():
    """Munkres may give -6 to the person at -3 and -3 to the one at 0: 3 + 3 is as much as 0 + 6."""
    head = replace(HEAD, order=(0, 1))
    peaks = np.array([[[1, 1, 0.9], [9, 9, 0.8], [0, 0, 0]], [[1, 2, 0.9], [9, 8, 0.8], [4, 4, 0.7]]], np.float32)
    tags = np.array([[[0], [-3], [0]], [[-6], [-3], [0]]], np.float32)

    people = group_peaks(peaks, np.array([2, 2]), tags, head)

    assert people[:, :, 0].tolist() == [[1, 0], [9, 9], [0, 1]]


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("far", [(1e30, -1e30), (1e30, 1e30), (3e38, -3e38)])
def test_a_peak_whose_tag_is_beyond_all_others_changes_nobody_else(far):
    """Its distance in full would leave float64 no digit for those of the others."""
    head = replace(HEAD, order=(0, 1))
    peaks = np.zeros((2, 3, 3), np.float32)
    peaks[..., 0] = [[1, 9, 5], [2, 8, 6]]
    peaks[..., 2] = [[0.9, 0.8, 0.7], [0.9, 0.8, 0.7]]
    tags = np.array([[[0], [-3], [far[0]]], [[-6], [-3], [far[1]]]], np.float32)

    people = group_peaks(peaks, np.array([3, 3]), tags, head)

    assert people[:2, :, 0].tolist() == [[1, 0], [9, 8]]  # as without the third: 0 + 6, not 3 + 3


@pytest.mark.parametrize("count", [1, 2])
def test_the_tie_break_changes_nobody_where_tags_are_clear(count):
    heatmaps, tags, _ = crowd(count, apart=3)
    head = replace(HEAD, window=11)  # one peak of each drawn point
    found = peaks_of(heatmaps, tags, head)

    expected = published.group_by_tags(*found, head, nearer=0)

    assert sorted_people(group_peaks(*found, head)) == sorted_people(expected)


@needs_shared
def test_people_are_those_that_mmpose_found():
    with np.load(SHARED / "golden" / "group_ae_4.npz") as golden:
        heatmaps, tags = (golden[key][0].astype(np.float32) for key in ("heatmaps", "tags"))
        expected = np.concatenate([golden["keypoints"] / 2, golden["scores"][..., None]], axis=2)  # in heat-map px

    people, _ = decode_tags(heatmaps, tags, replace(HEAD, size_hw=(128, 256)))

    assert len(people) == len(expected)
    difference = np.abs(people[:, None] - expected).max(axis=(2, 3))
    nearest = difference.argmin(axis=0)
    assert sorted(nearest) == list(range(len(expected)))
    # 1/4 px: a person's foot has two equal pixels, and either may be the peak
    assert difference.min(axis=0).max() <= 0.25


@pytest.mark.parametrize("refinement", ["mmpose", "original"])
@pytest.mark.parametrize("upsample", [1, 2])
def test_finds_key_points_where_they_were_drawn(refinement, upsample):
    heatmaps, tags, points = crowd(1, missing=0)
    head = replace(HEAD, refinement=refinement, upsample=upsample)

    keypoints, scores = decode_tags(heatmaps, tags, head)

    assert scores.shape == (1,)
    assert keypoints.shape == (1, 17, 3)
    inside = ((points[0] >= 0) & (points[0] <= np.array(HW[::-1]) - 1)).all(axis=1)
    # half a pixel to the nearest one, a quarter of refinement, and what noise moves the top of a Gaussian of sigma 2
    assert np.abs(keypoints[0, inside, :2] - points[0, inside]).max() < 1.3


def test_nobody_in_an_empty_picture():
    keypoints, scores = decode_tags(np.zeros((17, *HW), np.float32), np.zeros((17, *HW), np.float32), HEAD)

    assert keypoints.shape == (0, 17, 3)
    assert scores.shape == (0,)


def test_a_missing_key_point_is_filled_in_where_its_tag_fits_or_left_out():
    heatmaps, tags, points = crowd(1, missing=0)
    x, y = np.rint(points[0, 9]).astype(int)
    heatmaps[9] *= 0.05 / heatmaps[9].max()  # too low for a peak

    filled, _ = decode_tags(heatmaps, tags, HEAD)
    left_out, _ = decode_tags(heatmaps, tags, replace(HEAD, fill=False))

    assert np.abs(filled[0, 9, :2] - (x, y)).max() <= 4  # its tag is drawn so far around it
    assert 0 < filled[0, 9, 2] <= 0.05
    assert np.isnan(left_out[0, 9, :2]).all()
    assert left_out[0, 9, 2] == 0


def test_more_people_than_the_most_are_left_out():
    heatmaps, tags, _ = crowd(12, apart=3)

    assert len(decode_tags(heatmaps, tags, replace(HEAD, max_people=4))[0]) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_peak(value):
    heatmaps, tags, _ = crowd(1, missing=0)
    heatmaps[9], tags[10] = value, value

    keypoints, scores = decode_tags(heatmaps, tags, replace(HEAD, fill=False))

    assert np.isfinite(scores).all()
    assert np.isnan(keypoints[0, [9, 10], 0]).all()
    assert len(keypoints) == 1


def best_by_trying_all(maps: TagArrays, kind: int, mean: np.ndarray, weight: float) -> int:
    """The published choice, pixel after pixel; what is no number is none."""
    best, place = -np.inf, 0
    heights, numbers = maps.heatmaps[kind].ravel(), maps.numbers[:, kind].reshape(len(maps.numbers), -1)
    for pixel, height in enumerate(heights):
        differences = numbers[:, pixel] - mean.astype(np.float32)
        distance = np.rint(np.sqrt((differences**2).sum()) if len(differences) > 1 else np.abs(differences[0]))
        value = height - np.float32(weight) * np.fmin(distance, np.float32(FARTHEST))
        if height > -np.inf and value > best:
            best, place = value, pixel
    return place


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("weight", [1, 100])
@pytest.mark.parametrize("numbers", [1, 2])
@pytest.mark.parametrize("spread", [0.3, 3, 30])
def test_a_missing_key_point_is_where_the_published_choice_puts_it(spread, numbers, weight, damaged, monkeypatch):
    monkeypatch.setattr(tag_maps, "MANY", 100)  # some of the maps have more pixels over CLEAR
    rng = np.random.default_rng(weight)
    heights = np.round(rng.normal(0, 0.06, (3, 40, 50)), 2).astype(np.float32)  # many are equal
    tags = rng.normal(0, spread, (numbers, 3, 40, 50)).astype(np.float32)
    if damaged:
        heights[0, ::3], heights[1], heights[2, 0, :3] = np.nan, -np.inf, (np.inf, np.nan, -np.inf)
        tags[:, :, ::5], tags[:, :, 1::5] = np.nan, np.inf
    maps, kind = TagArrays(heights, tags), np.repeat(np.arange(3), 9)
    means = rng.normal(0, 2 * spread, (numbers, len(kind)))
    means[:, ::9] = 1e5

    places, found = maps.best_places(kind, means, weight)

    expected = [best_by_trying_all(maps, one, mean, weight) for one, mean in zip(kind, means.T, strict=True)]
    assert places.tolist() == expected
    np.testing.assert_array_equal(found, heights.reshape(3, -1)[kind, expected])


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("numbers", [1, 2])
@pytest.mark.parametrize("offset", [0.0, 0.37, -7.5, 25.0, 9e4, 3e7, 1e30])
@pytest.mark.parametrize("spread", [0.4, 4, 20, 200])
def test_a_low_pixel_whose_tag_is_half_a_unit_off_is_found(spread, offset, numbers):
    rng = np.random.default_rng(0)
    means = np.concatenate([np.rint(spread * rng.normal(size=(1, 40)) * 64) / 64 + offset, np.zeros((1, 40))])[:numbers]
    heights = rng.uniform(0, 0.09, (1, 30, 40)).astype(np.float32)
    tags = np.full((numbers, 1, 30, 40), offset + 5 * spread, np.float32)  # mostly far away
    some = rng.choice(1200, (5, 40), replace=False)
    heights.reshape(-1)[some[:2]] = 0.9  # peaks whose tag is one and two off
    for where, off in zip(some, (1, 2, -0.5, 0.5, -1), strict=True):
        near = rng.random(40) < 0.5
        tags.reshape(numbers, -1)[:, where[near]] = means[:, near]
        tags.reshape(numbers, -1)[0, where[near]] += np.float32(off)
    maps, kind = TagArrays(heights, tags), np.zeros(40, int)

    places, _ = maps.best_places(kind, means, 100)

    assert places.tolist() == [best_by_trying_all(maps, 0, mean, 100) for mean in means.T]


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("sign", [1, -1])
def test_up_to_the_largest_tags_that_bytes_can_tell_none_that_is_near_is_overlooked(sign):
    """A byte is off by 1/4 level (tag and shift are below 2^22 levels), the mean by 6/64: together under the half."""
    rng = np.random.default_rng(0)
    lowest = (sign * COARSE * rng.uniform(0.95, 1, 500)).astype(np.float32)
    means = (lowest + rng.uniform(0, 10, (8, 500))).astype(np.float32)

    for off in np.float32([-0.5, 0.5]):
        for low, row in zip(lowest.tolist(), means.T, strict=True):
            near = [tag_maps._may_be_near(row[i : i + 1] + off, row[i : i + 1], low)[0] for i in range(len(row))]
            assert all(near)


@pytest.mark.parametrize("weight", [1, 100])
def test_distances_up_to_a_million_are_told_apart(weight):
    heights = np.array([[[0.05, 0.9]]], np.float32)
    tags = np.array([[[[9e5, FARTHEST]]]], np.float32)

    places, _ = TagArrays(heights, tags).best_places(np.zeros(1, int), np.zeros((1, 1)), weight)

    assert places.tolist() == [0]


@pytest.mark.parametrize(("peak_off", "low_off", "chosen"), [(1, 1.2, 0), (2, 1.2, 1), (2, 1.6, 0), (9, 8.4, 1)])
def test_a_low_pixel_is_chosen_only_where_its_whole_distance_is_less(peak_off, low_off, chosen):
    heights = np.array([[[0.9, 0.05, 0.0]]], np.float32)
    tags = np.array([[[[7 + peak_off, 7 - low_off, 400]]]], np.float32)

    places, _ = TagArrays(heights, tags).best_places(np.zeros(1, int), np.full((1, 1), 7.0), 100)

    assert places.tolist() == [chosen]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_filling_in_survives_what_is_not_finite(value):
    heatmaps, tags, _ = crowd(2, missing=0)
    heatmaps[9], tags[10] = value, value

    keypoints, scores = decode_tags(heatmaps, tags, HEAD)

    assert np.isfinite(scores).all()
    assert len(keypoints) == 2
    assert np.isnan(keypoints[:, 9, :2]).all()
    assert (keypoints[:, 9, 2] == 0).all()
    assert np.isfinite(keypoints[..., 2]).all()


def test_tags_of_a_wrong_size_are_refused():
    heatmaps, tags, _ = crowd(1)

    with pytest.raises(ValueError, match=r"tags \(34, h, w\), got \(17, 92, 164\) and \(17, 92, 164\)"):
        decode_tags(heatmaps, tags, replace(HEAD, tag_size=2))
    with pytest.raises(ValueError, match=r"and \(18, 92, 164\)"):
        decode_tags(heatmaps, np.concatenate([tags, tags[:1]]), HEAD)


def test_noise_gives_no_more_than_the_most_people():
    rng = np.random.default_rng(0)
    heatmaps, tags = rng.random((2, 17, *HW), dtype=np.float32)

    keypoints, _ = decode_tags(heatmaps, 100 * tags, HEAD)

    assert len(keypoints) == HEAD.max_people
