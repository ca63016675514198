from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.errors import CheckpointError
from edgepose.export.checkpoints.fingerprint import recognize
from edgepose.export.checkpoints.state_dict import read_checkpoint
from edgepose.export.zoo import identify as identify_module
from edgepose.export.zoo.find import find_model, models
from edgepose.export.zoo.identify import find_named, identify
from edgepose.files import sha256_of

NETWORKS = {  # name, channels, style -> what it is recognised as
    f"{model.name} {model.spec.channels} {style}": (model, style)
    for model in models()
    for style in model.styles
    if model.name != "simplebaseline_tiny"
}


def write_checkpoint(
    path: Path, name: str, *, channels: int = 17, wrap: str = "", head: str = "", meta: str = ""
) -> Path:
    """A checkpoint with the right keys and one value in place of each tensor's own, which `identify` does not read."""
    model = next(m for m in models() if m.name == name and m.spec.channels == channels)
    with torch.device("meta"):
        state = model.build(model.styles[0]).state_dict()
    heads = ("final_layer", "deconv_layers", "multi_final_layers")
    zero = torch.zeros(())
    stored = {
        f"{wrap and (head if key.startswith(heads) else wrap)}{key}": zero.expand(tensor.shape[:2])
        for key, tensor in state.items()
    }
    torch.save({"meta": {f"{meta}_version": "1"}, "state_dict": stored} if meta else stored, path)
    return path


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_of_the_zoo_is_recognised_by_its_keys(network):
    model, style = NETWORKS[network]
    with torch.device("meta"):
        state = model.build(style).state_dict()

    family = recognize(state)

    assert (family.name, family.channels) == (model.name, model.spec.channels)
    assert family.style in ("", style)


@pytest.mark.parametrize(
    ("name", "channels", "file", "options", "found"),
    [
        ("simplebaseline_resnet50", 17, "pose_resnet_50_256x192.pth.tar", {}, ("coco", (256, 192), "quarter")),
        ("simplebaseline_resnet101", 16, "any.pth", {}, ("mpii", (256, 256), "quarter")),
        ("simplebaseline_resnet50", 17, "res50_coco_384x288_dark.pth", {}, ("coco", (384, 288), "dark")),
        ("hrnet_w32", 17, "w32_256x192_udp.pth", {}, ("coco", (256, 192), "udp")),
        ("hrnet_w48", 17, "w48.pth", {"input_hw": (384, 288), "decoder": "dark"}, ("coco", (384, 288), "dark")),
        ("hrnet_w32", 51, "regress_256x192.pth", {}, ("coco", (256, 192), "udp-combined")),
        ("hrnet_w32", 16, "any.pth", {"decoder": "quarter"}, ("mpii", (256, 256), "quarter")),
        ("cpm", 16, "any.pth", {}, ("mpii", (368, 368), "quarter")),
        ("cpm", 17, "cpm_384x288.pth", {}, ("coco", (384, 288), "quarter")),
        ("hourglass52", 17, "any.pth", {"input_hw": (256, 256)}, ("coco", (256, 256), "quarter")),
        ("stacked_hourglass_8", 16, "any.pth", {}, ("mpii", (256, 256), "quarter")),
    ],
)
def test_the_keys_the_name_and_the_options_together_identify_a_checkpoint(
    name, channels, file, options, found, tmp_path
):
    path = write_checkpoint(tmp_path / file, name, channels=channels)

    identified = identify(path, **options)

    model = identified.model
    assert model.name == name
    assert (model.dataset, model.spec.image.size_hw, model.spec.decoder) == found
    size = "{}x{}".format(*found[1])
    assert identified.evidence.startswith("by its keys")
    assert ("the input by its name" in identified.evidence) == (size in file)
    assert ("the recipe by its name" in identified.evidence) == any(word in file for word in ("dark", "_udp"))
    assert ("the rest as given" in identified.evidence) == bool(options)


@pytest.mark.parametrize("model", [model for model in models() if model.embedded], ids=lambda model: model.name)
def test_the_packages_own_weights_are_recognised(model):
    assert identify(model.embedded).model == model


