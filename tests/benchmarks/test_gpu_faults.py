"""The acceptance run's own faults and its comparison with trtexec, on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

import stat
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest

from edgepose.benchmarks.gpu import trtexec
from edgepose.benchmarks.gpu.models import BOXES, FAULTY, FRAME, spoil_a_copy
from edgepose.benchmarks.gpu.rows import SkippedError
from edgepose.benchmarks.gpu.trtexec import check_against_trtexec
from tests.evaluation.test_first_layer import SPEC, write_named
from tests.fake_device.install import fake_device, write_plan_of, write_toy_plan
from tests.makers import dots_image
from tests.nvcc import needs_nvcc

pytest.importorskip("openvino")
pytest.importorskip("onnx")


@needs_nvcc
def test_each_fault_is_found_and_named_and_no_fault_is_no_success(tmp_path, monkeypatch):
    from edgepose.benchmarks.gpu import faults

    models, work = tmp_path / "models", tmp_path / "work"
    models.mkdir()
    work.mkdir()
    onnx = write_named(models / "m.onnx")
    np.save(models / FRAME, dots_image((8, 20), (28, 40)))
    np.save(models / BOXES, np.array([[0, 0, 48, 64]], np.float32))
    tensor = {"Dimensions": [1, 2, 4, 4], "Format/Datatype": "Float"}
    told = {"Name": "body", "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor]}
    layers = [{**told, "Weights": {"Type": "Float", "Count": 9}}]
    monkeypatch.setattr(
        faults, "build_engine", lambda source, plan, _: write_plan_of(source, plan, SPEC, max_batch=2, layers=layers)
    )
    with fake_device() as gpu:
        monkeypatch.setattr("edgepose.trt.layers.find_gpu", lambda: gpu.gpu)
        with pytest.raises(SkippedError, match="--prepare makes it"):
            faults.check_wrong_layer(models, work / "wrong.plan")
        spoil_a_copy(onnx, models / FAULTY)

        findings = {name: check() for name, check in faults.fault_checks(models, work)}
        without = faults.check_fault(models, onnx, work / "faults.plan", "crop kernel", nullcontext)

    assert [name for name, finding in findings.items() if not finding.ok] == [], findings
    assert len(findings) == 4
    assert "the first that differs is body:" in findings["one layer's scale"].found
    assert "body" in findings["FP32 where INT8 was meant"].found
    assert not without.ok


def stand_in(folder, median: float | None):
    """A trtexec that says so; None: that refuses the plan, as NVIDIA's does."""
    path = folder / "trtexec"
    line = f"[I] GPU Compute Time: min = 0.1 ms, max = 9 ms, mean = 1 ms, median = {median} ms, percentile(90%) = 1 ms"
    told = f"print({line!r})"
    refuses = "print('[E] Version tag does not match.'); sys.exit(1)"
    path.write_text(f"#!{sys.executable}\nimport sys\n{refuses if median is None else told}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(("median", "right"), [(1.0, True), (1.04, True), (1.06, True), (0.94, False)])
def test_trtexecs_time_is_read_and_5_percent_more_are_allowed(tmp_path, monkeypatch, median, right):
    with fake_device() as gpu:
        write_toy_plan(tmp_path / "m.plan", max_batch=2)
        stand_in(tmp_path, median)
        monkeypatch.setenv("PATH", str(tmp_path))
        times, _ = trtexec.engine_ms(tmp_path / "m.plan", 2, 3)
        assert len(times) == 3
        assert gpu.problems == []
        monkeypatch.setattr(trtexec, "engine_ms", lambda *_: ([1.0, 1.0, 9.0], 0))

        finding = check_against_trtexec(tmp_path, 2)

    assert finding.ok is right
    assert f"edgepose 1.0000 ms, trtexec {median:.4f} ms" in finding.found


@pytest.mark.parametrize(
    ("count", "profile", "tensorrt", "asks"), [(1, 1, "10.3.0", True), (2, 0, "10.16.1", True), (2, 0, "11.4.1", False)]
)
def test_trtexec_runs_the_profile_that_edgepose_takes_and_is_asked_for_a_graph_where_that_is_no_default(
    tmp_path, monkeypatch, count, profile, tensorrt, asks
):
    commands = []
    run = subprocess.run
    monkeypatch.setattr(
        trtexec.subprocess, "run", lambda command, **how: commands.append(command) or run(command, **how)
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    stand_in(tmp_path, 1.0)
    with fake_device():
        write_toy_plan(tmp_path / "m.plan", max_batch=2, alone=True, engine={"tensorrt": tensorrt})

        check_against_trtexec(tmp_path, count, repeats=1)

    assert f"--useProfile={profile}" in commands[0]
    assert [flag in commands[0] for flag in ("--useCudaGraph", "--noDataTransfers")] == [asks, asks]


def test_where_trtexec_is_absent_or_refuses_the_plan_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(trtexec, "ELSEWHERE", str(tmp_path))
    with fake_device():
        write_toy_plan(tmp_path / "m.plan", max_batch=2)
        with pytest.raises(SkippedError, match="there is no trtexec on PATH or in"):
            check_against_trtexec(tmp_path, 1)
        stand_in(tmp_path, None)
        with pytest.raises(SkippedError, match=r"does not run m.plan: \[E\] Version tag does not match"):
            check_against_trtexec(tmp_path, 1, repeats=1)
