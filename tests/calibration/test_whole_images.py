from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgepose.calibration.dataset import read_calibration_set
from edgepose.calibration.whole_images import calibrate_pictures, maps_between_stages
from edgepose.cli import main
from edgepose.errors import ModelFileError
from edgepose.estimate.detect import find_people, load_detector
from edgepose.estimate.follow import MIN_SCORE
from edgepose.evaluation.box_shift import BoxShift
from edgepose.export.bottom_up import export_bottom_up
from edgepose.export.networks.lightweight_openpose import LightweightOpenPose
from edgepose.export.pair import Weights
from edgepose.files import sha256_of
from edgepose.io.images import read_image, write_image
from edgepose.model.heads.detections import Detections
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.model.skeletons import COCO17, NO_KEYPOINTS, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec
from tests.makers import write_toy_model

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
    return calibrate_pictures(folder / "toy_fields.onnx", [folder / "images"], method="minmax")


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
    again = calibrate_pictures(folder / "toy_fields.onnx", [folder / "images"], method="minmax")

    assert again.reused
    assert read_passport(again.int8).sha256 == read_passport(calibrated.int8).sha256


def test_only_networks_of_stages_name_their_maps():
    assert maps_between_stages(SPEC) == (19, 38)
    assert maps_between_stages(ModelSpec("toy", PICTURE, Tags((16, 24)), COCO17)) == ()


def test_an_int8_file_is_no_start(calibrated, folder):
    with pytest.raises(ModelFileError, match="wanted: the FP32 file"):
        calibrate_pictures(calibrated.int8, [folder / "images"], method="minmax")


def test_boxes_are_refused_by_the_command(folder):
    (folder / "boxes.json").write_text("[]")
    arguments = ["calibrate", "--images", str(folder / "images"), "--model", str(folder / "toy_fields.onnx")]

    result = CliRunner().invoke(main, [*arguments, "--boxes", str(folder / "boxes.json")])

    assert result.exit_code == 2
    assert "this network takes whole images" in result.output


def toy_detector(path: Path) -> Path:
    """A detector of RTMDet's form, channels last; as many rows as channels of a convolution before its last ones."""
    rng = np.random.default_rng(0)
    filters = {"stem": (8, 3, 3, 3), "trunk": (4, 8, 3, 3), "score": (1, 4, 1, 1), "box": (4, 4, 1, 1)}
    constants = [numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), f"{name}_w")
                 for name, shape in filters.items()]  # fmt: skip
    biases = {"score_b": [1.0], "box_b": [12.0] * 4}  # a person of 24 px in every cell, more or less
    constants += [numpy_helper.from_array(np.array(values, np.float32), name) for name, values in biases.items()]
    nodes = [
        helper.make_node("Conv", ["images", "stem_w"], ["stem"], pads=[1] * 4, strides=[4, 4]),
        helper.make_node("Relu", ["stem"], ["stem_relu"]),
        helper.make_node("Conv", ["stem_relu", "trunk_w"], ["trunk"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["trunk"], ["trunk_relu"]),
        helper.make_node("Conv", ["trunk_relu", "score_w", "score_b"], ["score"]),
        helper.make_node("Conv", ["trunk_relu", "box_w", "box_b"], ["box"]),
        helper.make_node("Concat", ["score", "box"], ["both"], axis=1),
        helper.make_node("Transpose", ["both"], ["level_8"], perm=[0, 2, 3, 1]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "toy",
        [value("images", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [value("level_8", TensorProto.FLOAT, ["n", 4, 4, 5])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    head = Detections("distances", 1, activation="sigmoid", unit="px", channels_last=True, joined=True, strides=(8,))
    spec = ModelSpec("toy_detector", Input((32, 32), "bgr", (128.0,) * 3, (64.0,) * 3, "letterbox"), head, NO_KEYPOINTS)
    write_passport(path, Passport(spec, "fp32", sha256_of(path), "toy"))
    return path


def test_of_a_detector_only_the_layers_that_make_boxes_and_scores_stay_in_float(folder, tmp_path):
    model = toy_detector(tmp_path / "toy_detector.onnx")

    result = calibrate_pictures(model, [folder / "images"], method="minmax")

    graph = onnx.load(result.int8).graph
    weights = {item.name for item in graph.initializer}
    convolutions = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "Conv"}
    assert set(result.layers) == {"stem", "trunk"}
    assert {name for name, weight in convolutions.items() if weight in weights} == {"score", "box"}
    assert isinstance(result.shift, BoxShift)
    assert "boxes in 1 held-out pictures INT8 loses" in result.summary()
    assert read_passport(result.int8).verified["int8_people"] == result.shift.people


def test_a_detector_finds_the_people_to_calibrate_on(folder, tmp_path):
    pose = write_toy_model(tmp_path / "pose.onnx")
    detector = toy_detector(tmp_path / "toy_detector.onnx")
    arguments = ["calibrate", "--images", str(folder / "images"), "--model", str(pose), "--detector", str(detector)]

    people = read_calibration_set(
        [folder / "images"], None, limit=9, seed=0, detector=(finder := load_detector(detector))
    )
    refused = CliRunner().invoke(main, [*arguments, "--boxes", "boxes.json"])
    swapped = CliRunner().invoke(main, [*arguments[:3], "--model", str(detector), "--detector", str(pose)])

    for image in (*people.fitting, *people.held_out):
        boxes, _ = find_people(finder, read_image(image.path), min_score=MIN_SCORE)
        np.testing.assert_array_equal(image.boxes_xyxy, boxes[: len(image)])
    assert (refused.exit_code, swapped.exit_code) == (2, 2)
    assert "--detector finds the boxes: leave out --boxes" in refused.output
    assert "--detector goes with crops of people" in swapped.output
