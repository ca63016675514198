from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from edgepose.calibration.bottom_up import calibrate_maps, maps_between_stages
from edgepose.cli import main
from edgepose.errors import ModelFileError
from edgepose.export.bottom_up import export_bottom_up
from edgepose.export.networks.lightweight_openpose import LightweightOpenPose
from edgepose.export.pair import Weights
from edgepose.io.images import write_image
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.passport import read_passport
from edgepose.model.skeletons import COCO17, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec

PICTURE = Input((64, 96), "bgr", (128.0,) * 3, (256.0,) * 3, "letterbox", "center", 128)
SPEC = ModelSpec("toy_fields", PICTURE, Fields((8, 12)), OPENPOSE18)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    torch.manual_seed(0)
    export_bottom_up(LightweightOpenPose().eval(), SPEC, Weights("random"), folder)
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for index in range(3):
        image = np.kron(rng.integers(0, 255, (6, 9, 3)), np.ones((10, 10, 1))).astype(np.uint8)
        write_image(folder / "images" / f"{index}.png", image)
    return folder


@pytest.fixture(scope="module")
def calibrated(folder: Path):
    return calibrate_maps(folder / "toy_fields.onnx", [folder / "images"], method="minmax")


def test_maps_of_every_stage_stay_in_float(calibrated):
    model = onnx.load(calibrated.int8)
    steps = {item.name: item for item in model.graph.initializer}
    sources = {name: node.op_type for node in model.graph.node for name in node.output}

    quantised, in_float = [], []
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight = steps.get(node.input[1])
            (in_float if weight is not None else quantised).append(node)

    counts = {int(steps[node.input[1]].dims[0]) for node in in_float}
    assert {19, 38} <= counts
    assert len(quantised) > 20
    assert all(sources[node.input[1]] == "DequantizeLinear" for node in quantised)


def test_says_what_became_of_people(calibrated):
    passport = read_passport(calibrated.int8)

    assert (calibrated.pictures, calibrated.held_out) == (2, 1)
    assert passport.precision == "int8"
    assert passport.verified["int8_people"] == calibrated.shift.people
    assert "people in 1 held-out pictures INT8 loses" in calibrated.summary()
    assert "random" in calibrated.summary()


def test_the_same_pictures_use_the_table_again(calibrated, folder):
    again = calibrate_maps(folder / "toy_fields.onnx", [folder / "images"], method="minmax")

    assert again.reused
    assert read_passport(again.int8).sha256 == read_passport(calibrated.int8).sha256


def test_only_networks_of_stages_name_their_maps():
    assert maps_between_stages(SPEC) == (19, 38)
    assert maps_between_stages(ModelSpec("toy", PICTURE, Tags((16, 24)), COCO17)) == ()


def test_an_int8_file_is_no_start(calibrated, folder):
    with pytest.raises(ModelFileError, match="wanted: the FP32 file"):
        calibrate_maps(calibrated.int8, [folder / "images"], method="minmax")


def test_boxes_are_refused_by_the_command(folder):
    (folder / "boxes.json").write_text("[]")
    arguments = ["calibrate", "--images", str(folder / "images"), "--model", str(folder / "toy_fields.onnx")]

    result = CliRunner().invoke(main, [*arguments, "--boxes", str(folder / "boxes.json")])

    assert result.exit_code == 2
    assert "this network takes whole images" in result.output
