from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from edgepose.export.checkpoints.state_dict import load_into, read_checkpoint
from edgepose.export.networks.linear_lifter import LinearLifter
from edgepose.export.networks.temporal_convolutions import TemporalConvolutions
from tests.export.golden import golden_state
from tests.shared_data import SHARED, needs_shared

RELATIVE = 1e-4  # the reference agrees with itself, built by other people, to 1e-5

LIFTERS = {
    "vp3d_27": lambda: TemporalConvolutions(17, 17),
    "vp3d_27_causal": lambda: TemporalConvolutions(17, 17, causal=True),
    "martinez": LinearLifter,
}


@needs_shared
@pytest.mark.parametrize("name", LIFTERS)
def test_computes_what_the_reference_implementation_computes(name):
    network = LIFTERS[name]().eval()
    network.load_state_dict(golden_state(name))
    with np.load(SHARED / "golden" / f"{name}.npz") as stored:
        points = np.random.default_rng(0).standard_normal(tuple(stored["input_shape"])).astype(np.float32)
        expected = stored["xyz"]

    with torch.no_grad():
        xyz = network(torch.from_numpy(points.reshape(1, network.frames, -1, 2))).numpy()

    assert np.abs(xyz.ravel() - expected.ravel()).max() / np.abs(expected).max() < RELATIVE


@needs_shared
@pytest.mark.parametrize("name", LIFTERS)
def test_has_the_reference_implementations_keys(name):
    with torch.device("meta"):
        network = LIFTERS[name]()

    shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}

    assert shapes == json.loads((SHARED / "golden" / f"{name}.keys.json").read_text())


def dilated(network: TemporalConvolutions, points: torch.Tensor) -> torch.Tensor:
    """The network as published: dilated convolutions over every frame (Pavllo et al., CVPR 2019, figure 2)."""
    values = points.flatten(2).transpose(1, 2)
    relu, conv1d = torch.relu, torch.nn.functional.conv1d

    def norm(layer: torch.nn.Module, values: torch.Tensor) -> torch.Tensor:
        return layer(values.unsqueeze(3)).squeeze(3)

    values = relu(norm(network.expand_bn, conv1d(values, network.expand_conv.weight)))
    dilation = network.widths[0]
    for index, width in enumerate(network.widths[1:]):
        reach = (width - 1) * dilation
        kept = values[:, :, reach:] if network.causal else values[:, :, reach // 2 : values.shape[2] - reach // 2]
        inner = conv1d(values, network.layers_conv[2 * index].weight, dilation=dilation)
        inner = relu(norm(network.layers_bn[2 * index], inner))
        inner = relu(norm(network.layers_bn[2 * index + 1], conv1d(inner, network.layers_conv[2 * index + 1].weight)))
        values = kept + inner
        dilation *= width
    return conv1d(values, network.shrink.weight, network.shrink.bias).reshape(len(points), -1, 3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [(3,), (3, 3, 3), (3, 3, 3, 3), (3, 5, 3), (3, 3, 3, 3, 3)])
def test_strides_give_what_dilations_give_of_any_depth(widths, causal):
    torch.manual_seed(0)
    network = TemporalConvolutions(5, 4, widths, causal=causal, channels=8).eval()
    points = torch.randn(2, network.frames, 5, 2)

    with torch.no_grad():
        ours, published = network(points), dilated(network, points)

    assert ours.shape == (2, 4, 3)
    assert torch.allclose(ours.flatten(1), published.flatten(1), atol=1e-5)  # sums of 24 products in another order


def test_widths_must_be_odd():
    with pytest.raises(ValueError, match="odd"):
        TemporalConvolutions(17, 17, (3, 4))


def mmpose_name(key: str) -> str:
    """What mmpose's TCN and TemporalRegressionHead call VideoPose3D's `key`."""
    kind, _, rest = key.partition(".")
    if kind == "shrink":
        return f"head.conv.{rest}"
    group, part = kind.split("_")
    if group == "expand":
        return f"backbone.expand_conv.{part}.{rest}"
    index, _, rest = rest.partition(".")
    return f"backbone.tcn_blocks.{int(index) // 2}.conv{int(index) % 2 + 1}.0.{part}.{rest}"


@pytest.mark.parametrize("holder", ["model_pos", "mmpose_v1", "mmpose_v0"])
def test_published_containers_are_read(holder, tmp_path):
    network = TemporalConvolutions(5, 4, (3, 3, 3), channels=8)
    state = network.state_dict()
    path = tmp_path / "published.bin"
    if holder == "model_pos":  # as VideoPose3D's run.py saves it
        random_state = np.random.RandomState(1234)
        torch.save({"epoch": 80, "lr": 1e-3, "random_state": random_state, "optimizer": {}, "model_pos": state}, path)
    else:
        renamed = {mmpose_name(key): value for key, value in state.items()}
        if holder == "mmpose_v0":
            renamed = {key.replace("head.conv", "keypoint_head.conv"): value for key, value in renamed.items()}
            renamed["traj_backbone.expand_conv.conv.weight"] = torch.zeros(1)
        torch.save({"meta": {}, "state_dict": renamed}, path)

    found, origin = read_checkpoint(path)

    load_into(network, found, path=path, label="VideoPose3D")
    assert set(found) == set(state)
    assert origin == {"model_pos": "original"}.get(holder, holder)
    assert all(torch.equal(found[key], value.float()) for key, value in state.items() if value.is_floating_point())


@pytest.mark.parametrize(("widths", "frames", "millions"), [(3, 27, 8.56), (4, 81, 12.75), (5, 243, 16.95)])
def test_networks_have_the_published_size(widths, frames, millions):
    """The parameters that Pavllo et al. give for each receptive field."""
    with torch.device("meta"):
        network = TemporalConvolutions(17, 17, (3,) * widths)

    assert network.frames == frames
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(millions * 1e6, abs=5e3)
