"""Passports from elsewhere: what they name, and what they hold, is checked when they are read."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from edgepose.model.passport import read_passport, write_passport
from tests.faults.conftest import assert_refused, change_passport, run
from tests.makers import engine_entry

pytest.importorskip("openvino")


@pytest.mark.parametrize("command", ["inspect", "infer", "build"])
def test_a_module_that_a_passport_names_is_not_imported(toy, tmp_path, monkeypatch, command):
    (tmp_path / "from_elsewhere.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    plan = toy.rename(toy.with_name("m.plan"))
    toy.with_name("m.onnx.json").rename(toy.with_name("m.plan.json"))
    change_passport(plan, engine=engine_entry(runtime="from_elsewhere", kernels=None))
    arguments = {"infer": ["--engine", plan, "--input", tmp_path / "a.png"]}.get(command, [plan])
    (tmp_path / "a.png").touch()

    result = run(command, *arguments)

    assert_refused(result, "'from_elsewhere'", "tensorrt, tensorrt_rtx")
    assert "from_elsewhere" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"verified": {"px": float("nan")}}, "NaN"),
        ({"accuracy": [{"AP": float("inf")}]}, "Infinity"),
        ({"verified": {"px": 10**400}}, "beyond what a float holds"),
        ({"weights": "\ud800.pth"}, "surrogate"),
        ({"weights": "a\x1b[2J.pth"}, "control codes"),
        ({"made_from": {"a\n; rm -rf ~": "0" * 64}}, "control codes"),
        ({"engine": engine_entry(targets=[5])}, "targets"),
        ({"engine": engine_entry(targets=[])}, "targets"),
        ({"engine": engine_entry(targets=["sm_87", "sm_x"])}, "targets"),
        ({"engine": engine_entry(max_batch=10**6)}, "max_batch"),
        ({"engine": engine_entry(max_batch=True)}, "max_batch"),
        ({"engine": engine_entry(tensorrt="")}, "tensorrt"),
        ({"engine": engine_entry(dla=10**6)}, "dla"),
        ({"engine": {key: value for key, value in engine_entry().items() if key != "dla"}}, "dla"),
        ({"engine": engine_entry(kernels={"file": "../../k", "sha256": "short"})}, "kernels"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "infer"])
def test_what_would_fail_after_the_work_is_refused_when_it_is_read(toy, picture, tmp_path, command, changes, word):
    change_passport(toy, **changes)
    arguments = {"inspect": [toy], "infer": ["--engine", toy, picture, "-o", tmp_path / "out"]}[command]

    assert_refused(run(command, *arguments), "m.onnx.json", word)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("score", [1e308, float("inf"), float("nan")])
def test_a_box_score_that_float32_does_not_hold_is_an_unusable_box(toy, picture, tmp_path, score):
    boxes = [{"image_id": 7, "bbox": [0, 0, 48, 64], "score": each} for each in (score, 0.5)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    picture = picture.rename(picture.with_name("7.png"))

    result = run("infer", "--engine", toy, picture, "--boxes", tmp_path / "boxes.json", "-o", tmp_path / "out")

    assert result.exit_code == 0, result.output
    assert "1 boxes left out" in result.stderr
    assert len(json.loads((tmp_path / "out" / "keypoints.json").read_text())) == 1


def test_a_name_of_any_bytes_ends_up_in_a_passport_that_can_be_read(toy):
    passport = replace(read_passport(toy), weights="\udcff\x1b.pth")

    write_passport(toy, passport)

    assert read_passport(toy).weights == "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.pth"
