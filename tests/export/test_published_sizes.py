"""Sizes without golden outputs: the networks against a second writing of them, itself held to the golden outputs.

The second writing (published.py) takes every width, depth and number of key points from the state dict, so that one
golden output of a family speaks for its other sizes; published counts of entries and parameters, which the families'
own tests compare, say that the keys are those of the published files.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgepose.export.zoo.find import models
from edgepose.export.zoo.model import Model
from tests.export import published
from tests.export.families import forward, relative_difference, without_prefixes
from tests.export.golden import golden_heatmaps, golden_state, golden_weight
from tests.shared_data import needs_shared

SECOND: dict[str, Callable[[published.State, torch.Tensor], torch.Tensor]] = {
    "leo_hrnet_w32": published.hrnet,
    "mm_cpm": published.cpm,
    "mm_hourglass52": published.hourglass52,
    "bp_hg2": published.bearpaw,
    "hgp_2": published.princeton,
}


def random_crops(input_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, *input_hw)).astype(np.float32)


def second(golden: str, state: published.State, crops: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(SECOND[golden](state, torch.from_numpy(crops)))


def with_golden_weights(model: Model, style: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    with torch.device("meta"):
        network = model.build(style)
    state = {key: golden_weight(key, list(tensor.shape)) for key, tensor in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network, state


@needs_shared
@pytest.mark.parametrize("golden", SECOND)
def test_the_second_writing_computes_what_the_published_implementation_does(golden):
    crops, expected = golden_heatmaps(golden)
    if crops.shape[1] != 3:  # princeton's network took the same pictures as NHWC
        crops = random_crops((256, 256))

    heatmaps = second(golden, without_prefixes(golden_state(golden)), crops)

    assert relative_difference(heatmaps, expected) < 1e-5


@pytest.mark.parametrize(
    ("name", "dataset", "input_hw", "decoder", "style", "golden"),
    [
        ("hrnet_w32", "mpii", (256, 256), "quarter", "pytorch", "leo_hrnet_w32"),
        ("hrnet_w48", "coco", (384, 288), "quarter", "pytorch", "leo_hrnet_w32"),
        ("hrnet_w48", "coco", (256, 192), "udp-combined", "pytorch", "leo_hrnet_w32"),
        ("cpm", "coco", (384, 288), "quarter", "pytorch", "mm_cpm"),
        ("cpm", "mpii", (368, 368), "quarter", "pytorch", "mm_cpm"),
        ("hourglass52", "mpii", (384, 384), "quarter", "pytorch", "mm_hourglass52"),
        ("stacked_hourglass_1", "mpii", (256, 256), "quarter", "bearpaw", "bp_hg2"),
        ("stacked_hourglass_8", "mpii", (256, 256), "quarter", "bearpaw", "bp_hg2"),
        ("stacked_hourglass_1", "mpii", (256, 256), "quarter", "princeton", "hgp_2"),
        ("stacked_hourglass_8", "mpii", (256, 256), "quarter", "princeton", "hgp_2"),
    ],
)
def test_other_sizes_compute_what_the_second_writing_does(name, dataset, input_hw, decoder, style, golden):
    wanted = (name, dataset, input_hw, decoder)
    (model,) = (m for m in models() if (m.name, m.dataset, m.spec.image.size_hw, m.spec.decoder) == wanted)
    network, state = with_golden_weights(model, style)
    crops = random_crops((128, 96) if input_hw[0] > input_hw[1] else (128, 128))  # weights are of no size

    heatmaps = forward(network, crops)

    assert relative_difference(heatmaps, second(golden, state, crops)) < 1e-5
    assert np.abs(heatmaps).max() > 1e-3
