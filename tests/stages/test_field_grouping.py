from dataclasses import replace

import cv2
import numpy as np
import onnxruntime
import pytest

from edgepose.benchmarks.studies import published_grouping as published
from edgepose.benchmarks.studies.drawn_crowds import draw_fields, draw_maps, draw_people
from edgepose.model.heads.fields import Fields, samples_that_may_fail
from edgepose.stages.enlarge import enlarge
from edgepose.stages.field_grouping import decode_fields, group_points
from edgepose.stages.field_points import Points, find_points
from tests.shared_data import SHARED, needs_shared

HW = (92, 164)
HEAD = Fields(HW, upsample=1)
NOBODY = (np.zeros((18, *HW), np.float32), np.zeros((38, *HW), np.float32))


def crowd(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = draw_people(count, HW, rng, height=45)
    heatmaps, drawn = draw_maps(points, HW, rng)
    return heatmaps, draw_fields(points, drawn, HW, rng)


def lone() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One person in the middle, all of whose key points are there."""
    rng = np.random.default_rng(1)
    points = draw_people(1, (184, 184), rng, height=80)
    points += 92 - points.mean(axis=1)
    heatmaps, drawn = draw_maps(points, (184, 184), rng, missing=0)
    assert drawn.all()
    return points[0], heatmaps, draw_fields(points, drawn, (184, 184), rng)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 12, 30])
def test_people_are_those_of_the_published_algorithm(count):
    heatmaps, pafs = crowd(count, seed=count)

    points = find_points(heatmaps, HEAD)
    groups = group_points(points, pafs, HEAD)

    slow = published.points_in(heatmaps, HEAD)
    expected = published.group_by_fields(slow, pafs, HEAD)
    assert points.xy.tolist() == [[x, y] for kind in slow for x, y, _, _ in kind]
    assert groups.members.tolist() == [[person.members.get(kind, -1) for kind in range(18)] for person in expected]
    assert groups.counts.tolist() == [person.count for person in expected]
    # sums of at most 37 values below 3, in another order: 37 * 3 * 37 * 2^-53 < 1e-11
    np.testing.assert_allclose(groups.scores, [person.score for person in expected], rtol=0, atol=1e-11)


@needs_shared
def test_people_are_those_that_lightweight_openpose_found():
    with np.load(SHARED / "golden" / "group_paf_5.npz") as golden:
        heatmaps, pafs = (golden[key].astype(np.float32).transpose(2, 0, 1) for key in ("heatmaps", "pafs"))
        entries, keypoints = golden["pose_entries"], golden["all_keypoints"]
    head = Fields(heatmaps.shape[1:], upsample=1)

    points = find_points(heatmaps[:18], head)
    groups = group_points(points, pafs, head)

    assert points.xy.tolist() == keypoints[:, :2].tolist()
    assert groups.members.tolist() == entries[:, :18].tolist()
    assert groups.counts.tolist() == entries[:, 19].tolist()
    np.testing.assert_allclose(groups.scores, entries[:, 18], rtol=0, atol=1e-5)  # stored as float32, up to 16


@needs_shared
def test_people_on_photographs_are_those_of_the_published_algorithm():
    session = onnxruntime.InferenceSession(str(SHARED / "models" / "openpose_mobilenet_thin_coco18_368x432.onnx"))
    head = Fields((46, 54))
    found = 0
    for name in ("000000000165.jpg", *(path.name for path in sorted((SHARED / "data/coco/images").iterdir())[10:12])):
        image = cv2.resize(cv2.imread(str(SHARED / "data/coco/images" / name)), (432, 368))
        maps = session.run(None, {"input": image.transpose(2, 0, 1)[None].astype(np.float32)})[0][0]
        heatmaps, pafs = enlarge(maps[:18], 4, "cubic"), enlarge(maps[19:], 4, "cubic")

        groups = group_points(find_points(heatmaps, head), pafs, head)

        expected = published.group_by_fields(published.points_in(heatmaps, head), pafs, head)
        assert groups.members.tolist() == [[person.members.get(kind, -1) for kind in range(18)] for person in expected]
        found += len(expected)
    assert found >= 5


@pytest.mark.parametrize("upsample", [1, 2, 4])
def test_finds_key_points_where_they_were_drawn(upsample):
    drawn, heatmaps, pafs = lone()
    coarse = [np.stack([enlarge_back(part, upsample) for part in maps]) for maps in (heatmaps, pafs)]

    keypoints, scores = decode_fields(*coarse, replace(HEAD, upsample=upsample))

    assert keypoints.shape == (1, 18, 3)
    assert scores.shape == (1,)
    expected = (drawn + 0.5) / upsample - 0.5
    # a pixel of the enlarged map, and what noise of 0.015 moves the top of a Gaussian of sigma 2
    assert np.abs(keypoints[0, :, :2] - expected).max() < 2.5 / upsample


def enlarge_back(part: np.ndarray, factor: int) -> np.ndarray:
    height, width = part.shape
    return part.reshape(height // factor, factor, width // factor, factor).mean((1, 3)).astype(np.float32)


def test_nobody_in_an_empty_picture():
    keypoints, scores = decode_fields(*NOBODY, HEAD)

    assert keypoints.shape == (0, 18, 3)
    assert scores.shape == (0,)


def test_a_missing_key_point_is_nan_with_score_0():
    _, heatmaps, pafs = lone()
    heatmaps[4] = 0

    keypoints, _ = decode_fields(heatmaps, pafs, HEAD)

    assert np.isnan(keypoints[0, 4, :2]).all()
    assert keypoints[0, 4, 2] == 0
    assert np.isfinite(np.delete(keypoints[0], 4, axis=0)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_peak_and_no_limb(value):
    _, heatmaps, pafs = lone()
    whole, _ = decode_fields(heatmaps, pafs, HEAD)
    heatmaps[4], pafs[:2] = value, value  # the right wrist; the limb from neck to right hip

    keypoints, scores = decode_fields(heatmaps, pafs, HEAD)

    assert np.isfinite(scores).all()
    assert np.isnan(keypoints[0, 4, 0])
    assert np.isnan(keypoints[0, 8, 0])
    others = [0, 1, 2, 3, 5, 6, 7, 11, 12, 13, 14, 15, 16, 17]
    np.testing.assert_array_equal(keypoints[0, others], whole[0, others])


def test_fields_and_heat_maps_swapped_are_refused():
    heatmaps, pafs = NOBODY

    with pytest.raises(ValueError, match=r"wanted heatmaps \(18 or 19, h, w\) and pafs \(38, h, w\), got \(38, "):
        decode_fields(pafs, heatmaps, HEAD)


def test_noise_keeps_to_its_number_of_peaks():
    rng = np.random.default_rng(0)
    heatmaps = rng.random((18, *HW), dtype=np.float32)
    head = replace(HEAD, top_k=50)

    points = find_points(heatmaps, head)
    unlimited = find_points(heatmaps, replace(HEAD, top_k=1000))

    assert np.diff(points.first).tolist() == [50] * 18
    for kind in range(18):
        every = unlimited.scores[unlimited.first[kind] : unlimited.first[kind + 1]]
        assert sorted(points.scores[points.first[kind] : points.first[kind + 1]]) == sorted(every)[-50:]


def test_noise_in_every_map_gives_the_published_people_too():
    rng = np.random.default_rng(0)
    heatmaps = rng.random((18, 40, 40), dtype=np.float32)
    pafs = enlarge(rng.normal(0, 1, (38, 5, 5)), 8, "cubic")
    head = Fields((40, 40), upsample=1)

    groups = group_points(find_points(heatmaps, head), pafs, head)

    expected = published.group_by_fields(published.points_in(heatmaps, head), pafs, head)
    assert len(expected) > 10
    assert groups.members.tolist() == [[person.members.get(kind, -1) for kind in range(18)] for person in expected]


def test_no_peaks_at_all_are_no_people():
    nothing = Points(np.zeros((0, 2), int), np.zeros(0), np.zeros(19, int))

    assert group_points(nothing, NOBODY[1], HEAD).members.shape == (0, 18)


@pytest.mark.parametrize(("share", "samples", "expected"), [(0.8, 10, 1), (0.0, 10, 9), (0.75, 4, 0), (0.5, 10, 4)])
def test_samples_that_may_fail(share, samples, expected):
    assert samples_that_may_fail(Fields(HW, samples=samples, samples_share=share)) == expected
