"""ViTPose's four checkpoint layouts, made from one network's weights."""

from __future__ import annotations

import re

import pytest
import torch
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.errors import CheckpointError
from edgepose.export.checkpoints.state_dict import read_checkpoint
from edgepose.export.checkpoints.vitpose import EXPERTS, experts_of, is_vitpose, to_original
from edgepose.export.networks.vitpose import ViTPose
from edgepose.export.zoo.identify import identify

PART = 96  # channels of a block's output that come from the expert


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Of a ViTPose-S cut down to two blocks, classic decoder."""
    torch.manual_seed(0)
    network = ViTPose("s", 17)
    network.blocks = network.blocks[:2]
    return {key: torch.randn(tensor.shape) for key, tensor in network.state_dict().items()}


def renamed(state: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    result = {}
    for key, tensor in state.items():
        for old, new in names.items():
            key = re.sub(old, new, key)
        result[key] = tensor
    return result


def as_mmpose(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As mmpose v1 names it: mmpretrain's transformer, without a class token."""
    names = {
        r"^blocks\.": "layers.",
        r"\.norm": ".ln",
        r"\.mlp\.fc1": ".ffn.layers.0.0",
        r"\.mlp\.fc2": ".ffn.layers.1",
        r"^last_norm": "ln1",
        r"patch_embed\.proj": "patch_embed.projection",
    }
    positions = {"pos_embed": state["pos_embed"][:, 1:] + state["pos_embed"][:, :1]}
    return renamed({**state, **positions}, names)


def as_transformers(state: dict[str, torch.Tensor], experts: str = "") -> dict[str, torch.Tensor]:
    names = {
        r"^blocks\.": "encoder.layer.",
        r"\.norm1": ".layernorm_before",
        r"\.norm2": ".layernorm_after",
        r"\.attn\.proj": ".attention.output.dense",
        r"^last_norm": "layernorm",
        r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
        r"^pos_embed": "embeddings.position_embeddings",
        r"^deconv_layers\.0": "deconv1",
        r"^deconv_layers\.1": "batchnorm1",
        r"^deconv_layers\.3": "deconv2",
        r"^deconv_layers\.4": "batchnorm2",
        r"^final_layer": "conv",
        r"\.mlp\.experts\.": f".mlp.experts.{experts}",
    }
    result = renamed(state, names)
    for key in [key for key in result if ".attn.qkv." in key]:
        for name, part in zip(("query", "key", "value"), result.pop(key).chunk(3), strict=True):
            result[key.replace(".attn.qkv.", f".attention.attention.{name}.")] = part
    return result


def as_plus(state: dict[str, torch.Tensor], expert: int) -> dict[str, torch.Tensor]:
    """As ViTPose+ stores it, with this state as one of its experts."""
    result = dict(state)
    for key in [key for key in state if ".mlp.fc2." in key]:
        shared, own = state[key][:-PART], state[key][-PART:]
        result[key] = shared
        for index in range(len(EXPERTS)):
            result[key.replace("fc2", f"experts.{index}")] = own if index == expert else torch.randn(own.shape)
    for key in [key for key in state if key.startswith(("deconv_layers", "final_layer"))]:
        for index in range(len(EXPERTS) - 1):
            mine = index == expert - 1
            result[f"associate_keypoint_heads.{index}.{key}"] = state[key] if mine else torch.randn(state[key].shape)
        if expert:
            result[key] = torch.randn(state[key].shape)
    return result


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(wanted)
    for key, tensor in wanted.items():
        assert torch.equal(found[key], tensor), key


def test_original_names_stay(state):
    assert is_vitpose(state)
    assert experts_of(state) == 0
    assert_same(to_original(state), state)


def test_mmpose_names_are_read(state):
    found = to_original(as_mmpose(state))

    assert is_vitpose(as_mmpose(state))
    together = {**state, "pos_embed": found["pos_embed"]}
    assert_same(found, together)
    positions = found["pos_embed"][:, 1:] + found["pos_embed"][:, :1]
    assert torch.equal(positions, state["pos_embed"][:, 1:] + state["pos_embed"][:, :1])  # what the network adds


def test_transformers_names_are_read(state):
    assert is_vitpose(as_transformers(state))
    assert_same(to_original(as_transformers(state)), state)


@pytest.mark.parametrize("expert", [0, 1, 5])
def test_an_expert_and_its_head_are_chosen(state, expert):
    plus = as_plus(state, expert)

    assert experts_of(plus) == len(EXPERTS)
    assert_same(to_original(plus, expert=expert), state)


@pytest.mark.parametrize("experts", ["", "experts."])  # transformers' releases differ in this
def test_an_expert_of_transformers_files_is_chosen(state, experts):
    plus = {key: tensor for key, tensor in as_plus(state, 0).items() if not key.startswith("associate")}

    assert experts_of(as_transformers(plus, experts)) == len(EXPERTS)
    assert_same(to_original(as_transformers(plus, experts)), state)


