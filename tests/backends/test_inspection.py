"""edgepose inspect."""

from __future__ import annotations

import json

from click.testing import CliRunner

from edgepose.cli import main
from edgepose.files import sha256_of
from edgepose.model.heads.heatmaps import Refine
from edgepose.model.passport import Passport, write_passport
from edgepose.trt.layers import Layer
from tests.makers import make_engine, make_spec


def passported_file(folder, **changes):
    path = folder / "m.onnx"
    path.write_bytes(b"an ONNX file")
    values = {"spec": make_spec(), "precision": "fp32", "sha256": sha256_of(path), "weights": "pose.pth"}
    write_passport(path, Passport(**{**values, **changes}))
    return path


def test_inspect_says_how_a_model_is_fed_and_read(tmp_path):
    path = passported_file(
        tmp_path,
        made_from={"source.onnx": "ab" * 32},
        accuracy=[{"data": "toy", "AP": 0.51234567}],
        engine=make_engine(dla=1),
    )

    result = CliRunner().invoke(main, ["inspect", str(path)])

    assert result.exit_code == 0, result.output
    for part in (
        "64x48 RGB",
        "16x12",
        "left_hand, right_hand",
        "quarter (joint",
        "source.onnx",
        "AP 0.5123",
        "Orin sm_87",
        "DLA core 1",
    ):
        assert part in result.stdout


def test_inspect_tells_accuracy_in_short(tmp_path):
    measured = {
        "annotations": "a.json",
        "annotations_sha256": "ab" * 32,
        "versions": {"numpy": "2"},
        "AP": 0.5,
        "ARM": None,
    }
    path = passported_file(tmp_path, accuracy=[measured])

    lines = CliRunner().invoke(main, ["inspect", str(path)]).stdout.splitlines()

    assert [line for line in lines if line.startswith("accuracy")] == ["accuracy   annotations a.json, AP 0.5"]


def test_inspect_of_a_passport_names_the_model(tmp_path):
    path = passported_file(tmp_path)

    result = CliRunner().invoke(main, ["inspect", f"{path}.json"])

    assert result.exit_code == 1
    assert result.stderr == f"edgepose: {path}.json is a passport: give the model file that it is of, {path}\n"


def test_inspect_tells_of_a_second_pass(tmp_path):
    one_pass = passported_file(tmp_path)
    assert "2nd pass" not in CliRunner().invoke(main, ["inspect", str(one_pass)]).stdout

    two_pass = passported_file(tmp_path, spec=make_spec(refine=Refine(share=0.5, decoder="dark")))

    assert "crops of 0.5 of the side" in CliRunner().invoke(main, ["inspect", str(two_pass)]).stdout


def test_inspect_shows_a_plans_kernels_or_why_they_do_not_serve(tmp_path):
    kernels = tmp_path / "m.onnx.fatbin"
    kernels.write_bytes(b"x" * 3000)
    entry = {"file": kernels.name, "sha256": sha256_of(kernels)}
    path = passported_file(tmp_path, engine=make_engine(kernels=entry))

    assert "m.onnx.fatbin, 3 KiB" in CliRunner().invoke(main, ["inspect", str(path)]).stdout
    kernels.unlink()
    assert "build it again" in CliRunner().invoke(main, ["inspect", str(path)]).stdout


def test_inspect_lists_layers_and_precisions_where_tensorrt_and_a_gpu_are(tmp_path, monkeypatch):
    path = passported_file(tmp_path, engine=make_engine())

    assert "layers     not listed: " in CliRunner().invoke(main, ["inspect", str(path)]).stdout
    layers = [Layer("conv1 + relu", "CaskConvolution", "INT8"), Layer("final", "CaskConvolution", "FP16")]
    monkeypatch.setattr("edgepose.backends.inspection.read_layers", lambda *_: layers)
    listed = CliRunner().invoke(main, ["inspect", str(path)]).stdout
    assert "layers     1 INT8, 1 FP16" in listed
    assert "INT8  CaskConvolution conv1 + relu" in listed


def test_inspect_names_random_weights(tmp_path):
    path = passported_file(tmp_path, weights="random")

    assert "timing only" in CliRunner().invoke(main, ["inspect", str(path)]).stdout


def test_inspect_json_is_the_passport(tmp_path):
    path = passported_file(tmp_path)

    result = CliRunner().invoke(main, ["inspect", str(path), "--json"])

    assert json.loads(result.stdout) == json.loads((tmp_path / "m.onnx.json").read_text())


def test_inspect_refuses_the_passport_of_another_file(tmp_path):
    path = passported_file(tmp_path)
    path.write_bytes(b"another file")

    result = CliRunner().invoke(main, ["inspect", str(path)])

    assert result.exit_code == 1
    assert "belongs to another file" in result.stderr
