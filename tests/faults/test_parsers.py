"""Every parser takes damaged input for a whole value or refuses it in one line; what it takes can be used."""

from __future__ import annotations

import contextlib
import json
import math
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose.errors import EdgeposeError, ModelFileError
from edgepose.files import parse_json, sha256_of
from edgepose.io import images
from edgepose.io.annotations import read_annotations
from edgepose.io.boxes import boxes_for_images
from edgepose.io.serve import PictureServer
from edgepose.model.passport import passport_path
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions
from edgepose.stages.similarity import rescore
from tests.faults.conftest import annotate, run
from tests.faults.damage import damaged_bytes, damaged_json, few, odd_values, thoroughly
from tests.makers import engine_entry, make_spec, smooth_image, with_orientation, write_toy_model

HASH = "ab" * 32
SPEC = make_spec().to_json()
FORMAT_1 = {
    "name": "toy",
    "input_hw": [64, 48],
    "heatmap_hw": [16, 12],
    "skeleton": "coco17",
    "box_padding": 1.25,
    "refine": {"share": 0.5, "decoder": "dark"},
}
HEADS: list[dict[str, Any]] = [
    {"kind": "heatmaps", "size_hw": [16, 12], "refine": {"share": 0.5, "decoder": "dark"}},
    {"kind": "heatmaps-with-offsets", "size_hw": [16, 12], "offset_radius": 0.05},
    {"kind": "simcc", "split_ratio": 2.0, "sigma": [4.9, 5.7]},
    {"kind": "fields", "size_hw": [16, 12], "limbs": [[0, 1], [1, 2]], "fields": [0, 1], "fill_limbs": 0},
    {"kind": "tags", "size_hw": [16, 12], "top_k": 30},
    {"kind": "people", "layout": "yolo", "values": 3},
    {"kind": "detections", "layout": "yolox", "strides": [8, 16], "candidates": None},
    {"kind": "volume", "volume_dhw": [8, 8, 8], "depth_m": 2.0},
    {"kind": "lift", "frames": 27, "points": "coco17", "root": "nose"},
]
WHOLE_IMAGE = ("fields", "tags", "people", "detections")  # kinds of head that take no crops of people


def spec_of(head: dict[str, Any]) -> dict[str, Any]:
    """A whole spec of a head."""
    resize = "letterbox" if head["kind"] in WHOLE_IMAGE else "crop"
    picture = {} if head["kind"] == "lift" else {"input": {"size_hw": [64, 48], "resize": resize}}
    points = {} if head["kind"] == "detections" else {"skeleton": "coco17"}
    return {"name": "toy", **picture, "head": head, **points}


