from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgepose.backends import load_runtime
from edgepose.cli import main
from edgepose.cli.import_command import DETECTOR_PRESETS
from edgepose.errors import ModelFileError
from edgepose.estimate.detect import EMBEDDED, find_people, load_detector
from edgepose.evaluation.detectors import evaluate_detectors
from edgepose.evaluation.report import table_of
from edgepose.export.detectors import PRESETS, import_detector, preset_spec
from edgepose.io.images import read_image
from edgepose.model.passport import read_passport
from tests.shared_data import SHARED, needs_shared


def toy_detector(
    path: Path, *, batch: int | str = "N", outputs: tuple[str, str] = ("b", "s"), classes: int = 1
) -> Path:
    """A picodet-like ONNX of a 32x32 input: one candidate, its box fixed, its score the mean of the picture's red."""
    box = numpy_helper.from_array(np.array([[[4, 6, 20, 30]]], np.float32), "box")
    zero = numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), "zero")
    weights = np.zeros((classes, 3, 1, 1), np.float32)
    weights[0, 0] = 0.25
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Conv", ["mean", "w"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["score4"]),
        helper.make_node("Reshape", ["score4", "shape"], [outputs[1]]),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["nothing", "axes"], ["nil"], keepdims=0),
        helper.make_node("Reshape", ["nil", "column"], ["nil3"]),
        helper.make_node("Add", ["nil3", "box"], [outputs[0]]),
    ]
    constants = [
        box,
        zero,
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.array([-1, classes, 1], np.int64), "shape"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "column"),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 32, 32])],
        [
            helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, [batch, 1, 4]),
            helper.make_tensor_value_info(outputs[1], TensorProto.FLOAT, [batch, classes, 1]),
        ],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_command_knows_every_preset():
    assert tuple(PRESETS) == DETECTOR_PRESETS


@pytest.mark.parametrize("batch", ["N", 1])
def test_an_imported_detector_finds_what_the_original_does(tmp_path: Path, batch: int | str):
    foreign = toy_detector(tmp_path / "f.onnx", batch=batch)

    done = import_detector(foreign, preset_spec("toy", "picodet", foreign), tmp_path / "out")

    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 255
    boxes, scores = find_people(load_detector(done.fp32), image)
    assert boxes.tolist() == [[8, 12, 40, 60]]
    red = (255 - 123.675) / 58.395
    assert scores == pytest.approx([1 / (1 + np.exp(-0.25 * red))], abs=1e-5)
    assert read_passport(done.fp32).spec.head.kind == "detections"
    assert len(find_people(load_detector(done.fp16), image)[0]) == 1


def test_yolox_by_mmdeploy_sees_plain_bgr_and_gives_boxes_with_labels(tmp_path: Path):
    model = onnx.load(toy_detector(tmp_path / "p.onnx"))
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([-1, 1], np.int64), "row"))
    graph.node.extend(
        [
            helper.make_node("Concat", ["b", "s"], ["dets"], axis=2),
            helper.make_node("Reshape", ["nil", "row"], ["zeros"]),
            helper.make_node("Cast", ["zeros"], ["labels"], to=TensorProto.INT64),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["N", 1, 5]))
    graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["N", 1]))
    onnx.save(model, tmp_path / "f.onnx")

    done = import_detector(tmp_path / "f.onnx", preset_spec("toy", "yolox-dets", tmp_path / "f.onnx"), tmp_path)

    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 2] = 4  # blue: the first channel that the network sees
    boxes, scores = find_people(load_detector(done.fp32), image)
    assert boxes.tolist() == [[8, 12, 40, 60]]
    assert scores == pytest.approx([1 / (1 + np.exp(-1))], abs=1e-5)


def test_outputs_are_told_apart_by_their_shapes_or_by_name(tmp_path: Path):
    foreign = toy_detector(tmp_path / "f.onnx")
    spec = preset_spec("toy", "picodet", foreign)

    import_detector(foreign, spec, tmp_path / "a", outputs=("b", "s"))

    with pytest.raises(ModelFileError, match="wanted 2 of them, for boxes, scores; got s"):
        import_detector(foreign, spec, tmp_path / "b", outputs=("s",))
    with pytest.raises(
        ModelFileError, match=r"no output fits level_8 \(N, 4, 4, 5\); it has b N, 1, 4".replace("N", r".")
    ):
        import_detector(foreign, preset_spec("toy", "rtmdet-nano", foreign), tmp_path / "b")
    assert not (tmp_path / "b").exists() or not list((tmp_path / "b").iterdir())


def test_a_detector_of_more_classes_is_told(tmp_path: Path):
    foreign = toy_detector(tmp_path / "f.onnx", classes=3)

    result = CliRunner().invoke(main, ["import", str(foreign), "--preset", "picodet", "-o", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert "another number of classes" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_spec_and_preset_exclude_each_other(tmp_path: Path):
    for options in ([], ["--spec", "a.json", "--preset", "yolox"]):
        assert CliRunner().invoke(main, ["import", "f.onnx", *options]).exit_code == 2


def test_a_file_of_one_picture_takes_any_number(tmp_path: Path):
    foreign = toy_detector(tmp_path / "f.onnx", batch=1)
    done = import_detector(foreign, preset_spec("toy", "picodet", foreign), tmp_path / "out")
    pictures = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)

    for backend in ("openvino", "onnxruntime"):
        runtime = load_runtime(done.fp32, backend=backend)
        assert len(runtime.run({"images": pictures})["scores"]) == 3
        runtime.close()


def test_the_embedded_detector_is_small_and_has_a_passport():
    assert EMBEDDED.stat().st_size <= 3_000_000
    assert read_passport(EMBEDDED).spec.head.kind == "detections"


@needs_shared
def test_the_embedded_detector_finds_a_person_in_a_photograph():
    image = read_image(SHARED / "data/coco/images/000000000785.jpg")

    boxes, _ = find_people(load_detector(), image, min_score=0.3)

    assert len(boxes)


@needs_shared
@pytest.mark.parametrize(
    ("file", "preset"),
    [
        ("rtmdet_nano_person_320", "rtmdet-nano"),
        ("picodet_s_pedestrian_320", "picodet"),
        ("yolox_nano_coco80", "yolox"),
        ("nanodet_coco80_416x416", "nanodet"),
    ],
)
def test_published_detectors_find_the_annotated_people(tmp_path: Path, file: str, preset: str):
    foreign = SHARED / f"models/{file}.onnx"
    done = import_detector(foreign, preset_spec("d", preset, foreign), tmp_path)
    coco = SHARED / "data/coco"

    evaluation = evaluate_detectors([done.fp32], coco / "images", coco / "person_keypoints.json", limit=8)

    assert (evaluation.detectors[0].figures["AP50"] or 0) > 0.5  # 0.65 to 0.68 over all 77 images
    assert evaluation.conditions["images"] == 8
    assert "AP50" in table_of(evaluation)
