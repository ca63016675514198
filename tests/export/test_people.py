"""Networks that give people in one stage: files in each published layout, made here, from import to key points."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgepose.backends import load_backend, load_runtime
from edgepose.cli import main
from edgepose.cli.import_command import PEOPLE_PRESETS
from edgepose.estimate.whole import estimate_people
from edgepose.export.graph.edit import arrays_of
from edgepose.export.graph.last_layers import ending_of
from edgepose.export.people import PRESETS
from edgepose.io.images import write_image
from edgepose.model.passport import read_passport
from edgepose.model.skeletons import SKELETONS
from edgepose.stages.geometry import Regions

SIDE = 64  # of the input, px
IMAGE_HW = (64, 128)  # twice as wide as high: a letterbox shows it at half its size
PLAIN = ("rf-detr-pose", "detrpose")
BOX = np.array([10.0, 20.0, 50.0, 60.0])  # px of the input
BESIDE = BOX + np.array([1, 0, 1, 0])  # the same person once more, less sure
CORNER = ("rtmo", "rtmo-crowdpose", "yolox-pose")


def points_of(box: np.ndarray, count: int) -> np.ndarray:
    """(count, 2): on the diagonal of a box."""
    share = np.linspace(0, 1, count)[:, None]
    return box[:2] + share * (box[2:] - box[:2])


def written(preset: str) -> dict[str, np.ndarray]:
    """The outputs of each published layout, as one picture has them; two candidates where there are several."""
    _, head, skeleton = PRESETS[preset]
    count, boxes = len(SKELETONS[skeleton]), np.stack([BOX, BESIDE])
    points, scores = np.stack([points_of(box, count) for box in boxes]), np.array([0.9, 0.6])
    middles = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    sure = np.full((2, count, 1), 0.75)
    triples = np.concatenate([points, sure], axis=2)
    yx = np.concatenate([points[..., ::-1] / SIDE, sure], axis=2)
    logits = np.log(scores / (1 - scores))[:, None]
    if head.layout == "yolo":
        return {"output0": np.concatenate([middles, scores[:, None], triples.reshape(2, -1)], axis=1).T}
    if head.layout == "end-to-end":
        rows = np.concatenate([boxes, scores[:, None], np.zeros((2, 1)), triples.reshape(2, -1)], axis=1)
        return {"output0": rows[:1]}
    if head.layout == "dets":
        return {"dets": np.concatenate([boxes, scores[:, None]], axis=1)[:1], "keypoints": triples[:1]}
    if head.layout == "queries":
        if head.values == 8:
            return {"dets": middles / SIDE, "labels": np.repeat(logits, 2, axis=1), "keypoints": with_precision(points)}
        given = (triples if head.values == 3 else points) / ([SIDE, SIDE, 1][: head.values])
        found = {"labels": np.repeat(logits, head.classes, axis=1), "keypoints": given.reshape(2, -1)}
        return {**({"dets": middles / SIDE} if head.boxes else {}), **found}
    if head.layout == "movenet-multi":
        rows = np.concatenate([yx.reshape(2, -1), boxes[:, [1, 0, 3, 2]] / SIDE, scores[:, None]], axis=1)
        return {"output_0": rows[:1]}
    if head.layout == "movenet-single":
        return {"output_0": yx[:1]}
    five = np.concatenate([points[0], np.zeros((count, 1)), np.full((count, 2), np.log(3))], axis=1)  # sigmoid 0.75
    auxiliary = np.full((head.points - count, 5), 7.0)
    return {"Identity": np.concatenate([five, auxiliary]).ravel(), "Identity_1": np.array([0.9])}


def with_precision(points: np.ndarray) -> np.ndarray:
    """(2, K, 8) of RF-DETR's key points, as sure of each place as leaves the people's scores 0.9 and 0.6 as they are.

    A score s becomes sigmoid(log s - 0.2 log t), t the trace of the covariance: twice exp(-2 log l11) here.
    """
    scores = np.array([0.9, 0.6])
    log_trace = 5 * (np.log(scores) - np.log(scores / (1 - scores)))
    values = np.zeros((*points.shape[:2], 8))
    values[..., :2] = points / SIDE
    values[..., 2] = np.log(3)  # sigmoid 0.75
    values[..., [4, 6]] = (np.log(2) - log_trace[:, None, None]) / 2
    return values


def write_network(
    path: Path,
    outputs: dict[str, np.ndarray],
    *,
    last: bool = False,
    kind: int = TensorProto.FLOAT,
    size_hw: tuple[int, int] = (SIDE, SIDE),
) -> Path:
    """An ONNX that gives these outputs for any picture: behind a convolution one of weight 0, with them as its bias."""
    shape = [1, *size_hw, 3] if last else [1, 3, *size_hw]
    sizes = {name: values.size for name, values in outputs.items()}
    bias = np.concatenate([values.ravel() for values in outputs.values()]).astype(np.float32)
    nodes = [helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2] if last else [0, 1, 2, 3])]
    nodes += [
        helper.make_node("Conv", ["planes", "trunk_weight"], ["trunk"], strides=[8, 8]),
        helper.make_node("GlobalAveragePool", ["trunk"], ["mean"]),
        helper.make_node("Conv", ["mean", "weight", "bias"], ["maps"]),
        helper.make_node("Split", ["maps", "parts"], [f"{name}_part" for name in outputs], axis=1),
    ]
    constants = [
        numpy_helper.from_array(
            np.random.default_rng(0).normal(0, 0.1, (3, 3, 8, 8)).astype(np.float32), "trunk_weight"
        ),
        numpy_helper.from_array(np.zeros((len(bias), 3, 1, 1), np.float32), "weight"),
        numpy_helper.from_array(bias, "bias"),
        numpy_helper.from_array(np.array(list(sizes.values()), np.int64), "parts"),
    ]
    for name, values in outputs.items():
        constants.append(numpy_helper.from_array(np.array([-1, *values.shape], np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("Reshape", [f"{name}_part", f"{name}_shape"], [name]))
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *values.shape]) for name, values in outputs.items()
    ]
    graph = helper.make_graph(nodes, "made", [helper.make_tensor_value_info("pixels", kind, shape)], given, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each preset's file, imported by the command; MoveNet's and BlazePose's as TensorFlow has them."""
    folder = tmp_path_factory.mktemp("people")
    done = {}
    for preset in PEOPLE_PRESETS:
        movenet, blazepose = preset.startswith("movenet"), preset == "blazepose"
        kind = TensorProto.INT32 if movenet else TensorProto.FLOAT
        foreign = write_network(folder / "f.onnx", written(preset), last=movenet or blazepose, kind=kind)
        result = run("import", foreign, "--preset", preset, "-o", folder)
        assert result.exit_code == 0, result.output
        done[preset] = folder / f"{preset}.onnx"
    return done


