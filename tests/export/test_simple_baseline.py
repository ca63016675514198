from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgepose.export.checkpoints.state_dict import load_into, read_checkpoint
from edgepose.export.drawn.crops import smooth_crops
from edgepose.export.networks.simple_baseline import SimpleBaseline
from edgepose.export.pipeline import randomize
from edgepose.export.zoo.find import models
from tests.export.golden import golden_heatmaps, golden_state
from tests.makers import make_spec
from tests.shared_data import needs_shared

RELATIVE = 1e-4  # the reference agrees with itself, built by other people, to 1e-5


def run_on_meta(network: nn.Module, input_hw: tuple[int, int]) -> tuple[torch.Tensor, int]:
    """The heat maps of one crop, and the operations of its convolutions, a multiply-add being two."""
    flops = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal flops
        pixels = (inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output).shape[2:].numel()
        flops += 2 * layer.weight.numel() * pixels

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    return network(torch.zeros(1, 3, *input_hw, device="meta")), flops


@needs_shared
@pytest.mark.parametrize(
    ("name", "origin", "caffe_style"),
    [("ms_res50", "original", False), ("ms_res50_caffe", "original", True), ("mm_res50", "mmpose_v1", False)],
)
def test_computes_what_the_reference_implementation_computes(name, origin, caffe_style, tmp_path):
    path = tmp_path / "reference.pth"
    torch.save(golden_state(name), path)
    crops, expected = golden_heatmaps(name)
    network = SimpleBaseline(50, 17, caffe_style=caffe_style).eval()

    state, found_origin = read_checkpoint(path)
    load_into(network, state, path=path, label=name)
    with torch.no_grad():
        heatmaps = network(torch.from_numpy(crops)).numpy()

    assert found_origin == origin
    assert np.abs(heatmaps - expected).max() / np.abs(expected).max() < RELATIVE


@needs_shared
def test_has_the_reference_implementations_keys_in_their_order():
    with torch.device("meta"):
        network = SimpleBaseline(50, 17)

    ours = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}

    assert ours == {key: list(tensor.shape) for key, tensor in golden_state("ms_res50").items()}


# Counted by running the published model files: entries, entries without num_batches_tracked, parameters.
@pytest.mark.parametrize(
    ("depth", "entries", "without_counters", "params"),
    [(50, 338, 282, 33_999_697), (101, 644, 537, 52_991_825), (152, 950, 792, 68_635_473)],
)
def test_deeper_networks_have_the_published_size(depth, entries, without_counters, params):
    with torch.device("meta"):
        network = SimpleBaseline(depth, 17)

    keys = list(network.state_dict())

    assert len(keys) == entries
    assert sum(not key.endswith("num_batches_tracked") for key in keys) == without_counters
    assert sum(weight.numel() for weight in network.parameters()) == params


@pytest.mark.parametrize("depth", [18, 34])
def test_basic_blocks_have_the_names_of_torchvisions_resnet(depth):
    with torch.device("meta"):
        keys = set(SimpleBaseline(depth, 17).state_dict())

    last = {18: 1, 34: 2}[depth]
    assert {f"layer4.{last}.conv2.weight", f"layer4.{last}.bn2.bias", "layer2.0.downsample.1.weight"} <= keys
    assert "layer1.0.downsample.0.weight" not in keys  # 64 channels in and out, stride 1
    assert not any(".conv3." in key for key in keys)


def test_styles_differ_in_result_but_not_in_keys():
    small = {"planes": (4, 4, 4, 4), "deconv_filters": 4}
    pytorch_style, caffe_style = (SimpleBaseline(50, 2, caffe_style=caffe, **small) for caffe in (False, True))
    crops = torch.from_numpy(smooth_crops(make_spec()))

    randomize(pytorch_style, make_spec())
    caffe_style.eval().load_state_dict(pytorch_style.state_dict())
    with torch.no_grad():
        difference = (pytorch_style(crops) - caffe_style(crops)).abs().max() / pytorch_style(crops).abs().max()

    assert difference > 0.1


@pytest.mark.parametrize("name", [f"simplebaseline_resnet{depth}" for depth in (18, 34, 50, 101, 152)])
def test_the_zoo_tells_the_size_and_cost_of_each_network(name):
    for dataset in ("coco", "mpii"):
        entries = [model for model in models() if (model.name, model.dataset) == (name, dataset)]
        with torch.device("meta"):
            network = entries[0].build("pytorch")

        heatmaps, flops = run_on_meta(network, entries[0].spec.image.size_hw)

        assert heatmaps.shape == (1, entries[0].spec.num_maps, *entries[0].spec.heatmaps.size_hw)
        for model in entries:  # the same network at several sizes: each convolution costs as many times more
            area = np.prod(model.spec.image.size_hw) / np.prod(entries[0].spec.image.size_hw)
            assert model.gflops == pytest.approx(flops * area / 1e9, abs=0.0051)
            assert model.params == sum(weight.numel() for weight in network.parameters())
