"""Plans of SimCC vectors and volumes compared with the CPU on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.backends import load_backend
from edgepose.cli import main
from edgepose.errors import InputError
from edgepose.evaluation.best import fastest, measure_candidates
from edgepose.evaluation.vector_check import check_vectors
from edgepose.model.heads.volume import Volume
from edgepose.model.spec import ModelSpec
from tests.fake_device.gpu import FakeGpu
from tests.fake_device.install import fake_device, write_plan_of
from tests.makers import smooth_image
from tests.nvcc import needs_nvcc
from tests.trt.test_every_kind import BOXES, SPECS, write_network_of

pytest.importorskip("onnxruntime")
pytestmark = needs_nvcc
PICTURES = [(smooth_image(), BOXES)]
OF_CROPS = pytest.mark.parametrize("spec", SPECS[:3], ids=lambda spec: spec.name)
CROPPED_HERE = pytest.mark.parametrize("spec", SPECS[1:3], ids=lambda spec: spec.name)  # whose crops the CPU cuts


def check(folder: Path, spec: ModelSpec, gpu: FakeGpu, pictures=PICTURES, **settings):
    onnx = write_network_of(folder / "m.onnx", spec)
    plan = write_plan_of(onnx, folder / "m.plan", spec, **{"max_batch": 3, **settings})
    with load_backend(onnx, backend="onnxruntime") as cpu, load_backend(plan) as opened:
        found = check_vectors(cpu, opened, pictures, repeats=4)
    assert gpu.problems == []
    return found


@CROPPED_HERE
@pytest.mark.parametrize("settings", [{}, {"max_batch": 1}, {"max_batch": 8}, {"engine": {"kernels": None}}], ids=str)
def test_a_right_plan_agrees_in_every_form(tmp_path, spec, settings):
    with fake_device() as gpu:
        found = check(tmp_path, spec, gpu, **settings)

    assert [row for row in found.rows if not row.agrees] == []
    names = [row.name for row in found.rows]
    assert {"key points of 1", "key points of 1, flip test", "4 frames twice over"} <= set(names)
    assert found.verdict.startswith("agrees with the CPU (")
    assert ("the plan's outputs decoded" in names) == ("engine" not in settings)


@CROPPED_HERE
@pytest.mark.parametrize("fault", ["scale", "nan", "kernel"])
def test_a_fault_is_found_and_named(tmp_path, spec, fault):
    name, at = ("volume_f32", 1) if isinstance(spec.head, Volume) else ("simcc_f32", 6)

    def move(values: tuple) -> None:
        (ctypes.c_float * 2).from_address(values[at])[:] = [9, 9]

    with fake_device() as gpu:
        if fault == "kernel":
            gpu.spoil[name] = move
        found = check(tmp_path, spec, gpu, **{"scale": {"scale": 1.25}, "nan": {"nan": True}}.get(fault, {}))

    wanted = {
        "scale": "network: .* of 3 crops: differ by 2.5e-01",
        "nan": "network: .* of 3 crops: differ by nan",
        "kernel": "decoding kernel: the plan's outputs decoded: .* (input px|px of the volume) at most",
    }
    assert re.search(f"^WRONG: {wanted[fault]}", found.verdict), found.verdict


def test_a_plan_of_vectors_without_kernels_agrees(tmp_path):
    with fake_device() as gpu:
        found = check(tmp_path, SPECS[0], gpu, engine={"kernels": None})

    assert found.fault == ""
    assert found.verdict.startswith("agrees with the CPU (")


def test_results_that_change_from_run_to_run_are_found(tmp_path, monkeypatch):
    spec = SPECS[1]
    onnx = write_network_of(tmp_path / "m.onnx", spec)
    with fake_device():
        plan = load_backend(write_plan_of(onnx, tmp_path / "m.plan", spec, max_batch=2))
        drift, keypoints = iter(np.linspace(0, 0.01, 1000)), plan.keypoints
        monkeypatch.setattr(plan, "keypoints", lambda *args, **named: keypoints(*args, **named) + next(drift))

        found = check_vectors(load_backend(onnx, backend="onnxruntime"), plan, PICTURES, repeats=3)

    assert found.fault == "repetition"


@OF_CROPS
def test_the_best_of_several_plans_is_chosen_by_their_shift_and_time(tmp_path, spec, monkeypatch):
    monkeypatch.setattr("edgepose.evaluation.best.CONFIDENT", -np.inf)  # the network's weights are random
    onnx = write_network_of(tmp_path / "m.onnx", spec)
    with fake_device():
        right, wrong = (
            write_plan_of(onnx, tmp_path / f"{name}.plan", spec, max_batch=2, nan=name == "wrong")
            for name in ("right", "wrong")
        )
        found = measure_candidates(onnx, [(onnx, right), (onnx, wrong)], PICTURES, seconds=0.01)

    assert found[0].shift is not None
    assert found[0].shift["mean"] < 0.1
    assert fastest(found, 0.1) is found[0]


def test_pictures_without_a_box_are_one_line(tmp_path):
    with fake_device() as gpu, pytest.raises(InputError, match="no picture shows a usable box"):
        check(tmp_path, SPECS[1], gpu, [(smooth_image(), BOXES[:0])])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_command_compares_plans_of_key_points_and_says_in_one_line_that_it_does_not_compare_others(tmp_path, spec):
    pytest.importorskip("openvino")
    with fake_device():
        plan = write_plan_of(write_network_of(tmp_path / "m.onnx", spec), tmp_path / "m.plan", spec, max_batch=2)
        done = CliRunner().invoke(main, ["verify", str(plan), "--repeats", "1"])

    if spec in SPECS[:5]:
        assert done.exit_code == 0, done.output
        assert "m.plan agrees with the CPU (" in done.output
    else:
        assert done.exit_code == 1
        assert re.fullmatch(r"edgepose: .*m\.plan gives \S+, and verify compares heat maps.*evaluate.*\n", done.output)
