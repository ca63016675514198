from __future__ import annotations

import numpy as np
import pytest

from edgepose.calibration.equalise import channel_groups, find_factors, scale_channels
from edgepose.calibration.statistics import channel_statistics
from edgepose.export.graph.fold import fold
from tests.calibration.graphs import GraphMaker, mobile_network, pose_network, run, toy_crops


def factors_on(folded, crops):
    return find_factors(folded, channel_statistics(folded, [crop[None] for crop in crops]))


@pytest.mark.parametrize("network", [pose_network, mobile_network])
def test_scaled_channels_leave_the_heatmaps_as_they_were(network):
    folded, crops = fold(network()), toy_crops()
    factors = factors_on(folded, crops)

    scaled = scale_channels(folded, factors)

    assert any((values > 1.5).any() for values in factors.values())
    wanted, found = run(folded, crops)[0], run(scaled, crops)[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("network", [pose_network, mobile_network])
def test_each_tensor_is_multiplied_by_its_factors(network):
    folded, crops = fold(network()), toy_crops()
    factors = factors_on(folded, crops)
    names = list(factors)

    scaled = scale_channels(folded, factors)

    for name, before, after in zip(names, run(folded, crops, names), run(scaled, crops, names), strict=True):
        if "clip" in name or name in ("expand", "depthwise"):
            continue  # before the limit, and at it, on the same crops: covered by the heat maps
        expected = before * factors[name].reshape(1, -1, 1, 1)
        np.testing.assert_allclose(after, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_channels_end_more_alike():
    folded, crops = fold(mobile_network()), toy_crops()
    factors = factors_on(folded, crops)

    def spread(model):
        (values,) = run(model, crops, ["expand_clip"])
        sizes = values.max(axis=(0, 2, 3))
        return sizes.max() / sizes.min()

    assert spread(scale_channels(folded, factors)) < spread(folded) / 4


def test_tensors_that_are_added_share_their_factors():
    folded, crops = fold(pose_network()), toy_crops()

    factors = factors_on(folded, crops)

    np.testing.assert_array_equal(factors["second_bn"], factors["pool"])
    np.testing.assert_array_equal(factors["second_bn"], factors["sum_relu"])


def test_inputs_outputs_and_what_other_operators_read_are_left_alone():
    g = GraphMaker()
    first = g.conv("crops", "first", (4, 3, 1, 1))
    gate = g.node("Sigmoid", [g.conv(first, "second", (4, 4, 1, 1))], "gate")
    g.conv(g.node("Mul", [first, gate], "gated"), "heatmaps", (2, 4, 1, 1))
    model = g.model(["n", 3, 8, 8], "heatmaps")

    assert channel_groups(model) == {}


def test_a_channel_that_is_always_zero_does_no_harm():
    g = GraphMaker()
    weight = g.rng.normal(0, 1, (4, 3, 1, 1))
    weight[2] = 0
    x = g.node("Conv", ["crops", g.weight("first.weight", weight)], "first")
    g.conv(g.node("Relu", [x], "relu"), "heatmaps", (2, 4, 1, 1))
    folded = fold(g.model(["n", 3, 8, 8], "heatmaps"))

    factors = factors_on(folded, np.ones((1, 3, 8, 8), np.float32))

    assert all(np.isfinite(values).all() for values in factors.values())
    assert max(values.max() for values in factors.values()) <= 64