def test_mmposes_names_are_recognised_as_well(tmp_path):
    for wrap, head, meta in (("backbone.", "head.", "mmengine"), ("backbone.", "keypoint_head.", "mmcv")):
        path = write_checkpoint(tmp_path / "udp_384x288.pth", "hrnet_w48", wrap=wrap, head=head, meta=meta)

        assert identify(path).model.label == "hrnet_w48 coco 384x288"


@pytest.mark.parametrize(
    ("file", "options", "question"),
    [
        ("pose_hrnet_w32_256x192.pth", {}, "how it was trained: give --decoder quarter or dark or udp"),
        ("pose_hrnet_w32_256x192.pth", {}, "--decoder dark --alignment darkpose"),
        ("mine.pth", {"decoder": "udp"}, "its input size: give --input 256x192 or 384x288"),
        ("mine.pth", {}, "--input 256x192 or 384x288; nor how it was trained"),
    ],
)
def test_what_a_checkpoint_does_not_tell_is_asked_for(file, options, question, tmp_path):
    path = write_checkpoint(tmp_path / file, "hrnet_w32")

    with pytest.raises(CheckpointError, match=question):
        identify(path, **options)


def test_a_published_file_tells_everything_by_its_hash(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "renamed.pth", "hrnet_w32")
    listed = models()
    known = tuple(
        replace(model, published=replace(model.published, sha256_prefix=sha256_of(path)[:8]))
        if (model.name, model.spec.image.size_hw, model.spec.decoder) == ("hrnet_w32", (384, 288), "udp")
        else model
        for model in listed
    )
    monkeypatch.setattr(identify_module, "models", lambda: known)

    identified = identify(path)

    assert (identified.model.spec.image.size_hw, identified.model.spec.decoder) == ((384, 288), "udp")
    assert "published" in identified.evidence


def test_another_publication_is_known_by_its_hash(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "renamed.pth", "hrnet_w32")
    for digest, place in (("e97c1a0f", ((384, 288), "udp")), ("b05435b9", ((256, 192), "quarter"))):
        monkeypatch.setattr(identify_module, "sha256_of", lambda path, digest=digest: digest + 56 * "0")

        model = identify(path).model

        assert (model.spec.image.size_hw, model.spec.decoder) == place
        assert identify(path, decoder="dark").model.spec.decoder == "dark"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "mpii"}, "hrnet_w32 with 17 output channels, but mpii has 16: .*head fits --dataset coco$"),
        ({"input_hw": (320, 320)}, "but hrnet_w32 is exported for: coco 256x192 .*, not for 320x320$"),
        ({"dataset": "lsp"}, "but hrnet_w32 is exported for: coco 256x192 .*, not for lsp$"),
        ({"decoder": "udp-combined"}, "not for the udp-combined decoder but for quarter or dark or udp"),
    ],
)
def test_options_that_contradict_the_checkpoint_are_refused(options, message, tmp_path):
    path = write_checkpoint(tmp_path / "w32_256x192.pth", "hrnet_w32")

    with pytest.raises(CheckpointError, match=message):
        identify(path, **options)


def test_a_simcc_checkpoint_of_other_key_points_is_refused(tmp_path):
    path = tmp_path / "rtmpose.pth"
    with torch.device("meta"):
        state = find_model("rtmpose_t").build("pytorch").state_dict()
    torch.save({key: torch.zeros(()).expand(tensor.shape) for key, tensor in state.items()}, path)

    with pytest.raises(CheckpointError, match=r"17 .* channels, but halpe26 has 26: .*head fits --dataset coco$"):
        identify(path, dataset="halpe26")


def test_a_bottom_up_checkpoint_is_told_by_its_channels(tmp_path):
    path = write_checkpoint(tmp_path / "w32.pth", "hrnet_w32")
    state, _ = read_checkpoint(path)
    state["final_layer.weight"] = torch.zeros(34, 32)
    torch.save(state, path)

    with pytest.raises(
        CheckpointError,
        match="hrnet_w32_ae with 34 output channels, a network of whole images: edgepose export --model",
    ):
        identify(path)


def test_a_network_of_another_kind_is_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")

    with pytest.raises(CheckpointError, match=r"no network that edgepose knows: its 1 keys begin with features\.0"):
        identify(tmp_path / "vgg.pth")