@pytest.mark.parametrize("expert", [-1, 6])
def test_an_expert_that_is_not_there_is_refused(state, expert):
    with pytest.raises(ValueError, match=rf"6 experts \(coco, aic, .*\), and none with index {expert}: choose"):
        to_original(as_plus(state, 0), expert=expert)
    with pytest.raises(ValueError, match="has none"):
        to_original(state, expert=1)


def test_positions_of_another_input_are_interpolated(state):
    rows = torch.arange(16.0).repeat_interleave(12)
    smooth = {**state, "pos_embed": torch.cat([torch.zeros(1), rows]).reshape(1, -1, 1).expand(1, 193, 384)}

    positions = to_original(smooth, grid_hw=(24, 18))["pos_embed"]

    assert positions.shape == (1, 24 * 18 + 1, 384)
    grid = positions[0, 1:, 0].reshape(24, 18)
    middle = (torch.arange(24.0) + 0.5) * 16 / 24 - 0.5  # where the new patches lie among the old rows
    assert torch.allclose(grid[3:-3, 0], middle[3:-3], atol=0.06)  # nearly straight, but at the border
    assert torch.allclose(grid[:, 0], grid[:, -1], atol=1e-5)


def test_positions_of_no_known_size_are_refused(state):
    with pytest.raises(ValueError, match="position embedding of 100 patches"):
        to_original({**state, "pos_embed": torch.zeros(1, 100, 384)})


def small_state() -> dict[str, torch.Tensor]:
    """Of the whole ViTPose-S, without values: what tells one network from another is names and first lengths."""
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in ViTPose("s", 17).state_dict().items()}
    return {key: torch.zeros(()).expand(shape[:2]) for key, shape in shapes.items()}


@pytest.mark.parametrize(("dataset", "channels"), [(None, 17), ("coco", 17), ("wholebody", 133), ("aic", 14)])
def test_a_vitpose_plus_checkpoint_is_recognised_with_the_head_of_its_data_set(dataset, channels, tmp_path):
    plus, zero = as_plus(small_state(), 0), torch.zeros(())
    for index, points in enumerate((14, 16, 17, 17, 133)):
        plus[f"associate_keypoint_heads.{index}.final_layer.weight"] = zero.expand(points, 256)
    stored = {
        key if key.startswith("associate") else ("keypoint_head." if "_layer" in key else "backbone.") + key: tensor
        for key, tensor in plus.items()
    }
    torch.save({"state_dict": stored}, tmp_path / "vitpose+_small.pth")

    found = identify(tmp_path / "vitpose+_small.pth", dataset=dataset).model

    assert (found.name, found.dataset) == ("vitpose_s", dataset or "coco")
    assert found.spec.num_keypoints == channels


@pytest.mark.parametrize("options", [[], ["--model", "vitpose_s"]])
def test_a_data_set_whose_expert_a_checkpoint_lacks_is_one_line(options, state, tmp_path):
    plus = {key: tensor for key, tensor in as_plus(state, 0).items() if ".experts.5." not in key}
    torch.save(plus, tmp_path / "vitpose+.pth")
    arguments = ["export", *options, "--weights", str(tmp_path / "vitpose+.pth"), "--dataset", "wholebody"]

    result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith(
        "vitpose+.pth: it has 5 experts (coco, aic, mpii, ap10k, apt36k), and none with index 5 (wholebody): choose "
        "another --dataset"
    )


@pytest.mark.parametrize("experts", [False, True])  # ViTPose's, and ViTPose+'s of transformers, which has one head
def test_a_data_set_whose_head_a_checkpoint_lacks_is_one_line(experts, tmp_path):
    state = small_state()
    stored = {key: tensor for key, tensor in as_plus(state, 0).items() if not key.startswith("associate")}
    torch.save(stored if experts else state, tmp_path / "vit.pth")

    with pytest.raises(CheckpointError, match=r"17 output channels, but wholebody has 133: .* fits --dataset coco$"):
        identify(tmp_path / "vit.pth", dataset="wholebody")


def test_an_attention_without_its_keys_is_told_where_the_network_is_loaded(state):
    found = as_transformers(state)
    lacking = next(key for key in found if key.endswith("attention.key.weight"))

    assert "blocks.0.attn.qkv.weight" not in to_original({k: v for k, v in found.items() if k != lacking})


def test_safetensors_of_transformers_are_read(state, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    prefixed = {
        ("head." if key.startswith(("deconv", "batchnorm", "conv")) else "backbone.") + key: tensor.contiguous()
        for key, tensor in as_transformers(state).items()
    }
    safetensors.save_file(prefixed, tmp_path / "model.safetensors")

    found, _ = read_checkpoint(tmp_path / "model.safetensors")

    assert_same(to_original(found), {k: v.float() if v.is_floating_point() else v for k, v in state.items()})


def test_a_damaged_safetensors_file_is_one_line(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)

    with pytest.raises(CheckpointError, match="not a safetensors file, or it is damaged"):
        read_checkpoint(tmp_path / "model.safetensors")
