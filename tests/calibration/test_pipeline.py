from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto

from edgepose.backends import load_backend
from edgepose.calibration import pipeline, scene
from edgepose.calibration.pipeline import Calibrated, calibrate, find_model
from edgepose.cli import main
from edgepose.errors import CalibrationError, ModelFileError
from edgepose.estimate.detect import EMBEDDED_NOTE, find_people, load_detector
from edgepose.estimate.follow import MIN_SCORE
from edgepose.export.drawn.scene import draw_scene
from edgepose.files import sha256_of
from edgepose.model.heads.heatmaps import Refine
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions
from tests.calibration.graphs import GraphMaker, mobile_network, pose_network, toy_spec, write_model
from tests.makers import smooth_image, with_orientation, write_toy_model

pytest.importorskip("openvino")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(5):
        cv2.imwrite(str(folder / f"{seed}.png"), smooth_image(seed=seed))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path, pose_network())


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["calibrate", "--boxes", "whole", *map(str, arguments)])


def test_the_embedded_detector_finds_the_people_where_nobody_says_where_they_are(model, tmp_path):
    drawn, _ = draw_scene(3, seed=0)
    cv2.imwrite(str(tmp_path / "scene.png"), drawn[..., ::-1])

    result = CliRunner().invoke(main, ["calibrate", "--images", str(tmp_path / "scene.png"), "--model", str(model)])

    assert result.exit_code == 0, result.output
    assert EMBEDDED_NOTE in result.output
    boxes, _ = find_people(load_detector(), drawn, min_score=MIN_SCORE)
    assert len(boxes) > 1  # not the whole image
    assert f"ranges of {len(boxes)} people" in result.output


def test_images_in_which_nobody_is_found_get_a_hint_at_whole_boxes(model, images):
    result = CliRunner().invoke(main, ["calibrate", "--images", str(images), "--model", str(model)])

    assert result.exit_code == 1
    assert "no usable person in 5 images" in result.output
    assert "where each image is one, say --boxes whole" in result.output


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("network", [pose_network, mobile_network])
@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_int8_finds_heatmaps_like_fp32s(tmp_path, images, network, method):
    model = write_model(tmp_path, network())

    result = calibrate(model, [images], method=method)

    spec = read_passport(model).spec
    boxes = np.array([[0, 0, 160, 120]], np.float32)
    crops = cut_out(smooth_image(seed=50), Regions.around(boxes, spec), spec)
    wanted = load_backend(model, backend="onnxruntime").heatmaps(crops)
    found = load_backend(result.int8, backend="openvino").heatmaps(crops)
    correlation = np.corrcoef(wanted.ravel(), found.ravel())[0, 1]
    assert correlation > 0.95  # entropy clips most: 0.97 on the mobile network, all others over 0.99


def test_the_int8_file_says_what_it_was_made_from(model, images):
    result = calibrate(model, [images], method="mse")

    passport = read_passport(result.int8)
    assert passport.precision == "int8"
    assert passport.spec == read_passport(model).spec
    assert passport.made_from == {model.name: sha256_of(model), result.table.name: sha256_of(result.table)}


