from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgepose.errors import ModelFileError
from edgepose.files import sha256_of
from edgepose.model.heads.heatmaps import COMBINED, DECODERS, Heatmaps, HeatmapsWithOffsets, Refine
from edgepose.model.passport import Passport, passport_path, read_passport, write_passport
from edgepose.model.skeletons import MPII16, Skeleton
from edgepose.model.spec import Input, ModelSpec, heatmap_spec
from tests.makers import TWO_POINTS, engine_entry, make_engine, make_spec


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
FLAT = {"name": "toy", "input_hw": [64, 48], "heatmap_hw": [16, 12], "skeleton": TWO_POINTS.to_json()}  # format 1
NAN = float("nan")


def test_passport_lies_beside_its_file():
    assert passport_path(Path("a/m.int8.onnx")) == Path("a/m.int8.onnx.json")


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(),
        heatmap_spec("r50", (256, 192), (64, 48)),
        heatmap_spec(
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
        heatmap_spec("two_pass", (128, 128), (32, 32), refine=Refine(share=0.5, decoder="dark")),
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

    assert ModelSpec.from_json(data) == heatmap_spec("mine", (256, 192), (64, 48))


def test_combined_maps_bring_three_channels_a_key_point():
    assert make_spec().num_maps == 2
    assert [decoder for decoder in DECODERS if make_spec(decoder=decoder).num_maps == 6] == list(COMBINED)


def test_a_letterboxed_picture_has_no_region():
    spec = ModelSpec("whole", Input((64, 48), resize="letterbox"), Heatmaps((16, 12)), TWO_POINTS)

    assert ModelSpec.from_json(spec.to_json()) == spec
    assert spec.inputs == {"images": (3, 64, 48)}
    with pytest.raises(ModelFileError, match="whole takes no crops"):
        _ = spec.crop


def test_one_entry_is_changed_wherever_it_lies():
    spec = make_spec().changed(name="other", color_order="bgr", alignment="udp", decoder="udp-combined", blur_kernel=5)

    assert (spec.name, spec.image.color_order, spec.crop.alignment) == ("other", "bgr", "udp")
    assert spec.head == HeatmapsWithOffsets((16, 12), "udp-combined", 5)
    assert make_spec().image.color_order == "rgb"


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
        {"offset_radius": NAN, "decoder": "udp-combined"},
        {"flip_shift": 2},
        {"flip_shift": 1.0},
        {"flip_shift": True},
        {"refine": Refine(0.5, "dark"), "decoder": "udp-combined"},
        {"refine": Refine(0.5, "dark"), "decoder": "udp-combined-v0"},
    ],
)
def test_spec_refuses_values_without_a_meaning(changes):
    key = next(iter(changes))
    named = {"input_hw": "size_hw", "heatmap_hw": "size_hw", "box_padding": "padding"}.get(key, key)
    with pytest.raises(ValueError, match=named) as raised:
        make_spec(**changes)

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "data",
    [
        *(
            {**make_spec().to_json(), **changes}
            for changes in (
                {"colour": "rgb"},
                {"input": None},
                {"input": {}},
                {"input": {"size_hw": "256x192"}},
                {"input": {"size_hw": [64, 48], "resize": "crops"}},
                {"input": {"size_hw": [64, 48], "resize": "letterbox"}},  # and a region
                {"input": {"size_hw": [64, 48], "mean": [10**400, 0, 0]}},
                {"region": {"alignment": 5}},
                {"head": None},
                {"head": {"kind": "maps"}},
                {"head": {"kind": ["heatmaps"]}},
                {"head": {"kind": "heatmaps"}},
                {"head": {"kind": "heatmaps", "size_hw": [16, 12], "decoder": "udp-combined"}},
                {"head": {"kind": "heatmaps", "size_hw": [16, 12], "offset_radius": 0.1}},
                {"head": {"kind": "heatmaps", "size_hw": [16, 12], "refine": {"share": 2}}},
                {"skeleton": None},
            )
        ),
        None,
        [],
        "coco17",
        {},
        {**FLAT, "colour": "rgb"},
        {**FLAT, "input_hw": 256},
        {**FLAT, "input_hw": "256x192"},
        {**FLAT, "mean": None},
        {**FLAT, "mean": ["a", "b", "c"]},
        {**FLAT, "mean": [[1], [2], [3]]},
        {**FLAT, "box_padding": "1.25"},
        {**FLAT, "decoder": ["quarter"]},
        {**FLAT, "decoder": {}},
        {**FLAT, "skeleton": "coco18"},
        {**FLAT, "decoder": "udp-combined", "offset_radius": None},
        {**FLAT, "refine": 0.5},
        {**FLAT, "refine": {"share": 0.5}},
        {**FLAT, "refine": {"share": 1, "decoder": "dark"}},
        {**FLAT, "refine": {"share": "half", "decoder": "dark"}},
        {**FLAT, "refine": {"share": 0.5, "decoder": "udp-combined"}},
        {**FLAT, "refine": {"share": 0.5, "decoder": "udp-combined-v0"}},
    ],
)
def test_damaged_spec_is_one_line(data):
    with pytest.raises(ModelFileError) as raised:
        ModelSpec.from_json(data)

    assert "\n" not in str(raised.value)


def test_spec_error_names_what_is_unknown_and_missing():
    data = dict(FLAT)
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
        {"edgepose_passport": 3},
        {"edgepose_passport": "one"},
        {"spec": REMOVED},
        {"spec": {**make_spec().to_json(), "region": {"padding": 1000}}},
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
        {"engine": engine_entry(max_batch=0)},
        {"engine": engine_entry(max_batch="8")},
        {"engine": engine_entry(targets="sm_87")},
        {"engine": engine_entry(tensorrt=10.3)},
        {"engine": engine_entry(kernels="m.plan.fatbin")},
        {"engine": engine_entry(kernels={"file": "m.plan.fatbin"})},
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
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelFileError, match=r"pipe\.onnx: a pipe or a device, a model file was wanted: save it"):
        read_passport(tmp_path / "pipe.onnx")

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


OLD = sorted((Path(__file__).parent / "format_1").glob("*.json"))


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_a_passport_of_format_1_means_what_it_meant(path):
    data = json.loads(path.read_text())
    entries = {key: tuple(value) if isinstance(value, list) else value for key, value in data["spec"].items()}
    entries["skeleton"] = Skeleton.from_json(entries["skeleton"])

    passport = Passport.from_json(data)

    spec = passport.spec
    assert (spec.image.size_hw, spec.heatmaps.size_hw) == (entries["input_hw"], entries["heatmap_hw"])
    for key, found in (
        *((key, getattr(spec.image, key)) for key in ("color_order", "mean", "std")),
        *((key, getattr(spec.heatmaps, key)) for key in ("decoder", "blur_kernel", "flip_shift")),
        ("box_padding", spec.crop.padding),
        ("alignment", spec.crop.alignment),
        ("skeleton", spec.skeleton),
        ("name", spec.name),
    ):
        assert found == entries[key], key
    key = "offset_radius" if spec.heatmaps.decoder in COMBINED else "quarter_guard"
    assert getattr(spec.heatmaps, key) == entries[key]
    assert (spec.heatmaps.refine is not None) == ("refine" in entries)
    assert Passport.from_json(passport.to_json()) == passport
