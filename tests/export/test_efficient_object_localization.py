"""Efficient Object Localization's network: its bands, how they meet, and the graph that goes to TensorRT."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from edgepose.export.networks.efficient_object_localization import EfficientObjectLocalization  # noqa: E402
from edgepose.export.zoo.find import find_model  # noqa: E402
from edgepose.model.heads.heatmaps import Refine  # noqa: E402
from tests.export.families import forward, graph_of, operators  # noqa: E402

SMALL = {"widths": (8, 12, 16), "blocks": (1, 1, 1), "head_width": 8}


def crops_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, height, width)).astype(np.float32)


@pytest.mark.parametrize("input_hw", [(128, 128), (64, 96), (16, 32)])
def test_heat_maps_are_a_quarter_of_the_crop(input_hw):
    maps = forward(EfficientObjectLocalization(5, **SMALL), crops_of(*input_hw))

    assert maps.shape == (2, 5, input_hw[0] // 4, input_hw[1] // 4)


def test_the_bands_meet_as_one_convolution_on_all_their_channels_would_make_them():
    torch.manual_seed(0)
    network = EfficientObjectLocalization(5, **SMALL).eval()
    crops = torch.from_numpy(crops_of(32, 32))
    pyramid = [crops, functional.avg_pool2d(crops, 2), functional.avg_pool2d(crops, 4)]
    with torch.inference_mode():
        found = [
            functional.interpolate(band(level), size=(8, 8), mode="nearest")
            for band, level in zip(network.bands, pyramid, strict=True)
        ]
        weight = torch.cat([meet.conv.weight / (1 + meet.bn.eps) ** 0.5 for meet in network.meets], dim=1)
        met = functional.conv2d(torch.cat(found, dim=1), weight)
        expected = network.final_layer(network.head(torch.relu(met)))

        maps = network(crops)

    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_each_band_sees_the_crop_at_its_own_resolution():
    network = EfficientObjectLocalization(5, **SMALL)
    seen = []
    for band in network.bands:
        band.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[2:]))

    forward(network, crops_of(64, 64))

    assert [tuple(size) for size in seen] == [(64, 64), (32, 32), (16, 16)]


def test_whole_channels_are_dropped_in_training_only():
    network = EfficientObjectLocalization(5, **SMALL, dropout=0.5)
    crops = torch.from_numpy(crops_of(32, 32))

    assert not torch.equal(network.train()(crops), network(crops))
    assert torch.equal(network.eval()(crops), network(crops))


def test_the_graph_has_static_sizes_and_nothing_exotic():
    graph = graph_of(EfficientObjectLocalization(5, **SMALL), (64, 64))

    assert operators(graph) <= {"Conv", "Relu", "Add", "AveragePool", "Resize", "Constant"}


def test_the_zoos_entry_takes_two_passes_with_weights_of_the_package():
    model = find_model("efficient_object_localization")

    assert isinstance(model.spec.heatmaps.refine, Refine)
    assert model.spec.heatmaps.size_hw == (32, 32)  # as coarse as the paper's first pass
    assert model.embedded is not None
    assert model.embedded.stat().st_size < 4 * 2**20
    assert sum(value.numel() for value in model.build("").parameters()) == model.params
