from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.errors import ExportError
from edgepose.export.drawn.crops import sample_crops, smooth_crops
from edgepose.export.graph.run import beyond_fp16, run_onnx
from edgepose.export.verify import check_fp16, check_fp32, compare
from edgepose.model.heads.simcc import SimCC
from edgepose.model.spec import Input, ModelSpec, Region
from tests.makers import make_spec

SPEC = make_spec()


def peaks(centers_xy, *, height=1.0, sigma=1.5, hw=(16, 12)):
    """(1, K, h, w): a Gaussian for each centre."""
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    maps = [height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) for x, y in centers_xy]
    return np.array(maps, np.float32)[None]


def test_equal_maps_do_not_differ():
    heatmaps = peaks([(5, 6), (7, 9)])

    difference = compare(heatmaps, heatmaps.copy(), 2)

    assert (difference.relative, difference.px, difference.peaks) == (0, 0, 2)


@pytest.mark.parametrize("shift", [0.002, 0.05, 0.4, 3.0])
def test_a_moved_peak_is_measured_in_pixels(shift):
    reference, moved = peaks([(5, 6), (7, 9)]), peaks([(5, 6), (7 + shift, 9)])

    px = compare(reference, moved, 2).px

    assert px == pytest.approx(shift, rel=0.12)  # a parabola through three points of this Gaussian: 11 % short at most


def test_wide_peaks_of_large_maps_are_measured_as_well():
    reference, moved = (peaks([(100 + shift, 120)], sigma=9, hw=(224, 224)) for shift in (0, 0.5))

    difference = compare(reference, moved, 1)

    assert (difference.peaks, difference.px) == (1, pytest.approx(0.5, rel=0.07))


@pytest.mark.parametrize(
    "heatmaps",
    [
        peaks([(5, 6)], height=0.2),  # not confident
        np.full((1, 1, 16, 12), 0.9, np.float32),  # flat
        peaks([(5, 0)]),  # at the border
        np.maximum(peaks([(3, 4)]), peaks([(8, 11)])),  # two peaks of one height
    ],
    ids=["low", "flat", "border", "two"],
)
def test_a_peak_that_rounding_could_move_is_not_compared(heatmaps):
    assert compare(heatmaps, heatmaps, 1).peaks == 0


def test_offsets_are_not_taken_for_scores():
    heatmaps = np.concatenate([peaks([(5, 6)]), np.full((1, 2, 16, 12), 50, np.float32)], axis=1)  # score, dx, dy

    assert compare(heatmaps, heatmaps, 1).peaks == 1


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_a_value_that_is_not_finite_fails(damage):
    reference = peaks([(5, 6), (7, 9)])
    heatmaps = reference.copy()
    heatmaps[0, 1, 2, 2] = damage

    with pytest.raises(ExportError, match="no file was written"):
        check_fp16(reference, heatmaps, SPEC, "it differs")


def test_fp32_may_differ_by_rounding_only():
    reference = peaks([(5, 6), (7, 9)])

    check_fp32(reference, peaks([(5, 6), (7.00002, 9)]), SPEC, "it differs")
    with pytest.raises(
        ExportError, match=r"it differs: key points are off by up to 0\.0089 heat-map px \(at most 0\.001\)"
    ):
        check_fp32(reference, peaks([(5, 6), (7.01, 9)]), SPEC, "it differs")
    with pytest.raises(ExportError, match=r"heat maps by 0\.001 of their largest value"):
        check_fp32(reference, reference * np.float32(1.001), SPEC, "it differs")  # no peak has moved


def test_fp16_may_move_a_key_point_by_a_quarter_pixel():
    reference = peaks([(5, 6), (7, 9)], sigma=4)

    check_fp16(reference, peaks([(5, 6), (7.2, 9)], sigma=4), SPEC, "it differs")
    with pytest.raises(ExportError):
        check_fp16(reference, peaks([(5, 6), (7.35, 9)], sigma=4), SPEC, "it differs")


@pytest.mark.parametrize("make", [sample_crops, smooth_crops])
def test_pictures_to_compare_on_are_always_the_same(make):
    first, second = make(SPEC), make(SPEC)

    assert first.shape == (3, 3, 64, 48)
    assert first.dtype == np.float32
    assert np.array_equal(first, second)