def test_weights_are_int8_and_the_remainder_is_fp16(model, images):
    result = calibrate(model, [images], method="mse")

    graph = onnx.load(result.int8).graph
    types = {item.name: item.data_type for item in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    made_by = {name: node for node in graph.node for name in node.output}
    for node in convolutions:
        if node.output[0].startswith("heatmaps"):
            assert types[node.input[1]] == TensorProto.FLOAT16
        else:
            assert types[made_by[node.input[1]].input[0]] == TensorProto.INT8
    assert TensorProto.FLOAT not in types.values()
    assert all(item.type.tensor_type.elem_type == TensorProto.FLOAT for item in (*graph.input, *graph.output))


def test_what_lies_beyond_fp16_stays_in_fp32(model, images, monkeypatch):
    def heads(graph, crops):
        return [node.name for node in graph.graph.node if node.output[0].startswith("heatmaps")]

    monkeypatch.setattr(scene, "beyond_fp16", heads)

    result = calibrate(model, [images], method="mse")

    graph = onnx.load(result.int8).graph
    types = {item.name: item.data_type for item in graph.initializer}
    (head,) = (node for node in graph.node if node.op_type == "Conv" and node.output[0].startswith("heatmaps"))
    assert types[head.input[1]] == TensorProto.FLOAT
    assert head.name in result.kept_fp32
    assert any(head.name in line for line in result.warnings())


def test_layers_of_weights_and_values_beyond_fp16_are_computed_in_fp32(tmp_path, images):
    network = pose_network()
    for item in network.graph.initializer:
        if item.name in ("first_bn.0", "first_bn.1"):
            large = onnx.numpy_helper.to_array(item) * np.float32(1e6)
            item.CopyFrom(onnx.numpy_helper.from_array(large, item.name))

    result = calibrate(write_model(tmp_path, network), [images], method="mse", output_dir=tmp_path / "out")

    steps = {item.name: item.data_type for item in onnx.load(result.int8).graph.initializer if "step" in item.name}
    assert {"first", "second"} <= set(result.kept_fp32)
    assert steps["first_relu.step"] == TensorProto.FLOAT
    assert steps["crops.step"] == TensorProto.FLOAT16
    with closing(load_backend(result.int8, exact=True)) as backend:
        assert np.isfinite(backend.heatmaps(np.ones((1, 3, 64, 48), np.float32))).all()


def test_the_same_inputs_give_the_same_bytes(model, images, tmp_path):
    first = calibrate(model, [images], method="mse", output_dir=tmp_path / "a")
    second = calibrate(model, [images], method="mse", output_dir=tmp_path / "b")

    assert not second.reused
    assert first.int8.read_bytes() == second.int8.read_bytes()


def test_the_table_is_used_again_while_nothing_changed(model, images):
    first = calibrate(model, [images], method="mse")
    digest = sha256_of(first.int8)

    second = calibrate(model, [images], method="mse")

    assert (first.reused, second.reused) == (False, True)
    assert sha256_of(second.int8) == digest


def test_renamed_images_change_nothing(model, images):
    calibrate(model, [images], method="mse", limit=100)
    images.rename(images.parent / "elsewhere")

    assert calibrate(model, [images.parent / "elsewhere"], method="mse", limit=100).reused


def change_image(model: Path, images: Path) -> dict[str, object]:
    cv2.imwrite(str(images / "0.png"), smooth_image(seed=99))
    return {}


def change_boxes(model: Path, images: Path) -> dict[str, object]:
    boxes = [{"image_id": i, "category_id": 1, "bbox": [5, 5, 60, 90], "score": 1} for i in range(12)]
    path = model.parent / "boxes.json"
    path.write_text(json.dumps(boxes))
    return {"boxes": path}


def change_weights(model: Path, images: Path) -> dict[str, object]:
    write_model(model.parent, pose_network(seed=5))
    return {}


def change_recipe(model: Path, images: Path) -> dict[str, object]:
    data = read_passport(model).to_json()
    data["spec"]["region"]["padding"] = 1.5
    Path(f"{model}.json").write_text(json.dumps(data))
    return {}


@pytest.mark.parametrize("change", [change_image, change_boxes, change_weights, change_recipe])
def test_the_table_is_never_used_for_other_inputs(model, images, change):
    calibrate(model, [images], method="mse")

    changed = change(model, images)

    assert not calibrate(model, [images], method="mse", **changed).reused


@pytest.mark.parametrize("changed", [{"method": "minmax"}, {"limit": 3}, {"seed": 3}])
def test_the_table_is_never_used_for_other_settings(model, images, changed):
    settings = {"method": "mse", "limit": 512, "seed": 0}
    calibrate(model, [images], **settings)

    assert not calibrate(model, [images], **{**settings, **changed}).reused


@pytest.mark.parametrize("content", [b"{", b'{"edgepose_calibration": 1}', b"\xff\x00"])
def test_a_damaged_table_is_made_anew(model, images, content):
    path = calibrate(model, [images], method="mse").table
    path.write_bytes(content)

    assert not calibrate(model, [images], method="mse").reused


def test_stopped_in_the_middle_it_leaves_what_was_there(model, images, monkeypatch):
    calibrate(model, [images], method="mse")
    before = {path: sha256_of(path) for path in model.parent.glob("*") if path.is_file()}
    write_model(model.parent, pose_network(seed=5))
    del before[model], before[Path(f"{model}.json")]
    table = next(path for path in before if "calibration" in path.name)
    del before[table]  # whole, and of the new weights

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_distances", interrupt)
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, [images], method="mse")

    assert all(sha256_of(path) == digest for path, digest in before.items())
    assert not [path for path in model.parent.iterdir() if path.name.startswith(".")]


