from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgepose.calibration.ranges import BINS, METHODS, Histogram, Votes, find_ranges
from edgepose.errors import CalibrationError
from tests.calibration.graphs import GraphMaker, pose_network, run, toy_crops

VALUES = {
    "normal": np.random.default_rng(0).normal(0, 3, 40_000).astype(np.float32),
    "half": np.maximum(np.random.default_rng(1).normal(0, 1, 40_000), 0).astype(np.float32),
    "outlier": np.append(np.random.default_rng(2).normal(0, 1, 40_000), 500).astype(np.float32),
    "tiny": np.full(100, 1e-30, np.float32),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_a_histogram_counts_every_magnitude_as_numpy_does(values):
    histogram = Histogram(values)

    wanted, _ = np.histogram(np.abs(values), BINS, (0, histogram.top))
    assert histogram.counts.sum() == values.size
    assert histogram.top / 2 <= histogram.largest < histogram.top
    np.testing.assert_array_equal(histogram.counts, wanted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_a_range_lies_within_what_was_seen(values, method):
    found = Histogram(values).range_by(method)

    assert 0 < found <= np.abs(values).max()


def test_minmax_is_the_largest_magnitude():
    assert Histogram(np.array([1.0, -2.5, 2.0], np.float32)).range_by("minmax") == 2.5


def test_percentile_is_numpys_to_a_bin():
    values = VALUES["normal"]
    histogram = Histogram(values)

    found = histogram.range_by("percentile")

    assert abs(found - np.quantile(np.abs(values), 0.9999)) <= 2 * histogram.top / BINS


def test_mse_range_makes_the_least_error_of_all_ranges():
    values = VALUES["outlier"][:-1]  # without the outlier

    def error(magnitude):
        step = magnitude / 127
        return ((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).mean()

    found = Histogram(values).range_by("mse")

    best = min(error(magnitude) for magnitude in np.linspace(0.5, np.abs(values).max(), 400))
    assert error(found) <= 1.03 * best  # candidates are 3 % apart, and values stand for their bin's centre


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_outlier_in_forty_thousand_is_clipped(method):
    assert Histogram(VALUES["outlier"]).range_by(method) < 50


@pytest.mark.parametrize("wild", [0, 10, 200])
def test_wild_crops_do_not_stretch_the_range_though_they_be_many(wild):
    votes = Votes()
    for value in [*np.linspace(1, 2, 90), *[300.0] * wild]:
        votes.add(value)

    assert 1.7 < votes.winner() < 2.05


def test_the_winner_is_right_to_two_per_cent():
    for value in np.geomspace(1e-6, 1e6, 50):
        votes = Votes()
        votes.add(value)

        assert votes.winner() == pytest.approx(value, rel=0.022)


def test_ranges_of_a_network_are_those_of_its_tensors():
    model, crops = pose_network(), toy_crops()
    tensors = ["crops", "stem_relu", "sum_relu"]

    found = find_ranges(model, [crop[None] for crop in crops], tensors, "minmax")

    values = dict(zip(tensors, [crops, *run(model, crops, tensors[1:])], strict=True))
    wanted = {name: np.sort(np.abs(value).max(axis=(1, 2, 3)))[2] for name, value in values.items()}  # 3 of 4 crops
    assert found == pytest.approx(wanted, rel=0.022)


def test_the_order_of_the_crops_does_not_matter():
    model, crops = pose_network(), [crop[None] for crop in toy_crops(6)]

    forwards = find_ranges(model, crops, ["stem_relu"], "mse")

    assert forwards == find_ranges(model, crops[::-1], ["stem_relu"], "mse")


def test_a_tensor_of_zeros_has_a_range():
    g = GraphMaker()
    g.node("Relu", ["crops"], "heatmaps")
    model = g.model(["n", 3, 4, 4], "heatmaps")

    assert find_ranges(model, [np.full((1, 3, 4, 4), -1, np.float32)], ["heatmaps"], "mse") == {"heatmaps": 1.0}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(value):
    model = pose_network()
    for item in model.graph.initializer:
        if item.name == "down.weight":
            damaged = onnx.numpy_helper.to_array(item).copy()
            damaged[0] = value
            item.CopyFrom(onnx.numpy_helper.from_array(damaged, item.name))

    with pytest.raises(CalibrationError, match=r"down.* not finite"):
        find_ranges(model, [toy_crops(1)], ["stem_relu", "down"], "mse")


def test_no_crops_are_an_error():
    with pytest.raises(CalibrationError, match="at least one"):
        find_ranges(pose_network(), [], ["stem_relu"], "mse")
