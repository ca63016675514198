from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepose.errors import ModelFileError
from edgepose.files import sha256_of
from edgepose.model.passport import Passport, passport_path, read_passport, write_passport
from edgepose.model.skeletons import MPII16
from edgepose.model.spec import COMBINED, DECODERS, ModelSpec, Refine
from tests.makers import make_engine, make_spec


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file with its passport."""
    path = tmp_path / "m.onnx"
    path.write_bytes(b"weights")
    write_passport(path, make_passport(sha256=sha256_of(path)))
    return path


def make_passport(**changes: Any) -> Passport:
    return Passport(**{"spec": make_spec(), "precision": "fp32", "sha256": "0" * 64, "weights": "w.pth", **changes})


def rewrite(model: Path, **changes: Any) -> None:
    """Change entries of the passport's JSON; None of a key takes it out."""
    path = passport_path(model)
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not REMOVED}))


REMOVED = object()
NAN = float("nan")


def test_passport_lies_beside_its_file():
    assert passport_path(Path("a/m.int8.onnx")) == Path("a/m.int8.onnx.json")


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(),
        ModelSpec("r50", (256, 192), (64, 48)),
        ModelSpec(
            "all",
            (384, 288),
            (96, 72),
            skeleton=MPII16,
            color_order="bgr",
            mean=(1.5, 2, 3),
            std=(0.1, 1, 255),
            box_padding=1.5,
            alignment="darkpose",
            decoder="udp-combined",
            blur_kernel=17,
            quarter_guard="independent",
            offset_radius=0.1,
            flip_shift=0,
        ),
        ModelSpec("two_pass", (128, 128), (32, 32), refine=Refine(share=0.5, decoder="dark")),
    ],
)
def test_file_brings_everything_back(tmp_path, spec):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"weights")
    written = make_passport(
        spec=spec,
        sha256=sha256_of(model),
        weights_sha256="ab",
        made_from={"m.pth": "cd"},
        versions={"torch": "2.6"},
        verified={"keypoint_px": 1e-4},
        accuracy=[{"AP": 0.7}],
        engine=make_engine(),
    )

    write_passport(model, written)

    assert read_passport(model) == written


def test_spec_written_by_hand_needs_four_entries_only():
    data = {"name": "mine", "input_hw": [256, 192], "heatmap_hw": [64, 48], "skeleton": "coco17"}

    assert ModelSpec.from_json(data) == ModelSpec("mine", (256, 192), (64, 48))


def test_combined_maps_bring_three_channels_a_key_point():
    assert make_spec().output_channels == 2
    assert [decoder for decoder in DECODERS if make_spec(decoder=decoder).output_channels == 6] == list(COMBINED)


def test_random_weights_are_marked():
    assert make_passport(weights="random").random_weights
    assert not make_passport().random_weights


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": 3},
        {"input_hw": (256,)},
        {"input_hw": (256.0, 192)},
        {"heatmap_hw": (1, 48)},
        {"heatmap_hw": (64, 10**6)},
        {"color_order": "RGB"},
        {"mean": (0, 0)},
        {"mean": (0, 0, NAN)},
        {"std": (1, 1, 0)},
        {"std": (1, -1, 1)},
        {"std": (1, 1, float("inf"))},
        {"box_padding": 0},
        {"box_padding": NAN},
        {"alignment": "center"},
        {"decoder": "soft"},
        {"blur_kernel": 4},
        {"blur_kernel": 33},
        {"blur_kernel": 11.0},
        {"blur_kernel": True},
        {"quarter_guard": "none"},
        {"offset_radius": NAN},
        {"flip_shift": 2},
        {"flip_shift": 1.0},
        {"flip_shift": True},
        {"refine": Refine(0.5, "dark"), "decoder": "udp-combined"},
        {"refine": Refine(0.5, "dark"), "decoder": "udp-combined-v0"},
    ],
)
def test_spec_refuses_values_without_a_meaning(changes):
    key = next(iter(changes))
    with pytest.raises(ValueError, match=key) as raised:
        make_spec(**changes)

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "coco17",
        {},
        {**make_spec().to_json(), "colour": "rgb"},
        {**make_spec().to_json(), "input_hw": 256},
        {**make_spec().to_json(), "input_hw": "256x192"},
        {**make_spec().to_json(), "mean": None},
        {**make_spec().to_json(), "mean": ["a", "b", "c"]},
        {**make_spec().to_json(), "mean": [[1], [2], [3]]},
        {**make_spec().to_json(), "box_padding": "1.25"},
        {**make_spec().to_json(), "decoder": ["quarter"]},
        {**make_spec().to_json(), "decoder": {}},
        {**make_spec().to_json(), "skeleton": "coco18"},
        {**make_spec().to_json(), "offset_radius": None},
        {**make_spec().to_json(), "refine": 0.5},
        {**make_spec().to_json(), "refine": {"share": 0.5}},
        {**make_spec().to_json(), "refine": {"share": 1, "decoder": "dark"}},
        {**make_spec().to_json(), "refine": {"share": "half", "decoder": "dark"}},
        {**make_spec().to_json(), "refine": {"share": 0.5, "decoder": "udp-combined"}},
        {**make_spec().to_json(), "refine": {"share": 0.5, "decoder": "udp-combined-v0"}},
    ],
)
def test_damaged_spec_is_one_line(data):
    with pytest.raises(ModelFileError) as raised:
        ModelSpec.from_json(data)

    assert "\n" not in str(raised.value)