def expected(preset: str) -> tuple[np.ndarray, np.ndarray]:
    """The box (4,) and the key points (K, 2) in px of an image of IMAGE_HW."""
    skeleton = PRESETS[preset][2]
    points = points_of(BOX, len(SKELETONS[skeleton]))
    if preset in PLAIN:
        return BOX * [2, 1, 2, 1], points * [2, 1]
    offset = 0 if preset in CORNER else 16
    return (BOX - [0, offset, 0, offset]) * 2, (points - [0, offset]) * 2


def test_the_command_knows_every_preset():
    assert tuple(PRESETS) == PEOPLE_PRESETS


@pytest.mark.parametrize("form", ["", ".fp16"])
@pytest.mark.parametrize("preset", [name for name in PEOPLE_PRESETS if name != "blazepose"])
def test_a_published_layout_gives_the_person_back_in_the_image(imported, preset: str, form: str):
    runtime = load_runtime(imported[preset].with_suffix(f"{form}.onnx"))

    poses, scores = estimate_people(runtime, np.zeros((*IMAGE_HW, 3), np.uint8))

    box, points = expected(preset)
    sure = 0.75 if preset == "movenet-single" else 0.9
    height, width = IMAGE_HW
    assert scores[0] == pytest.approx(sure, abs=1e-3)
    assert np.abs(poses.xy[0] - points).max() < 0.1  # FP16 has steps of 1/32 px at 60 px, and the image is twice that
    assert np.abs(poses.boxes_xyxy[0] - np.clip(box, 0, [width, height] * 2)).max() < 0.1
    assert len(poses) == (2 if preset in PLAIN else 1)  # the copy was suppressed, but by nobody where queries compete


def test_a_landmark_network_looks_at_crops(imported):
    backend = load_backend(imported["blazepose"])
    box = np.array([[10.0, 10, 50, 50]], np.float32)
    regions = Regions.around(box, backend.spec)

    (found,) = backend.keypoints(np.zeros((64, 64, 3), np.uint8), regions)

    assert len(backend.keypoints(np.zeros((64, 64, 3), np.uint8), Regions.around(box[:0], backend.spec))) == 0
    low, high = np.array([30, 30]) - 25, np.array([30, 30]) + 25  # a box of 40 px, enlarged by a quarter
    wanted = low + points_of(BOX, 33) / SIDE * (high - low)
    assert np.abs(found[:, :2] - wanted).max() < 1e-3
    assert found[:, 2] == pytest.approx(0.75)