def test_pictures_follow_the_colour_order():
    rgb, bgr = (
        sample_crops(SPEC.changed(color_order=order, mean=(0.0,) * 3, std=(1.0,) * 3)) for order in ("rgb", "bgr")
    )

    assert np.array_equal(rgb[:, ::-1], bgr)


def test_nodes_near_the_end_of_fp16_are_found():
    weights = [numpy_helper.from_array(np.float32(factor), name) for name, factor in (("a", 3e4), ("b", 1e-4))]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["crops", "a"], ["x"], "large"), helper.make_node("Mul", ["x", "b"], ["y"], "small")],
        "g",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 4, 4])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)

    assert beyond_fp16(model, np.full((1, 3, 4, 4), 2, np.float32)) == ["large", "small"]  # makes it and reads it
    assert beyond_fp16(model, np.full((1, 3, 4, 4), 1, np.float32)) == []
    assert beyond_fp16(model, np.full((1, 3, 4, 4), 0, np.float32)) == []  # a weight of 3e4 fits
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(7e4), "a"))
    assert beyond_fp16(model, np.full((1, 3, 4, 4), 0, np.float32)) == ["large"]


def test_a_graph_that_cannot_run_is_an_export_error():
    model = onnx.ModelProto()
    model.ir_version = 9

    with pytest.raises(ExportError, match="ONNX Runtime cannot run"):
        run_onnx(model, np.zeros((1, 3, 4, 4), np.float32))


def test_peaks_of_random_weights_may_move_but_values_may_not():
    reference = np.zeros((1, SPEC.num_keypoints, *SPEC.heatmaps.size_hw), np.float32)
    reference[..., 4, 4], reference[..., 9, 9] = 1.0, 0.98
    other = reference.copy()
    other[..., 4, 4] = 0.97

    with pytest.raises(ExportError, match="key points are off"):
        check_fp16(reference, other, SPEC, "it")
    assert check_fp16(reference, other, SPEC, "it", random_weights=True).px > 5
    with pytest.raises(ExportError, match="heat maps by"):
        check_fp16(reference, 0.8 * reference, SPEC, "it", random_weights=True)
    with pytest.raises(ExportError):
        check_fp16(reference, np.nan * reference, SPEC, "it", random_weights=True)


def test_a_network_that_magnifies_its_own_rounding_is_held_to_the_exact_outputs():
    exact = np.ones((1, SPEC.num_keypoints, *SPEC.heatmaps.size_hw), np.float32)
    reference = exact.copy()
    reference[..., 4, 4] += 6e-4  # the network's own rounding
    near, far = exact.copy(), exact.copy()
    near[..., 5, 5] += 3e-4
    far[..., 5, 5] += 2e-3

    with pytest.raises(ExportError):
        check_fp32(reference, near, SPEC, "it")
    assert check_fp32(reference, near, SPEC, "it", exact=lambda: exact).relative == pytest.approx(6e-4, rel=1e-2)
    with pytest.raises(ExportError, match="heat maps by"):
        check_fp32(reference, far, SPEC, "it", exact=lambda: exact)
    with pytest.raises(ExportError):
        check_fp32(reference, np.nan * exact, SPEC, "it", exact=lambda: exact)


def test_single_values_of_random_simcc_vectors_may_differ_and_all_together_may_not():
    spec = ModelSpec("vectors", Input((64, 48)), SimCC(split_ratio=2.0), region=Region())
    reference = [np.random.default_rng(0).normal(size=(1, 17, length)).astype(np.float32) for length in (96, 128)]
    one = [values.copy() for values in reference]
    one[0][0, 0, 0] += 0.5 * np.abs(one[0]).max()
    other = [values[:, ::-1] for values in reference]

    assert check_fp16(reference, one, spec, "it", random_weights=True).relative == pytest.approx(0.5, rel=0.01)
    for refused, random in ((one, False), (other, True)):
        with pytest.raises(ExportError, match=r"off by up to .* input px \(at most .*\), vectors by"):
            check_fp16(reference, refused, spec, "it", random_weights=random)
