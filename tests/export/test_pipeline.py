from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from edgepose.backends import load_backend
from edgepose.cli import main
from edgepose.errors import CheckpointError, ExportError
from edgepose.export import pipeline
from edgepose.export.drawn.crops import sample_crops, smooth_crops
from edgepose.export.networks.rtmpose import RTMW
from edgepose.export.networks.simple_baseline import SimpleBaseline
from edgepose.export.pipeline import Exported, export_model, randomize
from edgepose.export.verify import Difference
from edgepose.export.zoo.find import find_model
from edgepose.export.zoo.model import ChoiceError, Model, Published
from edgepose.model.passport import read_passport, write_passport
from tests.makers import make_spec

SPEC = make_spec(name="small", input_hw=(64, 64), heatmap_hw=(16, 16))
RECIPES = {"original": {"color_order": "bgr"}, "mmpose_v1": {"quarter_guard": "independent"}}


def build_small(style: str) -> nn.Module:
    return SimpleBaseline(18, 2, planes=(4, 4, 8, 8), deconv_filters=8)


SMALL = Model("small", "coco", SPEC, build_small, 0.0, 0, styles=("pytorch", "caffe"), recipes=RECIPES)


@pytest.fixture
def checkpoint(tmp_path):
    network = build_small("pytorch")
    randomize(network, SPEC)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    return path


def test_writes_two_files_with_passports_that_compute_what_the_checkpoint_does(checkpoint, tmp_path):
    exported = export_model(SMALL, tmp_path / "out", weights=str(checkpoint))

    names = ["small_coco_64x64.fp16.onnx", "small_coco_64x64.fp16.onnx.json", "small_coco_64x64.onnx"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "small_coco_64x64.onnx.json"]
    network = build_small("pytorch").eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    crops = sample_crops(SPEC, 5)  # another batch than the one it was traced with
    with torch.no_grad():
        expected = network(torch.from_numpy(crops)).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(load_backend(exported.fp32).heatmaps(crops), expected, atol=1e-5 * scale)
    np.testing.assert_allclose(load_backend(exported.fp16).heatmaps(crops), expected, atol=1e-2 * scale)
    passport = read_passport(exported.fp16)
    assert (passport.precision, passport.weights) == ("fp16", "weights.pth, pytorch style")
    assert passport.made_from == {exported.fp32.name: read_passport(exported.fp32).sha256}
    assert passport.verified["fp16_keypoint_px"] <= 0.25


def test_the_graph_has_the_agreed_interface_and_no_batch_norm(checkpoint, tmp_path):
    exported = export_model(SMALL, tmp_path, weights=str(checkpoint))

    model = onnx.load(exported.fp32)
    onnx.checker.check_model(model, full_check=True)
    values = (*model.graph.input, *model.graph.output)
    shapes = [[size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values]
    assert [model.graph.input[0].name, model.graph.output[0].name] == ["crops", "heatmaps"]
    assert shapes == [["n", 3, 64, 64], ["n", 2, 16, 16]]
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "MaxPool", "Add", "ConvTranspose"}
    assert (model.opset_import[0].version, model.ir_version) == (19, 9)


def test_a_second_export_is_identical_to_the_byte(tmp_path):
    first = export_model(SMALL, tmp_path / "a", weights="random")
    torch.rand(7)  # the caller's random state has no say
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        second = export_model(SMALL, tmp_path / "b", weights="random")
    finally:
        torch.set_num_threads(threads)

    for name in (first.fp32.name, first.fp16.name):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert second.weights == "random"