def test_nobody_in_a_crop_has_scores_of_0(tmp_path: Path):
    outputs = {**written("blazepose"), "Identity_1": np.array([0.2])}
    foreign = write_network(tmp_path / "f.onnx", outputs, last=True)
    run("import", foreign, "--preset", "blazepose", "-o", tmp_path)
    backend = load_backend(tmp_path / "blazepose.onnx")
    regions = Regions.around(np.array([[10.0, 10, 50, 50]], np.float32), backend.spec)

    (found,) = backend.keypoints(np.zeros((64, 64, 3), np.uint8), regions)

    assert found[:, 2].tolist() == [0.0] * 33


def test_infer_and_evaluate_need_no_boxes(imported, tmp_path: Path):
    engine, (box, points) = imported["yolo-pose"], expected("yolo-pose")
    write_image(tmp_path / "images" / "7.png", np.zeros((*IMAGE_HW, 3), np.uint8))
    person = {
        "id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
        "keypoints": np.concatenate([points, np.full((17, 1), 2)], axis=1).ravel().tolist(),
        "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()], "area": 6400.0,
    }  # fmt: skip
    categories = [{"id": 1, "name": "person", "keypoints": list(SKELETONS["coco17"].keypoints)}]
    images = [{"id": 7, "file_name": "7.png", "height": IMAGE_HW[0], "width": IMAGE_HW[1]}]
    truth = {"images": images, "annotations": [person], "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(truth))

    inferred = run("infer", "--engine", engine, "--input", tmp_path / "images", "-o", tmp_path / "out")
    refused = run("infer", "--engine", engine, "--input", tmp_path / "images", "--boxes", "whole")
    measured = run(
        "evaluate", "--engine", engine, "--engine", engine.with_suffix(".fp16.onnx"), "--images", tmp_path / "images",
        "--annotations", tmp_path / "truth.json", "--json", "-",
    )  # fmt: skip

    assert inferred.exit_code == 0, inferred.output
    (found,) = json.loads((tmp_path / "out/keypoints.json").read_text())
    assert (found["image_id"], found["score"]) == (7, pytest.approx(0.9, abs=1e-4))
    assert np.reshape(found["keypoints"], (17, 3))[:, :2] == pytest.approx(points, abs=1e-3)
    assert (tmp_path / "out/overlays/7.png").is_file()
    assert refused.exit_code == 2
    assert measured.exit_code == 0, measured.output
    first, half = json.loads(measured.stdout)["models"]
    assert first["figures"]["AP"] == pytest.approx(1)
    assert half["shift"]["lost"] == 0


def test_benchmark_takes_the_frame_as_it_is(imported):
    engine = imported["yolo-pose"]
    arguments = ("benchmark", "--engine", engine, "--engine", engine.with_suffix(".fp16.onnx"), "--seconds", 0.01)

    listed, mixed = run(*arguments, "--json"), run(*arguments, "--engine", imported["blazepose"])

    first, half = json.loads(listed.stdout)["rows"]
    assert (first["batch"], half["precision"], first["speedup"]) == (1, "fp16", 1)
    assert set(first["stages_ms"]) == {"letterbox", "network", "decode", "host"}
    assert mixed.exit_code == 2


def test_calibrate_takes_whole_images_and_leaves_the_last_layers_in_float(imported, tmp_path: Path):
    rng = np.random.default_rng(0)
    for index in range(3):
        write_image(tmp_path / f"{index}.png", rng.integers(0, 255, (*IMAGE_HW, 3)).astype(np.uint8))

    result = run("calibrate", "--model", imported["yolo-pose"], "--images", tmp_path, "-o", tmp_path / "out")

    assert result.exit_code == 0, result.output
    assert "INT8 loses 0" in result.stdout
    int8 = onnx.load(tmp_path / "out/yolo-pose.int8.onnx")
    assert {array.shape for array in arrays_of(int8).values() if array.dtype == np.int8 and array.ndim == 4} == {
        (3, 3, 8, 8)
    }


def test_positions_are_computed_in_single_precision_behind_the_last_layers(imported):
    half = onnx.load(imported["yolo-pose"].with_suffix(".fp16.onnx"))

    assert {array.dtype for name, array in arrays_of(half).items() if "weight" in name} == {np.dtype(np.float16)}
    assert "Conv" not in {node.op_type for node in half.graph.node if node.name in ending_of(half).behind}


def test_an_imported_network_keeps_its_input_whatever_the_original_took(imported):
    for preset in ("movenet-single", "blazepose", "rtmo"):
        (shape,) = read_passport(imported[preset]).spec.inputs.values()
        (given,) = onnx.load(imported[preset]).graph.input
        assert shape == (3, SIDE, SIDE)
        assert given.type.tensor_type.elem_type == TensorProto.FLOAT


MOVENET_MAPS = {"center": (16, 16, 1), "heat": (16, 16, 17), "regress": (16, 16, 34), "offset": (16, 16, 34)}
POSENET_MAPS = {"heatmaps": (17, 9, 9), "offsets": (34, 9, 9), "fwd": (32, 9, 9), "bwd": (32, 9, 9)}


@pytest.mark.parametrize(
    ("preset", "shapes", "message"),
    [
        ("yolo-pose", {"output0": (58, 84)}, "58 rows are 4 of the box, 1 of classes and 17 key points of 3, or 3 cl"),
        ("yolo-pose", {"output0": (5, 84)}, "without key points; boxes alone are --preset yolo"),
        (
            "yolo-pose",
            {"output": (100, 85)},
            "100 rows are candidates of 85 numbers each; of a detector that is --preset yolox",
        ),
        ("yolo-pose", {"output0": (300, 57)}, "that is --preset yolo-pose-end-to-end"),
        ("yolo-pose-end-to-end", {"output0": (56, 8400)}, "that is --preset yolo-pose"),
        ("yolo-pose-end-to-end", {"output0": (300, 6)}, "without key points"),
        ("yolo-pose-end-to-end", {"output0": (300, 69)}, "69 columns are 21 key points of 3, the spec has 17"),
        ("yolo-pose-end-to-end", {"output0": (300, 40)}, "40 columns are 17 key points of 2, the spec has 17 of 3"),
        ("rtmo", {"dets": (1, 5)}, "no output fits keypoints"),
        ("movenet-single", MOVENET_MAPS, "MoveNet's maps before its own decoding"),
        ("movenet-multi", POSENET_MAPS, "a head that follows displacements"),
        ("mmdeploy-heatmap-256x192", POSENET_MAPS, "a head that follows displacements"),
    ],
)
def test_a_file_that_does_not_fit_is_told_what_it_is(tmp_path: Path, preset, shapes, message):
    outputs = {name: np.ones(shape) for name, shape in shapes.items()}
    size_hw = (256, 192) if preset.startswith("mmdeploy") else (SIDE, SIDE)
    foreign = write_network(tmp_path / "f.onnx", outputs, last=preset.startswith("movenet"), size_hw=size_hw)

    result = run("import", foreign, "--preset", preset, "-o", tmp_path / "out")

    assert result.exit_code == 1
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("edgepose:")]
    assert message in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("preset", "words", "message"),
    [
        (
            "yolo-pose-end-to-end",
            {"names": "{0: 'dog', 1: 'person'}"},
            r"it has 2 classes \(0 dog, 1 person\), the spec 1",
        ),
        ("yolo-pose", {"names": "{0: 'person'}", "kpt_shape": "[17, 2]"}, "17 key points of 2, the spec 17 of 3"),
        ("yolo-pose-end-to-end", {"kpt_shape": "(21, 3)"}, "21 key points of 3, the spec 17 of 3"),
        ("yolo-pose", {"names": "{0: 'person'}", "kpt_shape": "[17, 3]", "task": "pose"}, ""),
        ("yolo-pose", {"names": "{0: 'hand'}", "kpt_shape": "[[", "task": "(" * 10_000}, ""),
    ],
)
def test_what_a_yolo_file_says_of_itself_is_compared_with_the_spec(tmp_path: Path, preset, words, message):
    model = onnx.load(write_network(tmp_path / "f.onnx", written(preset)))
    helper.set_model_props(model, words)
    onnx.save(model, tmp_path / "f.onnx")

    result = run("import", tmp_path / "f.onnx", "--preset", preset, "-o", tmp_path / "out")

    assert result.exit_code == bool(message)
    assert not message or re.search(f"f.onnx: .*{message}: write a spec with what fits", result.stderr)
    assert (tmp_path / "out").exists() == (not message)


def test_the_class_of_the_person_is_compared_too(tmp_path: Path):
    two = {"head": {"kind": "people", "layout": "end-to-end", "classes": 2, "person": 0}, "skeleton": "coco17"}
    picture = {"size_hw": [SIDE, SIDE], "resize": "letterbox", "anchor": "center"}
    (tmp_path / "spec.json").write_text(json.dumps({"name": "two", "input": picture, **two}))
    model = onnx.load(write_network(tmp_path / "f.onnx", written("yolo-pose-end-to-end")))
    helper.set_model_props(model, {"names": "{0: 'dog', 1: 'person'}"})
    onnx.save(model, tmp_path / "f.onnx")

    result = run("import", tmp_path / "f.onnx", "--spec", tmp_path / "spec.json", "-o", tmp_path / "out")

    assert "the person is class 1 of 0 dog, 1 person, the spec says 0" in result.stderr


def test_a_second_input_is_refused(tmp_path: Path):
    path = write_network(tmp_path / "f.onnx", written("detrpose"))
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]))
    onnx.save(model, path)

    result = run("import", path, "--preset", "detrpose", "-o", tmp_path)

    assert result.exit_code == 1
    assert "2 inputs (pixels, orig_target_sizes), wanted one, the images: export it without" in result.stderr
