"""edgepose verify and what comes of its verdict, on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.backends import load_backend
from edgepose.cli import main, warn_of_unverified
from edgepose.cli.verify_command import pictures_of
from edgepose.evaluation.verify import find_onnx
from edgepose.io.images import write_image
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.model.verdict import Verdict
from tests.fake_device.install import fake_device, write_toy_plan
from tests.makers import dots_image, dots_spec, make_engine
from tests.nvcc import needs_nvcc
from tests.trt.test_every_kind import SPECS

pytest.importorskip("openvino")
SPEC = dots_spec()
DEEP = SPECS[1]  # key points with depth: the CPU cuts its crops


def invoke(*words: object):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def picture(tmp_path):
    write_image(tmp_path / "p.png", dots_image((8, 20), (28, 40)))
    return tmp_path / "p.png"


@needs_nvcc
def test_the_verdict_is_printed_and_kept_and_infer_warns_until_it_is_there(tmp_path, picture):
    with fake_device():
        plan = write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=1)
        infer = ("infer", "--engine", plan, "--input", picture, "--boxes", "whole", "-o", tmp_path / "out")
        before = invoke(*infer)
        done = invoke("verify", plan, "--images", picture, "--repeats", 2)
        after = invoke(*infer)
        told = invoke("verify", plan, "--images", picture, "--repeats", 1, "--json")

    assert done.exit_code == 0, done.output
    assert f"{plan} agrees with the CPU (" in done.output
    verdict = read_passport(plan).plan.verdict
    assert verdict is not None
    assert verdict.agrees
    warning = f"never compared with the CPU on a GPU: edgepose verify {plan}"
    assert (warning in before.output, warning in after.output) == (True, False)
    assert json.loads(told.stdout)["agrees"] is True


@needs_nvcc
def test_a_wrong_plan_is_exit_status_1_and_infer_repeats_the_verdict(tmp_path, picture):
    with fake_device():
        plan = write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=1, scale=1.25)
        done = invoke("verify", plan, "--images", picture, "--repeats", 1)
        infer = invoke("infer", "--engine", plan, "--input", picture, "--boxes", "whole", "-o", tmp_path / "out")

    assert done.exit_code == 1
    assert "WRONG: network: heat maps of 1 crops" in done.output
    assert "is not right: WRONG: network" in infer.output


@pytest.fixture
def without_cpu_runtimes(monkeypatch):
    for name in ("edgepose.backends.openvino", "edgepose.backends.openvino_graph", "edgepose.backends.ort"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)


@needs_nvcc
def test_without_a_cpu_runtime_verify_and_best_say_what_to_install(tmp_path, picture, monkeypatch, request):
    with fake_device():
        plan = write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=1)
        opened = load_backend(plan)
        monkeypatch.setattr(
            "edgepose.evaluation.verify.load_backend",
            lambda path, **how: opened if path == plan else load_backend(path, **how),
        )
        request.getfixturevalue("without_cpu_runtimes")
        told = invoke("verify", plan, "--images", picture)
        shutil.copy(tmp_path / "m.onnx", tmp_path / "m.fp16.onnx")
        shutil.copy(tmp_path / "m.onnx.json", tmp_path / "m.fp16.onnx.json")
        best = invoke("build", tmp_path / "m.onnx", "--best", "--images", picture)

    assert (told.exit_code, best.exit_code) == (1, 1)
    assert re.fullmatch(
        r"edgepose: a plan is compared with the CPU, .*pip install 'edgepose\[cpu\]'.*\n", told.output
    ), told.output
    assert re.fullmatch(r"edgepose: .*pip install 'edgepose\[cpu\]'.*\n", best.output), best.output


@pytest.mark.parametrize(
    ("spec", "agrees", "kernels", "said"),
    [
        (SPEC, None, True, "was never compared"),
        (SPEC, None, False, ""),
        (SPEC, True, True, ""),
        (SPEC, False, True, "is not right: in words"),
        (DEEP, None, True, "was never compared"),
        (DEEP, False, True, "is not right: in words"),
        (DEEP, True, True, ""),
    ],
)
def test_infer_says_of_each_plan_that_verify_compares_what_came_of_it(capsys, spec, agrees, kernels, said):
    engine = make_engine(**({} if kernels else {"kernels": None}))
    engine = replace(engine, verdict=None if agrees is None else Verdict(agrees, "in words"))

    warn_of_unverified(Path("m.plan"), Passport(spec, "fp32", "", "toy", engine=engine))

    assert (said in capsys.readouterr().err) if said else capsys.readouterr().err == ""


def test_an_onnx_that_is_not_there_or_another_is_one_line(tmp_path):
    plan, onnx = write_toy_plan(tmp_path / "m.plan", SPEC), tmp_path / "m.onnx"
    other = write_toy_plan(tmp_path / "other.plan", dots_spec(color_order="bgr"), batch=2).with_suffix(".onnx")

    with fake_device():
        wrong = invoke("verify", plan, "--onnx", other)
        assert find_onnx(plan, read_passport(plan)) == onnx
        onnx.unlink()
        missing = invoke("verify", plan)

    assert (wrong.exit_code, missing.exit_code) == (1, 1)
    assert "is not what" in wrong.output
    assert "copy it there, or name it with --onnx" in missing.output


def test_a_passport_that_does_not_say_what_the_plan_was_built_from_is_one_line(tmp_path):
    plan = write_toy_plan(tmp_path / "m.plan", SPEC)
    write_passport(plan, replace(read_passport(plan), made_from={}))

    with fake_device():
        result = invoke("verify", plan)

    assert result.exit_code == 1
    assert "does not say what it was built from: build it again" in result.output


def test_an_onnx_in_place_of_a_plan_is_said_and_is_no_target_of_a_build(tmp_path):
    onnx = write_toy_plan(tmp_path / "m.plan", SPEC).with_suffix(".onnx")

    with fake_device():
        result = invoke("verify", onnx)

    assert result.exit_code == 1
    assert (
        result.output
        == f"edgepose: {onnx} is an ONNX; wanted: the plan that was built from it (edgepose build {onnx})\n"
    )


@needs_nvcc
def test_a_broken_picture_is_told_and_the_others_are_compared(tmp_path, picture):
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "a.png").write_bytes(b"not a picture")
    picture.rename(tmp_path / "people" / "b.png")
    with fake_device():
        plan = write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=1)
        done = invoke("verify", plan, "--images", tmp_path / "people", "--repeats", 1)
        (tmp_path / "people" / "b.png").unlink()
        none = invoke("verify", plan, "--images", tmp_path / "people", "--repeats", 1)

    assert done.exit_code == 3, done.output
    assert "a.png: not a readable image" in done.stderr
    assert f"{plan} agrees with the CPU (" in done.stdout
    assert none.exit_code == 1
    assert re.fullmatch(r"edgepose: \S*a\.png: not a readable image.*\n", none.output)


def test_drawn_pictures_show_people():
    pictures, _ = pictures_of(None)

    assert [boxes.shape for _, boxes in pictures] == [(3, 4)] * 3
    assert all(image.dtype == np.uint8 for image, _ in pictures)