PASSPORT = {
    "edgepose_passport": 2,
    "spec": SPEC,
    "precision": "fp32",
    "weights": "w.pth",
    "weights_sha256": HASH,
    "made_from": {"m.onnx": HASH},
    "versions": {"torch": "2.6.0"},
    "verified": {"fp32_keypoint_px": 0.001},
    "accuracy": [{"annotations": "val.json", "AP": 0.7, "people": 5, "flip_test": False, "versions": {"numpy": "2"}}],
    "engine": engine_entry(),
}
BOXES = [{"image_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9, "category_id": 1} for _ in range(2)]
COCO = {
    "images": [{"id": 1, "file_name": "1.jpg", "width": 48, "height": 64}],
    "categories": [{"id": 1, "name": "person", "keypoints": ["a", "b"]}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "keypoints": [1, 2, 2, 3, 4, 1]},
        {
            "id": 2,
            "image_id": 1,
            "bbox": [0, 0, 9, 9],
            "area": 8,
            "iscrowd": 1,
            "keypoints": [0] * 6,
            "headbox": [1] * 4,
        },
    ],
}
TABLE = {
    "edgepose_calibration": 2,
    "made_from": {"method": "mse", "seed": 0},
    "ranges": {"crops": 2.5},
    "factors": {"t": [1.0, 2.0]},
    "means": {"t": [0.5]},
}


@contextlib.contextmanager
def may_be_refused() -> Iterator[None]:
    """The body may raise an EdgeposeError: `cli` shows any as one line."""
    with contextlib.suppress(EdgeposeError):
        yield


@thoroughly
@given(value=odd_values(), nan=st.booleans())
def test_json_that_is_taken_can_be_written_and_is_the_same(value, nan):
    data = json.dumps(value).encode()

    try:
        read = parse_json(data, nan=nan)
    except ValueError:
        return

    written = json.dumps(read, ensure_ascii=False, allow_nan=nan).encode()
    assert json.dumps(parse_json(written, nan=nan)) == json.dumps(read)


@thoroughly
@given(data=damaged_bytes(json.dumps(PASSPORT).encode()))
def test_json_of_damaged_bytes_is_a_value_or_a_valueerror(data):
    with contextlib.suppress(ValueError):
        parse_json(data)


@thoroughly
@given(data=damaged_json(PASSPORT))
def test_a_damaged_passport_is_described_or_refused(tmp_path_factory, data):
    model = model_beside(tmp_path_factory, data)

    result = run("inspect", model)

    assert result.exit_code in (0, 1), result.exception
    assert result.exit_code == 0 or len(result.stderr.splitlines()) == 1, result.output
    assert all(line.isprintable() for line in (result.stdout + result.stderr).splitlines())
    if result.exit_code == 0:
        assert parse_json(run("inspect", "--json", model).stdout.encode())


def model_beside(tmp_path_factory: pytest.TempPathFactory, passport: bytes) -> Path:
    """A plan with this passport, whose hash is made right wherever the passport is an object."""
    folder = tmp_path_factory.getbasetemp() / "passports"
    folder.mkdir(exist_ok=True)
    model = folder / "m.plan"
    model.write_bytes(b"plan")
    value = json.loads(passport)
    if isinstance(value, dict):
        value.setdefault("sha256", sha256_of(model))
    passport_path(model).write_text(json.dumps(value))
    return model


def check_spec(data: bytes) -> ModelSpec:
    """Read a spec, and do with it what everybody does."""
    spec = ModelSpec.from_json(parse_json(data))
    assert ModelSpec.from_json(parse_json(json.dumps(spec.to_json(), allow_nan=False).encode())) == spec
    assert spec.inputs
    assert spec.outputs
    if spec.region is not None:
        regions = Regions.around(np.array([[0, 0, 10, 20]], np.float32), spec)
        assert np.isfinite(regions.to_grid_matrices(spec.image.size_hw)).all()
    return spec


WHOLE = {"made": SPEC, "format 1": FORMAT_1, **{head["kind"]: spec_of(head) for head in HEADS}}


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_a_spec_of_any_kind_is_read_and_a_damaged_one_is_read_or_refused(whole):
    check_spec(json.dumps(whole).encode())

    @few
    @given(data=damaged_json(whole))
    def check(data: bytes) -> None:
        with contextlib.suppress(ValueError, ModelFileError):
            check_spec(data)

    check()


@pytest.mark.parametrize("passport", [PASSPORT, {**PASSPORT, "edgepose_passport": 1, "spec": FORMAT_1}])
def test_a_whole_passport_of_either_format_is_described(tmp_path_factory, passport):
    assert run("inspect", model_beside(tmp_path_factory, json.dumps(passport).encode())).exit_code == 0


@thoroughly
@given(data=damaged_json(BOXES) | damaged_json(COCO))
def test_damaged_boxes_are_refused_or_usable_and_can_be_written(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "boxes.json"
    path.write_bytes(data)

    with may_be_refused():
        (found,) = boxes_for_images([Path("1.jpg")], path)
        assert found.boxes_xyxy is not None
        assert np.isfinite(found.boxes_xyxy).all()
        scores = rescore(np.ones((len(found.boxes_xyxy), 2), np.float32), found.box_scores)
        assert np.isfinite(scores).all()


@thoroughly
@given(data=damaged_json(COCO))
def test_damaged_annotations_are_refused_or_finite(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "annotations.json"
    path.write_bytes(data)

    with may_be_refused():
        for image in read_annotations(path).images:
            assert np.isfinite(image.keypoints).all()
            assert np.isfinite(image.boxes_xywh).all()
            assert np.isfinite(image.areas).all()


@thoroughly
@given(data=damaged_json(TABLE))
def test_a_damaged_calibration_table_is_not_used_or_of_finite_numbers(tmp_path_factory, data):
    pytest.importorskip("onnx")
    from edgepose.calibration.table import usable_table

    path = tmp_path_factory.getbasetemp() / "table.json"
    path.write_bytes(data)

    table = usable_table(path, TABLE["made_from"])

    if table is not None:
        assert all(math.isfinite(value) and value > 0 for value in table.ranges.values())
        assert all(math.isfinite(value) for values in table.factors.values() for value in values)
        assert all(math.isfinite(value) for values in table.means.values() for value in values)


SUFFIXES = (".jpg", ".png", ".bmp", ".webp", ".tiff")
PICTURES = {suffix: cv2.imencode(suffix, smooth_image(40, 56))[1].tobytes() for suffix in SUFFIXES}


@pytest.mark.parametrize("suffix", PICTURES)
def test_a_damaged_picture_is_read_or_refused_and_nobody_else_speaks(suffix, capfd):
    @thoroughly
    @given(data=damaged_bytes(PICTURES[suffix]))
    def check(data: bytes) -> None:
        with may_be_refused():
            assert images.decode_image(Path("a"), data).dtype == np.uint8

    check()

    assert capfd.readouterr().err == ""


@thoroughly
@given(data=damaged_bytes(with_orientation(PICTURES[".jpg"], 6)))
def test_exif_of_any_bytes_is_turned_or_not(data):
    assert images.turned_by_exif(data) in (True, False)


def toy_onnx(folder: Path) -> bytes:
    return write_toy_model(folder / "toy.onnx").read_bytes()


def test_a_damaged_onnx_is_imported_or_refused(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "spec.json").write_text(json.dumps({**SPEC, "mean": [0, 0, 0], "std": [255, 255, 255]}))

    @few
    @given(data=damaged_bytes(toy_onnx(tmp_path)))
    def check(data: bytes) -> None:
        (tmp_path / "damaged.onnx").write_bytes(data)
        result = run("import", tmp_path / "damaged.onnx", "--spec", tmp_path / "spec.json", "-o", tmp_path / "out")
        assert result.exit_code in (0, 1), result.exception
        assert "Traceback" not in result.stderr

    check()


def test_a_damaged_checkpoint_is_read_or_refused(tmp_path):
    torch = pytest.importorskip("torch")
    from edgepose.export.checkpoints.state_dict import read_checkpoint

    torch.save({"state_dict": {"conv1.weight": torch.zeros(2, 3)}, "epoch": 1}, tmp_path / "whole.pth")

    @thoroughly
    @given(data=damaged_bytes((tmp_path / "whole.pth").read_bytes()))
    def check(data: bytes) -> None:
        (tmp_path / "a.pth").write_bytes(data)
        with may_be_refused():
            assert read_checkpoint(tmp_path / "a.pth")[0]

    check()


def test_damaged_keras_weights_are_read_or_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("torch")
    from edgepose.export.checkpoints.state_dict import read_checkpoint

    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1_conv"]
        group = file.create_group("conv1_conv")
        group.attrs["weight_names"] = [b"conv1_conv/kernel:0"]
        group.create_dataset("conv1_conv/kernel:0", data=np.ones((3, 3, 3, 4), np.float32))

    @few
    @given(data=damaged_bytes((tmp_path / "whole.h5").read_bytes()))
    def check(data: bytes) -> None:
        (tmp_path / "a.h5").write_bytes(data)
        with may_be_refused():
            read_checkpoint(tmp_path / "a.h5")

    check()


def test_a_damaged_video_gives_frames_or_is_refused(tmp_path, capfd):
    from edgepose.io.video import VideoReader, video_file

    with video_file(tmp_path / "whole.mp4", fps=10) as writer:
        for index in range(5):
            writer.write(smooth_image(48, 64, seed=index))

    @few
    @given(data=damaged_bytes((tmp_path / "whole.mp4").read_bytes()))
    def check(data: bytes) -> None:
        (tmp_path / "a.mp4").write_bytes(data)
        with may_be_refused(), contextlib.closing(VideoReader(tmp_path / "a.mp4")) as reader:
            for frame in reader:
                assert frame.ndim == 3

    check()

    assert capfd.readouterr().err == ""


@few
@given(data=damaged_json(COCO))
def test_evaluate_of_damaged_annotations_ends_by_the_contract(tmp_path_factory, data):
    pytest.importorskip("openvino")
    folder = tmp_path_factory.getbasetemp() / "evaluated"
    folder.mkdir(exist_ok=True)
    model = write_toy_model(folder / "m.onnx")
    annotate(folder, {"file_name": "1.jpg"})
    (folder / "annotations.json").write_bytes(data)
    images.write_image(folder / "1.jpg", smooth_image(64, 48))

    result = run("evaluate", "--engine", model, "--images", folder, "--annotations", folder / "annotations.json")

    assert result.exit_code in (0, 1, 3), result.exception
    assert result.exit_code != 1 or len(result.stderr.splitlines()) == 1


@few
@given(data=damaged_json(BOXES))
def test_infer_of_damaged_boxes_ends_by_the_contract(tmp_path_factory, data):
    pytest.importorskip("openvino")
    folder: Any = tmp_path_factory.getbasetemp() / "inferred"
    folder.mkdir(exist_ok=True)
    model = write_toy_model(folder / "m.onnx")
    (folder / "boxes.json").write_bytes(data)
    images.write_image(folder / "1.jpg", smooth_image(64, 48))

    result = run("infer", "--engine", model, folder / "1.jpg", "--boxes", folder / "boxes.json", "-o", folder / "out")

    assert result.exit_code in (0, 1, 3), result.exception
    assert result.exit_code == 1 or parse_json((folder / "out" / "keypoints.json").read_bytes()) is not None


@thoroughly
@given(
    host=st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20)
    | st.sampled_from(["[", "a]b"]),
    path=st.text(st.characters(codec="ascii", min_codepoint=33), max_size=20) | st.just("stream?source=" + "9" * 5000),
)
def test_whatever_a_client_asks_for_is_answered(picture_server, host, path):
    with contextlib.closing(socket.create_connection(("127.0.0.1", picture_server.port), timeout=10)) as client:
        client.sendall(f"GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode("latin-1"))

        assert client.recv(9).startswith(b"HTTP/1.0 ")


@pytest.fixture(scope="module")
def picture_server() -> Iterator[PictureServer]:
    with contextlib.closing(PictureServer(["a"], port=0)) as server:
        yield server
