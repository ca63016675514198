from __future__ import annotations

import numpy as np
import pytest

from edgepose.calibration.biases import correct_biases
from edgepose.calibration.qdq import quantisable_layers, rounded
from edgepose.calibration.statistics import channel_statistics
from edgepose.export.graph.edit import arrays_of
from tests.calibration.graphs import GraphMaker, prepare, run


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (4, 2), (6, 3)])
def test_an_int8_layer_has_the_mean_output_of_its_fp32_weights(channels, groups):
    g = GraphMaker()
    x = g.conv("crops", "layer", (12, channels // groups, 3, 3), group=groups)
    g.conv(g.node("Relu", [x], "relu"), "heatmaps", (2, 12, 1, 1))
    prepared = prepare(g.model(["n", channels, 16, 16], "heatmaps"))
    crops = [np.full((1, channels, 16, 16), 1.7, np.float32) * np.arange(1, channels + 1).reshape(1, -1, 1, 1)]
    crops = [crop.astype(np.float32) for crop in crops]
    means = {name: np.median(seen.mean, axis=0) for name, seen in channel_statistics(prepared, crops).items()}

    corrected = correct_biases(prepared, quantisable_layers(prepared), means)

    (wanted,) = run(prepared, crops[0], ["layer"])
    bias = arrays_of(corrected)["layer.folded_bias"].reshape(1, -1, 1, 1)
    weight = rounded(arrays_of(prepared)["layer.weight"])
    by_group = weight.reshape(groups, -1, channels // groups, 9).sum(axis=3)  # the inputs are constant over a window
    inputs = crops[0][0, :, 0, 0].reshape(groups, 1, -1)
    np.testing.assert_allclose(
        (by_group * inputs).sum(axis=2).ravel() + bias.ravel(), wanted[0, :, 0, 0], rtol=1e-4, atol=1e-4
    )


def test_weights_stay_as_they_were():
    g = GraphMaker()
    g.conv(g.node("Relu", [g.conv("crops", "layer", (4, 3, 1, 1))], "relu"), "heatmaps", (2, 4, 1, 1))
    prepared = prepare(g.model(["n", 3, 8, 8], "heatmaps"))

    corrected = correct_biases(prepared, ["layer"], {"crops": np.ones(3)})

    np.testing.assert_array_equal(arrays_of(corrected)["layer.folded_weight"], arrays_of(prepared)["layer.weight"])
    assert np.abs(arrays_of(corrected)["layer.folded_bias"]).max() > 0
