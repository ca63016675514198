from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.errors import CheckpointError
from edgepose.export.bottom_up import export_bottom_up_model, without_later_stages
from edgepose.export.checkpoints.fingerprint import recognize
from edgepose.export.checkpoints.state_dict import StateDict, fits, read_checkpoint
from edgepose.export.networks.lightweight_openpose import LightweightOpenPose
from edgepose.export.zoo.bottom_up import BottomUpModel, bottom_up_models, find_bottom_up_model
from edgepose.export.zoo.model import ChoiceError
from edgepose.files import sha256_of
from edgepose.model.passport import read_passport
from edgepose.model.spec import ModelSpec

NAMES = [model.name for model in bottom_up_models()]


def zeros_of(model: BottomUpModel) -> StateDict:
    """One zero seen through each tensor's shape: a file of 60 million parameters is a few kilobytes."""
    with torch.device("meta"):
        wanted = model.build().state_dict()
    zeros = {dtype: torch.zeros((), dtype=dtype) for dtype in (torch.float32, torch.int64)}
    return {key: zeros[tensor.dtype].expand(tensor.shape) for key, tensor in wanted.items()}


def mmpose(state: StateDict, head: str) -> StateDict:
    heads = ("final_layer.", "final_layers.", "deconv_layers.")
    return {f"{head if key.startswith(heads) else 'backbone.'}{key}": value for key, value in state.items()}


LAYOUTS = {
    "plain": lambda state: state,
    "training": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "iter": 370000},
    "mmpose v0": lambda state: {"meta": {}, "state_dict": mmpose(state, "keypoint_head.")},
    "mmpose v1": lambda state: {"meta": {}, "state_dict": mmpose(state, "head.")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*meta parameter")
def test_a_checkpoint_is_told_by_its_keys_in_every_layout(name, layout, tmp_path: Path):
    if name.startswith("lightweight") and layout.startswith("mmpose"):
        pytest.skip("mmpose has no lightweight OpenPose")
    model = find_bottom_up_model(name)
    torch.save(LAYOUTS[layout](zeros_of(model)), tmp_path / "model.pth")

    state, _ = read_checkpoint(tmp_path / "model.pth")

    assert recognize(state).name == name
    with torch.device("meta"):
        assert fits(model.build(), state)


@pytest.mark.parametrize("model", bottom_up_models(), ids=NAMES)
def test_specs_say_what_the_networks_make(model):
    with torch.device("meta"):
        outputs = model.build().eval()(torch.empty(1, *model.spec.inputs["images"]))

    assert [tuple(maps.shape[1:]) for maps in outputs] == list(model.spec.outputs.values())
    assert ModelSpec.from_json(model.spec.to_json()) == model.spec


def test_another_input_size_is_named_and_changes_the_maps():
    spec = find_bottom_up_model("lightweight_openpose").at((368, 656))

    assert spec.name == "lightweight_openpose_368x656"
    assert spec.outputs == {"heatmaps": (19, 46, 82), "pafs": (38, 46, 82)}
    with pytest.raises(ChoiceError, match="multiples of 32, not 500x512"):
        find_bottom_up_model("hrnet_w32_ae").at((500, 512))


def test_refinement_stages_that_are_not_used_are_left_out():
    with torch.device("meta"):
        three, one = LightweightOpenPose(refinements=3), LightweightOpenPose(refinements=1)

    left = without_later_stages(three.state_dict(), one)

    assert list(left) == list(one.state_dict())


@pytest.mark.parametrize(
    ("name", "meta", "told"),
    [
        ("hrnet_w32_coco_512x512_udp-91663bf9_20220517.pth", {}, "trained with UDP by its name"),
        ("mine.pth", {"config": "test_cfg=dict(\n    flip_test=True,\n    use_udp=True)"}, "UDP by its configuration"),
        ("mine.pth", {"cfg": "codec = dict(type='AssociativeEmbedding', use_udp=True)"}, "UDP by its configuration"),
        ("mine.pth", {"config": "use_udp=False", "cfg": 7}, "no UDP"),
        ("mine.pth", {}, "no UDP"),
    ],
)
def test_a_checkpoint_of_udp_is_refused_by_what_tells_it(tmp_path, name, meta, told):
    torch.save({"meta": meta, "state_dict": {"backbone.conv1.weight": torch.zeros(2)}}, tmp_path / name)
    told = r"(?s)^(?!.*UDP)" if told == "no UDP" else told  # read, and found to be no such network

    with pytest.raises(CheckpointError, match=told):
        export_bottom_up_model(find_bottom_up_model("hrnet_w32_ae"), tmp_path, weights=str(tmp_path / name))


def test_a_published_file_of_udp_is_refused_under_another_name(tmp_path, monkeypatch):
    torch.save({"state_dict": {"conv1.weight": torch.zeros(2)}}, tmp_path / "mine.pth")
    monkeypatch.setattr("edgepose.export.bottom_up.UDP_FILES", (sha256_of(tmp_path / "mine.pth")[:8],))

    with pytest.raises(CheckpointError, match=r"UDP by its sha256.* take hrnet_w32_coco_512x512-bcb8c247"):
        export_bottom_up_model(find_bottom_up_model("hrnet_w32_ae"), tmp_path, weights=str(tmp_path / "mine.pth"))


def test_without_an_address_weights_are_asked_for(tmp_path):
    with pytest.raises(CheckpointError, match=r"give a checkpoint with --weights FILE \(checkpoint_iter_370000.pth"):
        export_bottom_up_model(find_bottom_up_model("lightweight_openpose"), tmp_path)


def test_the_command_recognises_a_checkpoint_and_takes_an_input_size(tmp_path: Path):
    torch.manual_seed(0)
    torch.save({"state_dict": LightweightOpenPose().state_dict()}, tmp_path / "mine.pth")
    arguments = ["export", "--weights", str(tmp_path / "mine.pth"), "--input", "64x96", "-o", str(tmp_path)]

    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 0, result.output
    assert "for lightweight_openpose (by its keys)" in result.output
    passport = read_passport(tmp_path / "lightweight_openpose_64x96.onnx")
    assert passport.spec.outputs["pafs"] == (38, 8, 12)
    assert passport.weights == "mine.pth"


def test_options_of_other_networks_are_refused():
    arguments = ["export", "--model", "higher_hrnet_w32", "--weights", "random", "--decoder", "dark"]

    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 2
    assert "takes --weights, --input and -o only" in result.output