def test_a_file_that_comes_out_the_same_keeps_its_accuracy(checkpoint, tmp_path):
    exported = export_model(SMALL, tmp_path, weights=str(checkpoint))
    measured = [{"AP": 0.5}]
    for path in (exported.fp32, exported.fp16):
        write_passport(path, replace(read_passport(path), accuracy=measured))

    export_model(SMALL, tmp_path, weights=str(checkpoint))
    same = [read_passport(path).accuracy for path in (exported.fp32, exported.fp16)]
    export_model(SMALL, tmp_path, weights=str(checkpoint), color="rgb")  # the same bytes, fed other pixels
    other_recipe = [read_passport(path).accuracy for path in (exported.fp32, exported.fp16)]

    assert same == [measured, measured]
    assert other_recipe == [[], []]


@pytest.mark.parametrize("weights", ["random", "auto"])
def test_too_few_key_points_to_compare_are_told_unless_nothing_else_is_expected(weights):
    nothing = Difference(0.0, 0.0, 0)
    exported = Exported(Path("m.onnx"), Path("m.fp16.onnx"), SPEC, weights, nothing, nothing)

    assert ("only 0 key points to compare; edgepose evaluate" in exported.summary()) == (weights == "auto")


def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_made(checkpoint, tmp_path):
    exported = export_model(SMALL, tmp_path / "a", weights=str(checkpoint))
    occupied = tmp_path / "b" / exported.fp16.name
    occupied.mkdir(parents=True)
    steps: list[str] = []

    with pytest.raises(IsADirectoryError, match=exported.fp16.name):
        export_model(SMALL, tmp_path / "b", weights=str(checkpoint), report=steps.append)

    assert list((tmp_path / "b").iterdir()) == [occupied]
    assert "tracing the network" not in steps


def test_an_output_folder_that_is_a_file_is_one_line(tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")

    result = CliRunner().invoke(main, ["export", "--model", "simplebaseline_tiny", "-o", str(out)])

    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "out" in line] == [result.stderr.splitlines()[-1]]
    assert f"{out}: Not a directory: name another path" in result.stderr
    assert out.read_text() == "mine"


def test_a_bug_is_not_taken_for_a_wrong_option(tmp_path, monkeypatch):
    def broken(*arguments: object, **options: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(pipeline, "to_onnx", broken)

    result = CliRunner().invoke(main, ["export", "--model", "simplebaseline_tiny", "-o", str(tmp_path)])

    assert isinstance(result.exception, ValueError)


def test_random_weights_are_named_as_such(tmp_path):
    exported = export_model(SMALL, tmp_path, weights="random")

    assert read_passport(exported.fp32).random_weights
    assert read_passport(exported.fp16).random_weights
    assert "weights are random" in exported.summary()


@pytest.mark.parametrize("depth", [18, 152])
def test_random_activations_are_of_ordinary_size_at_any_depth(depth):
    network = SimpleBaseline(depth, 2, planes=(8, 8, 8, 8), deconv_filters=8)
    state = torch.random.get_rng_state()

    randomize(network, SPEC)

    with torch.no_grad():
        heatmaps = network(torch.from_numpy(smooth_crops(SPEC)))
    assert 0.05 < float(heatmaps.std()) < 50
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_of_one_input_size_sees_people_of_ordinary_size():
    spec = find_model("rtmw_m").spec.changed(input_hw=(128, 96))
    network = RTMW(133, (128, 96), 0.25, 0.33)

    randomize(network, spec)

    largest: list[float] = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *args: largest.append(float(args[2].abs().max())))
    with torch.no_grad():
        network(torch.from_numpy(sample_crops(spec)))
    assert max(largest) < 100  # of a norm's output, whose mean is 0 and deviation 1


