"""edgepose verify and what comes of its verdict, on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.cli.verify_command import pictures_of
from edgepose.evaluation.verify import find_onnx
from edgepose.io.images import write_image
from edgepose.model.passport import read_passport, write_passport
from tests.fake_device.install import fake_device, write_toy_plan
from tests.makers import dots_image, dots_spec
from tests.nvcc import needs_nvcc

pytest.importorskip("openvino")
SPEC = dots_spec()


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
