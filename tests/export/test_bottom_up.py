import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgepose.backends import load_runtime
from edgepose.cli import main
from edgepose.errors import ExportError, ModelFileError
from edgepose.estimate.whole import estimate_people
from edgepose.export.bottom_up import export_bottom_up, import_bottom_up
from edgepose.export.maps import largest_difference, sample_pictures
from edgepose.export.networks.associative_embedding import TaggedHRNet
from edgepose.export.networks.lightweight_openpose import LightweightOpenPose
from edgepose.export.pair import Weights
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.passport import read_passport
from edgepose.model.skeletons import COCO17, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec
from tests.model.test_spec_document import SHOWN
from tests.shared_data import SHARED, needs_shared

PICTURE = Input((64, 96), "bgr", (128.0,) * 3, (256.0,) * 3, "letterbox", "center", 128)
FIELDS = ModelSpec("toy_fields", PICTURE, Fields((8, 12)), OPENPOSE18)
TAGS = ModelSpec("toy_tags", PICTURE, Tags((16, 24)), COCO17)
OPENPOSE = next(shown for shown in SHOWN if shown.get("head", {}).get("kind") == "fields")  # of docs/spec.md


@pytest.fixture(scope="module", params=["fields", "tags"])
def exported(request, tmp_path_factory):
    spec = FIELDS if request.param == "fields" else TAGS
    network: nn.Module = LightweightOpenPose(refinements=1) if spec is FIELDS else TaggedHRNet(8, 17)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    return network.eval(), export_bottom_up(network, spec, Weights("random"), folder)


def test_the_files_compute_what_the_network_does(exported):
    network, files = exported
    spec = read_passport(files.fp32).spec
    pictures = sample_pictures(spec, 3)
    with torch.no_grad():
        expected = dict(zip(spec.outputs, (maps.numpy() for maps in network(torch.from_numpy(pictures))), strict=True))

    found = load_runtime(files.fp32, exact=True).run({"images": pictures})

    assert list(found) == list(spec.outputs)
    assert largest_difference(expected, found) < 1e-4
    assert files.fp32_difference < 1e-4
    assert read_passport(files.fp16).verified == {"fp16_maps_relative": files.fp16_difference}


def test_an_image_goes_in_and_people_come_out(exported):
    _, files = exported
    runtime = load_runtime(files.fp16, exact=True)

    poses, scores = estimate_people(runtime, np.full((50, 70, 3), 128, np.uint8))

    assert poses.xy.shape[1:] == (read_passport(files.fp16).spec.num_keypoints, 2)
    assert len(scores) == len(poses)


def test_nvidias_parser_and_builder_accept_it(exported, tmp_path: Path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    options = ("--runtime", "tensorrt_rtx", "--target", "sm_86", "-o", str(tmp_path / "m.plan"))

    result = CliRunner().invoke(main, ["build", str(exported[1].fp16), *options])

    assert result.exit_code == 0, result.output


def test_the_flip_test_of_fields_is_refused(exported):
    _, files = exported
    runtime = load_runtime(files.fp32, exact=True)
    image = np.zeros((50, 70, 3), np.uint8)

    if read_passport(files.fp32).spec.head.kind == "tags":
        assert len(estimate_people(runtime, image, flip_test=True)[0].xy) >= 0
    else:
        with pytest.raises(ModelFileError, match="no flip test was published"):
            estimate_people(runtime, image, flip_test=True)


def test_its_own_file_can_be_imported_again_with_outputs_in_another_order(exported, tmp_path: Path):
    _, files = exported
    spec = read_passport(files.fp32).spec
    model = onnx.load(files.fp32)
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(reversed(outputs))
    onnx.save(model, tmp_path / "theirs.onnx")

    imported = import_bottom_up(tmp_path / "theirs.onnx", spec, tmp_path / "out")

    assert imported.fp32_difference < 1e-6
    assert [value.name for value in onnx.load(imported.fp32).graph.output] == list(spec.outputs)


def test_fields_and_heat_maps_swapped_are_refused(exported, tmp_path: Path):
    _, files = exported
    spec = read_passport(files.fp32).spec
    names = list(spec.outputs)
    if spec.head.kind == "tags":
        names[1] = "tag"  # as many channels as heat maps: only a name tells
        with pytest.raises(ModelFileError, match="wanted: 2, for heatmaps, tags, got heatmaps, tag"):
            import_bottom_up(files.fp32, spec, tmp_path, outputs=names)
    else:
        with pytest.raises(ModelFileError, match=r"output pafs is .*, but the spec says nx19x8x12"):
            import_bottom_up(files.fp32, spec, tmp_path, outputs=names[::-1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("background", [18, 56])
def test_fields_before_the_heat_maps_of_one_output_are_refused(tmp_path: Path, background: int):
    spec = ModelSpec("toy_joined", PICTURE, Fields((8, 12), joined=True), OPENPOSE18)
    weights, biases = np.full((57, 3, 8, 8), 1e-4, np.float32), np.eye(57, dtype=np.float32)[background]
    node = helper.make_node("Conv", ["images", "weights", "biases"], ["heatmaps"], strides=[8, 8])
    theirs = helper.make_graph(
        [node],
        "joined",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 64, 96])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", 57, 8, 12])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(biases, "biases")],
    )
    onnx.save(helper.make_model(theirs, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")

    if background == 18:  # after OpenPose's 18 key points
        assert import_bottom_up(tmp_path / "a.onnx", spec, tmp_path / "out").fp32.exists()
    else:
        with pytest.raises(
            ModelFileError, match=r"map 56 is 1\.00 on average, .*: put the heat maps before the fields"
        ):
            import_bottom_up(tmp_path / "a.onnx", spec, tmp_path / "out")
        assert not list(tmp_path.glob("out/*"))


def test_a_graph_that_computes_something_else_is_not_written(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("edgepose.export.maps.largest_difference", lambda *_: 0.5)

    with pytest.raises(ExportError, match=r"differs from the original by 0\.5"):
        export_bottom_up(LightweightOpenPose(), FIELDS, Weights("random"), tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_differs_infinitely(value):
    maps = {"heatmaps": np.ones((1, 2, 3, 3), np.float32)}

    assert largest_difference(maps, {"heatmaps": maps["heatmaps"] * value}) == float("inf")


@needs_shared
def test_openpose_from_elsewhere_is_imported_by_the_command(tmp_path: Path):
    (tmp_path / "spec.json").write_text(json.dumps(OPENPOSE))
    theirs = SHARED / "models" / "openpose_mobilenet_thin_coco18_368x432.onnx"

    arguments = ["import", str(theirs), "--spec", str(tmp_path / "spec.json"), "-o", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 0, result.output
    assert read_passport(tmp_path / "openpose_mobilenet.onnx").spec.outputs == {"heatmaps": (57, 46, 54)}


@needs_shared
def test_57_channels_called_17_key_points_are_refused_in_one_line(tmp_path: Path):
    (tmp_path / "spec.json").write_text(json.dumps({**OPENPOSE, "skeleton": "coco17"}))
    theirs = SHARED / "models" / "openpose_mobilenet_thin_coco18_368x432.onnx"

    result = CliRunner().invoke(main, ["import", str(theirs), "--spec", str(tmp_path / "spec.json")])

    assert result.exit_code == 1
    assert result.output.strip().count("\n") == 0
    assert "limbs name key point 17 (from 0 on), skeleton 'coco17' has 17" in result.output