@pytest.mark.parametrize(
    ("file_name", "options", "expected"),
    [
        ("w.pth", {}, ("bgr", "quarter", "pytorch", "small_coco_64x64")),
        ("w_caffe.pth", {}, ("bgr", "quarter", "caffe", "small_coco_64x64_caffe")),
        ("w_dark.pth", {}, ("bgr", "dark", "pytorch", "small_coco_64x64_dark")),
        ("w_dark.pth", {"decoder": "quarter", "color": "rgb"}, ("rgb", "quarter", "pytorch", "small_coco_64x64")),
        ("w_caffe.pth", {"style": "pytorch"}, ("bgr", "quarter", "pytorch", "small_coco_64x64")),
    ],
)
def test_what_a_checkpoint_cannot_tell_comes_from_options_or_its_name(
    file_name, options, expected, checkpoint, tmp_path, monkeypatch
):
    path = checkpoint.rename(tmp_path / file_name)
    styles, specs = [], []
    monkeypatch.setattr(pipeline, "to_onnx", lambda network, spec: specs.append(spec))
    monkeypatch.setattr(pipeline, "simplify", lambda model: model)
    monkeypatch.setattr(pipeline, "check_fp32", lambda *arguments, **options: None)
    monkeypatch.setattr(pipeline, "run_onnx", lambda *arguments: [None])
    monkeypatch.setattr(pipeline, "write_models", lambda model, spec, weights, *rest, **more: weights)
    model = replace(SMALL, build=lambda style: styles.append(style) or build_small(style))

    weights = export_model(model, tmp_path, weights=str(path), **options)

    color, decoder, style, stem = expected
    assert (specs[0].image.color_order, specs[0].heatmaps.decoder, specs[0].name) == (color, decoder, stem)
    assert styles[-1] == style
    assert weights.source == f"{file_name}, {style} style"


def test_a_graph_that_differs_from_its_network_leaves_no_file(checkpoint, tmp_path, monkeypatch):
    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        weight = other.graph.initializer[0]
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, weight.name))
        return other

    monkeypatch.setattr(pipeline, "simplify", wrong)

    with pytest.raises(ExportError, match="the simplified graph differs from the network: key points are off"):
        export_model(SMALL, tmp_path / "out", weights=str(checkpoint))

    assert not (tmp_path / "out").exists()


def test_a_bad_fp16_graph_leaves_no_file_and_no_half_of_one(checkpoint, tmp_path, monkeypatch):
    exported = export_model(SMALL, tmp_path / "out", weights=str(checkpoint))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    good = pipeline.to_fp16

    def wrong(model: onnx.ModelProto, *, keep_fp32: list[str]) -> onnx.ModelProto:
        half = good(model, keep_fp32=keep_fp32)
        weight = half.graph.initializer[0]
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 0, weight.name))
        return half

    monkeypatch.setattr(pipeline, "to_fp16", wrong)

    with pytest.raises(ExportError, match="the FP16 graph differs from FP32"):
        export_model(SMALL, tmp_path / "out", weights=str(checkpoint))

    assert {path.name: path.read_bytes() for path in exported.fp32.parent.iterdir()} == before


def test_what_float16_cannot_hold_is_computed_in_fp32(tmp_path):
    network = build_small("pytorch")
    randomize(network, SPEC)
    with torch.no_grad():
        network.bn1.weight *= 1e6
        network.bn1.bias *= 1e6
        for block in network.layer1:
            block.bn1.running_mean *= 1e6
            block.bn1.running_var *= 1e12
        network.layer2[0].bn1.running_mean *= 1e6
        network.layer2[0].bn1.running_var *= 1e12
        network.layer2[0].downsample[1].running_mean *= 1e6
        network.layer2[0].downsample[1].running_var *= 1e12
    torch.save(network.state_dict(), tmp_path / "large.pth")

    exported = export_model(SMALL, tmp_path, weights=str(tmp_path / "large.pth"))

    assert read_passport(exported.fp16).verified["fp16_nodes_kept_in_fp32"] > 0
    assert exported.fp16_difference.px <= 0.25


def test_automatic_weights_are_fetched_and_named_in_the_passport(checkpoint, tmp_path, monkeypatch):
    url = "https://example.org/small-12345678.pth"
    asked = []
    monkeypatch.setattr(pipeline, "fetch", lambda *arguments: asked.append(arguments) or checkpoint)
    monkeypatch.setenv("EDGEPOSE_CACHE", str(tmp_path / "cache"))

    exported = export_model(replace(SMALL, published=Published(url, "12345678", 0.7)), tmp_path)

    assert asked == [(url, "12345678", tmp_path / "cache")]
    assert read_passport(exported.fp32).weights == f"{url}, pytorch style"