def test_only_fp32_is_quantised(tmp_path, images):
    half = write_model(tmp_path, pose_network(), "m.fp16.onnx", precision="fp16")

    with pytest.raises(ModelFileError, match=r"is FP16; wanted: the FP32 file"):
        calibrate(half, [images], method="mse")


@pytest.mark.parametrize(("precision", "found"), [("fp16", "in half precision"), ("int8", "quantised")])
def test_only_fp32_is_quantised_whatever_the_passport_says(precision, found, tmp_path, images):
    path = write_toy_model(tmp_path / "m.onnx", precision=precision)
    write_passport(path, replace(read_passport(path), precision="fp32"))

    with pytest.raises(ModelFileError, match=f"is {found} already .*; wanted the FP32 file"):
        calibrate(path, [images], method="mse")

    assert not path.with_name("m.int8.onnx").exists()


def test_a_file_that_is_no_onnx_is_an_error(tmp_path, images):
    path = write_model(tmp_path, pose_network())
    path.write_bytes(b"not a model")
    write_passport(path, Passport(toy_spec(), "fp32", sha256_of(path), weights="toy"))

    with pytest.raises(ModelFileError, match="cannot be read as ONNX"):
        calibrate(path, [images], method="mse")


def test_the_one_fp32_model_of_a_folder_is_found(tmp_path, model):
    write_model(tmp_path, pose_network(), "toy.int8.onnx", precision="int8")
    (tmp_path / "foreign.onnx").write_bytes(b"no passport")

    assert find_model(tmp_path) == model


def test_several_models_are_listed(tmp_path, model):
    write_model(tmp_path, pose_network(), "other.onnx")

    with pytest.raises(ModelFileError, match=r"several FP32 models here: other.onnx, toy.onnx: choose with --model"):
        find_model(tmp_path)


def test_no_model_is_an_error_that_lists_what_is_there(tmp_path):
    (tmp_path / "foreign.onnx").write_bytes(b"no passport")

    with pytest.raises(ModelFileError, match=r"no FP32 ONNX .* found only: foreign.onnx \(no passport"):
        find_model(tmp_path)


def test_the_command_prints_what_int8_does_to_key_points(model, images):
    result = run_command("--model", model, "--images", images)

    assert result.exit_code == 0, result.output
    assert "toy.int8.onnx: ranges of 4 people" in result.output
    assert "moved from FP32's by" in result.output
    assert "only 4 people" in result.output


def test_the_command_finds_the_model_of_its_folder(model, images, monkeypatch):
    monkeypatch.chdir(model.parent)

    result = run_command("--images", images)

    assert result.exit_code == 0, result.output
    assert files_in(model.parent) == [
        "toy.calibration.json",
        "toy.int8.onnx",
        "toy.int8.onnx.json",
        "toy.onnx",
        "toy.onnx.json",
    ]


def test_the_command_tells_of_pictures_that_exif_would_turn(model, images):
    jpeg = cv2.imencode(".jpg", smooth_image(seed=99))[1].tobytes()
    (images / "phone.jpg").write_bytes(with_orientation(jpeg, 6))

    result = run_command("--model", model, "--images", images)

    assert result.exit_code == 0
    assert "1 images note a rotation in EXIF" in result.stderr