def test_spec_error_names_what_is_unknown_and_missing():
    data = make_spec().to_json()
    data["colour"] = data.pop("input_hw")

    with pytest.raises(ModelFileError, match="unknown colour; missing input_hw"):
        ModelSpec.from_json(data)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[1, 2]",
        b'"passport"',
        b"{}",
        b'{"edgepose_passport": 1}',
        b'{"edgepose_passport": 1, "spec": []}',
        b"\x80\x04\x95 not text",
        b"\xff\xfe",
        b"[" * 200_000,
        b"name: m\nprecision: fp32\n",
        bytes(range(256)) * 4,
    ],
)
def test_a_file_that_is_no_passport_is_one_line(model, content):
    passport_path(model).write_bytes(content)

    with pytest.raises(ModelFileError) as raised:
        read_passport(model)

    assert str(passport_path(model)) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_truncation_is_refused(model):
    path = passport_path(model)
    whole = path.read_bytes()

    for length in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            read_passport(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"edgepose_passport": 2},
        {"edgepose_passport": "one"},
        {"spec": REMOVED},
        {"spec": {**make_spec().to_json(), "box_padding": 1000}},
        {"sha256": REMOVED},
        {"sha256": 5},
        {"weights": REMOVED},
        {"weights": []},
        {"weights_sha256": 1},
        {"precision": REMOVED},
        {"precision": "fp8"},
        {"precision": ["fp32"]},
        {"made_from": "m.pth"},
        {"versions": []},
        {"verified": None},
        {"accuracy": {}},
        {"engine": "plan"},
        {"engine": {}},
        {"engine": make_engine(max_batch=0)},
        {"engine": make_engine(max_batch="8")},
        {"engine": make_engine(targets="sm_87")},
        {"engine": make_engine(tensorrt=10.3)},
        {"engine": make_engine(kernels="m.plan.fatbin")},
        {"engine": make_engine(kernels={"file": "m.plan.fatbin"})},
        {"made_from": {"m.pth": 5}},
        {"versions": {"torch": None}},
        {"verified": {"px": "abc"}},
        {"accuracy": [5]},
        {"owner": "me"},
    ],
)
def test_wrong_entries_are_one_line_that_names_them(model, changes):
    (key,) = changes
    rewrite(model, **changes)

    with pytest.raises(ModelFileError) as raised:
        read_passport(model)

    named = {"edgepose_passport": "format", "spec": "spec"}.get(key, key)
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_absent_files_are_named(tmp_path, model):
    with pytest.raises(ModelFileError, match=r"none\.onnx: no such file"):
        read_passport(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="a folder, a model file was wanted"):
        read_passport(tmp_path)

    passport_path(model).unlink()

    with pytest.raises(ModelFileError, match=r"has no passport .*edgepose import"):
        read_passport(model)


def test_a_file_that_cannot_be_read_is_one_line(model, monkeypatch):
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edgepose.model.passport.sha256_of", refuse)

    with pytest.raises(ModelFileError, match=r"cannot be read .Permission denied"):
        read_passport(model)


def test_a_passport_of_another_file_is_refused(model):
    model.write_bytes(b"other weights")

    with pytest.raises(ModelFileError, match="belongs to another file"):
        read_passport(model)


def test_numbers_that_are_none_are_never_written(model):
    before = passport_path(model).read_bytes()

    with pytest.raises(ValueError, match="JSON"):
        write_passport(model, make_passport(accuracy=[{"AP": NAN}]))

    assert passport_path(model).read_bytes() == before
    assert sorted(path.name for path in model.parent.iterdir()) == ["m.onnx", "m.onnx.json"]