@pytest.mark.parametrize(
    ("name", "lost", "told"),
    [
        ("hrnet_w48", "stage4.2.", r"nearest to hrnet_w48, of whose keys \d{3} are missing \(first: stage4\.2\."),
        (
            "simplebaseline_resnet101",
            "final_layer.",
            r"nearest to simplebaseline_resnet101, of whose keys 2 are missing",
        ),
        ("stacked_hourglass_8", "score.0.", r"nearest to stacked_hourglass_8, of whose keys 2 are missing"),
        ("cpm", ("cpm_stages", "middle", "out_convs"), r"nearest to cpm, of whose keys 150 are missing"),
    ],
)
def test_a_checkpoint_that_lost_keys_is_told_which_network_it_comes_nearest_to(name, lost, told, tmp_path):
    channels = 16 if name.startswith("stacked") else 17
    state = torch.load(write_checkpoint(tmp_path / "whole.pth", name, channels=channels))
    torch.save({key: tensor for key, tensor in state.items() if not key.startswith(lost)}, tmp_path / "part.pth")

    with pytest.raises(CheckpointError, match=told):
        identify(tmp_path / "part.pth")


def test_a_published_file_is_known_by_its_hash_whatever_name_the_user_gives_the_network(tmp_path, monkeypatch):
    (tmp_path / "renamed.pth").write_bytes(b"not read: its hash is")
    monkeypatch.setattr(identify_module, "sha256_of", lambda path: "e97c1a0f" + 56 * "0")

    model, note = find_named(tmp_path / "renamed.pth", "hrnet_w32")
    smaller, _ = find_named(tmp_path / "renamed.pth", "hrnet_w32", input_hw=(256, 192))
    dark, _ = find_named(tmp_path / "renamed.pth", "hrnet_w32", decoder="dark")
    other, _ = find_named(tmp_path / "renamed.pth", "hrnet_w48")

    assert (model.spec.image.size_hw, model.spec.decoder) == ((384, 288), "udp")
    assert note.endswith("hrnet_w32 coco 384x288, 17 key points, udp decoder (a published file, known by its sha256)")
    assert (smaller.spec.image.size_hw, smaller.spec.decoder) == ((256, 192), "udp")
    assert (dark.spec.image.size_hw, dark.spec.decoder) == ((384, 288), "dark")
    assert other.spec.decoder == "quarter"


@pytest.mark.parametrize(
    ("arguments", "file", "decoder", "note"),
    [
        (
            "hrnet_w32",
            "mine.pth",
            "quarter",
            "it is read by the plain recipe; if it had another, give --decoder dark or udp (for",
        ),
        ("hrnet_w32 --decoder quarter", "mine.pth", "quarter", ""),
        ("hrnet_w32", "w32_udp.pth", "udp", ""),
        ("hrnet_w32", "w32_dark.pth", "dark", ""),
        ("simplebaseline", "mine.pth", "quarter", ""),  # whose recipes lay pixels alike
    ],
)
def test_a_recipe_that_is_guessed_is_said_on_stderr(arguments, file, decoder, note, tmp_path, monkeypatch):
    (tmp_path / file).write_bytes(b"")
    taken = {}

    def export_model(model, output_dir, **options):
        taken.update(options, model=model)
        return SimpleNamespace(summary=lambda: "written", fp16=tmp_path / "m.fp16.onnx")

    monkeypatch.setattr("edgepose.export.pipeline.export_model", export_model)

    result = CliRunner().invoke(main, ["export", "--weights", str(tmp_path / file), "--model", *arguments.split()])

    assert result.exit_code == 0, result.output
    assert (taken["decoder"], taken["model"].spec.decoder) == (decoder, decoder)
    assert result.stdout == "written\n"
    assert note in result.stderr
    assert result.stderr.count("\n") == bool(note)


def test_the_command_says_what_is_missing_in_one_line(tmp_path):
    path = write_checkpoint(tmp_path / "pose_hrnet_w32_256x192.pth", "hrnet_w32")

    refused = CliRunner().invoke(main, ["export", "--weights", str(path), "-o", str(tmp_path)])
    unnamed = CliRunner().invoke(main, ["export", "-o", str(tmp_path)])

    assert refused.exit_code == 1
    assert "give --decoder quarter or dark or udp" in refused.output
    assert refused.output.count("\n") == 1
    assert unnamed.exit_code == 2
    assert "--model" in unnamed.output