def test_the_command_does_its_work_and_exits_3_if_an_image_was_unreadable(model, images):
    (images / "broken.jpg").write_bytes(b"nothing")

    result = run_command("--model", model, "--images", images)

    assert result.exit_code == 3
    assert "1 images could not be read" in result.output
    assert "broken.jpg" in result.output
    assert read_passport(model.parent / "toy.int8.onnx").precision == "int8"


def test_of_many_unreadable_images_ten_are_named(model, images):
    for number in range(12):
        (images / f"broken{number:02}.jpg").write_bytes(b"nothing")

    result = run_command("--model", model, "--images", images)

    assert "12 images could not be read" in result.output
    assert sum("broken" in line for line in result.output.splitlines()) == 10
    assert "… and 2 more" in result.output


def test_without_a_usable_crop_nothing_is_written(model, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"nothing")
    before = files_in(model.parent)

    result = run_command("--model", model, "--images", folder)

    assert result.exit_code == 1
    assert "no usable person" in result.output
    assert files_in(model.parent) == before


def test_a_network_of_nothing_but_its_head_is_refused(tmp_path, images):
    g = GraphMaker()
    g.conv("crops", "heatmaps", (2, 3, 4, 4), strides=[4, 4])
    path = write_model(tmp_path, g.model(["n", 3, 64, 48], "heatmaps"))

    with pytest.raises(CalibrationError, match="nothing to"):
        calibrate(path, [images], method="mse")


def test_one_image_is_not_called_held_out(model, images):
    for path in sorted(images.iterdir())[1:]:
        path.unlink()

    result = run_command("--model", model, "--images", images)

    assert "held-out" not in result.output
    assert "the same that were calibrated on" in result.output


def test_a_folder_in_place_of_the_result_is_found_before_the_work(model, images):
    (model.parent / "toy.int8.onnx").mkdir()
    before = files_in(model.parent)

    result = run_command("--model", model, "--images", images)

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert files_in(model.parent) == before


def test_a_file_in_place_of_the_output_folder_is_one_line(model, images, tmp_path):
    (tmp_path / "file").write_text("")

    result = run_command("--model", model, "--images", images, "-o", tmp_path / "file")

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_the_same_calibration_again_keeps_the_accuracy_that_was_measured(model, images):
    calibrate(model, [images], method="mse")
    int8 = model.parent / "toy.int8.onnx"
    write_passport(int8, replace(read_passport(int8), accuracy=[{"AP": 0.5}]))

    calibrate(model, [images], method="mse")

    assert read_passport(int8).accuracy == [{"AP": 0.5}]


def test_int8_that_fails_is_said_to_fail(tmp_path):
    shift = {"mean": 3.0, "p95": 9.0, "max": 20.0, "share_over_1": 0.5, "keypoints": 100}
    failed = Calibrated(tmp_path, tmp_path, False, 200, 20, True, (), 0, shift, 0.5, False)

    assert ["50%" in line and "FP16" in line for line in failed.warnings()] == [True]
    # half of the key points moved by more than 1 px, as before, but those of a larger map
    assert replace(failed, moved_far=0.02).warnings() == []


def test_an_empty_onnx_is_said_to_be_empty(model, images):
    passport = read_passport(model)
    model.write_bytes(b"")
    write_passport(model, replace(passport, sha256=sha256_of(model)))

    with pytest.raises(ModelFileError, match="empty"):
        calibrate(model, [images], method="mse")


def test_a_network_that_is_run_twice_is_calibrated_and_checked_with_close_crops(tmp_path, images, monkeypatch):
    model = write_model(tmp_path, pose_network())
    passport = read_passport(model)
    two_pass = passport.spec.changed(decoder="argmax", refine=Refine(share=0.5, decoder="argmax"))
    write_passport(model, replace(passport, spec=two_pass))
    seen = []
    find = scene.ranges_and_halves
    monkeypatch.setattr(
        scene, "ranges_and_halves", lambda graph, crops, *rest: find(graph, seen_by(crops, seen), *rest)
    )

    result = calibrate(model, [images], method="minmax")

    assert read_passport(result.int8).spec == two_pass
    assert len(seen) > result.crops  # people, whose close crops come on top


def seen_by(crops, seen):
    for crop in crops:
        seen.append(crop)
        yield crop