def test_a_network_nobody_published_names_the_alternatives(tmp_path):
    with pytest.raises(CheckpointError, match="--weights FILE, or use --weights random"):
        export_model(find_model("simplebaseline_resnet18"), tmp_path)


def test_another_architectures_checkpoint_leaves_no_file(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="is not a checkpoint of simplebaseline_resnet50 coco 256x192"):
        export_model(find_model("simplebaseline"), tmp_path / "out", weights=str(checkpoint))

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "simplebaselin"}, "unknown model 'simplebaselin'; known: simplebaseline, "),
        (
            {"name": "simplebaseline", "input_hw": (100, 100)},
            "no 100x100 form; it has: coco 256x192, coco 384x288, mpii",
        ),
        ({"name": "simplebaseline", "dataset": "lsp"}, "no lsp form"),
        ({"name": "simplebaseline", "decoder": "udp"}, "was not trained for the udp decoder"),
    ],
)
def test_what_the_zoo_lacks_is_told_with_what_it_has(options, message):
    with pytest.raises(ChoiceError, match=message):
        find_model(**options)


def test_names_and_recipes_lead_to_their_files():
    plain, dark = find_model("simplebaseline"), find_model("simplebaseline", decoder="dark")
    v0 = find_model("simplebaseline_resnet101", input_hw=(384, 288))

    assert (plain.name, plain.dataset, plain.spec.image.size_hw) == ("simplebaseline_resnet50", "coco", (256, 192))
    assert (plain.published.sha256_prefix, plain.published.accuracy) == ("04af38ce", 0.718)
    assert (dark.published.sha256_prefix, dark.spec.heatmaps.decoder) == ("c129dcb6", "dark")
    assert (v0.published.sha256_prefix, "/v1/" in v0.published.url) == ("8c71bdc9", False)
    assert find_model("simplebaseline", dataset="mpii").spec.num_keypoints == 16


def test_the_embedded_model_exports_without_a_network(tmp_path):
    result = CliRunner().invoke(main, ["export", "--model", "simplebaseline_tiny", "-o", str(tmp_path)])

    assert result.exit_code == 0, result.output
    passport = read_passport(tmp_path / "simplebaseline_tiny.onnx")
    assert passport.weights == "simplebaseline_tiny.pth"
    assert not passport.random_weights
    assert passport.verified["fp32_keypoints_compared"] >= passport.spec.num_keypoints


def test_the_command_fails_in_one_line(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"")

    result = CliRunner().invoke(main, ["export", "--model", "simplebaseline", "--weights", str(tmp_path / "w.pth")])

    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("edgepose: ")
    assert "is not a PyTorch checkpoint" in result.stderr


def test_models_are_listed_with_what_they_cost_and_reach():
    lines = CliRunner().invoke(main, ["models"]).output.splitlines()

    line = next(line for line in lines if line.startswith("simplebaseline_resnet50 ") and "256x192" in line)
    for cell in (
        "coco",
        "17",
        "10.85",
        "34.0 M",
        "AP 0.718",
        "td-hm_res50_8xb64-210e_coco-256x192-04af38ce_20220923.pth",
    ):
        assert cell in line
    assert "PCKh 0.876 " in next(line for line in lines if "cpm_mpii" in line)
    assert "simplebaseline is simplebaseline_resnet50." in lines


def test_a_passport_is_json_that_people_can_read(tmp_path):
    exported = export_model(SMALL, tmp_path, weights="random")

    data = json.loads((tmp_path / f"{exported.fp32.name}.json").read_text())
    assert data["versions"].keys() == {"edgepose", "torch", "onnx", "onnxsim"}
    assert data["spec"]["input"]["size_hw"] == [64, 64]
