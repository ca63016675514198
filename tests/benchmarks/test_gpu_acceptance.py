"""The acceptance run as a whole: its rows, table, groups in processes, and exit status. Nothing here runs on a GPU."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from zipfile import ZipFile

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.benchmarks import gpu_acceptance
from edgepose.benchmarks.gpu.processes import MARK, print_rows, run_group
from edgepose.benchmarks.gpu.rows import (
    FAILED,
    HEAD,
    OK,
    SKIPPED,
    Finding,
    Row,
    SkippedError,
    count_results,
    exit_status,
    run_check,
)
from edgepose.benchmarks.gpu_acceptance import BUDGETS, do_group, install, main
from edgepose.errors import MissingPackageError
from edgepose.machine.gpu import Gpu
from tests.makers import dots_spec, write_toy_model

GPU = Gpu("NVIDIA H100", (9, 0), 132, False, (13, 0))
GOOD, BAD = Row("speed", "crop", OK, "4.1 us", "5 us"), Row("speed", "decode", FAILED, "9 us", "4 us")


@pytest.mark.parametrize(
    ("outcome", "result", "found"),
    [
        (Finding(True, "fine"), OK, "fine"),
        (Finding(False, "3 px", "1 px"), FAILED, "3 px"),
        (SkippedError("no golden files"), SKIPPED, "no golden files"),
        (MissingPackageError("pycuda", "jetson"), SKIPPED, "pycuda"),
        (RuntimeError("cuLaunchKernel failed:\n illegal address"), FAILED, "RuntimeError: cuLaunchKernel failed: ill"),
    ],
)
def test_whatever_a_check_does_becomes_a_row(outcome, result, found):
    def check():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    row = run_check("kernels", "crop", check)

    assert row.result == result
    assert found in row.found


def test_a_row_is_one_line_of_five_cells():
    line = Row("a", "b", FAILED, "x | y").markdown()

    assert line.count("|") == HEAD.splitlines()[0].count("|") == 6


def test_only_a_failure_gives_status_1():
    skipped = Row("a", "b", SKIPPED, "no TensorRT")

    assert exit_status([GOOD, skipped]) == 0
    assert exit_status([GOOD, BAD, skipped]) == 1
    assert count_results([GOOD, BAD, skipped]) == "1 ok, 1 failed, 1 skipped"


def test_the_groups_fit_into_two_calls_of_ten_minutes():
    first = [
        seconds
        for group, seconds in BUDGETS.items()
        if group not in ("frames", "threads", "endurance", "trtexec", "faults")
    ]
    assert sum(first) <= 570
    assert sum(BUDGETS.values()) <= 2 * 570


def test_without_a_gpu_one_line_says_so_and_the_status_is_2(monkeypatch):
    monkeypatch.setattr(gpu_acceptance, "find_gpu", lambda: None)

    result = CliRunner().invoke(main, [])

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "no NVIDIA GPU or driver was found: nothing was checked; see edgepose doctor\n"


def test_without_a_gpu_the_bundle_is_looked_at_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_acceptance, "find_gpu", lambda: None)
    write_toy_model(tmp_path / "m.onnx", dots_spec())
    write_toy_model(tmp_path / "damaged.onnx", dots_spec()).write_bytes(b"half of it")
    np.save(tmp_path / "frame.npy", np.zeros((4, 6, 3), np.uint8))
    np.save(tmp_path / "boxes.npy", np.array([[0, 0, 6, 4]], np.float32))

    result = CliRunner().invoke(main, ["--models", str(tmp_path)])

    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == f"{tmp_path}: 1 networks that fit their passports, 1 people in a frame of 6x4"
    assert "belongs to another file" in lines[1]
    assert [line.split(" is missing")[0] for line in lines[2:4]] == [
        str(tmp_path / name) for name in ("kernels.fatbin", "faulty")
    ]
    assert lines[4:] == ["no NVIDIA GPU or driver was found: nothing was checked; see edgepose doctor"]


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def printed(row: Row) -> str:
    return f"print({MARK + json.dumps(asdict(row))!r}, flush=True)"


def test_rows_are_printed_as_they_are_read(capsys):
    print_rows(iter([GOOD, BAD]))

    assert list(run_group(program(f"print({capsys.readouterr().out!r})"), "speed", 60, {})) == [GOOD, BAD]


def test_rows_come_out_of_a_groups_process_among_other_output(capsys):
    rows = list(run_group(program(f"print('a library says');{printed(GOOD)};{printed(BAD)}"), "speed", 60, {}))

    assert rows == [GOOD, BAD]
    assert capsys.readouterr().err == "a library says\n"


@pytest.mark.parametrize(
    ("ending", "seconds", "reason"),
    [
        ("import os; os.abort()", 60, "the process ended with status -6"),
        ("raise SystemExit(3)", 60, "the process ended with status 3"),
        ("import time; time.sleep(60)", 2, "out of time after 2 s"),
    ],
)
def test_a_group_that_dies_or_hangs_leaves_its_rows_and_a_failure(ending, seconds, reason):
    rows = list(run_group(program(f"{printed(GOOD)}\n{ending}"), "speed", seconds, dict(os.environ)))

    assert rows[0] == GOOD
    assert (rows[1].group, rows[1].result) == ("speed", FAILED)
    assert reason in rows[1].found


def test_the_table_is_printed_and_written_and_a_failed_group_does_not_end_the_run(monkeypatch, tmp_path):
    def rows_of(command, group, seconds, environment):
        assert seconds == 2 * BUDGETS[group]
        assert command[command.index("--group") + 1] == group
        yield Row(group, "a check", FAILED if group == "speed" else OK, "found")

    monkeypatch.setattr(gpu_acceptance, "find_gpu", lambda: GPU)
    monkeypatch.setattr(gpu_acceptance, "run_group", rows_of)

    result = CliRunner().invoke(main, ["--out", str(tmp_path / "docs/gpu.md"), "--patience", "2"])

    assert result.exit_code == 1
    written = (tmp_path / "docs/gpu.md").read_text()
    assert written == result.stdout
    assert "GPU: NVIDIA H100 (sm_90, 132 SMs), driver for CUDA 13.0" in written
    assert [line.split(" | ")[0] for line in written.splitlines() if "a check" in line] == [f"| {g}" for g in BUDGETS]
    assert f"\n{len(BUDGETS) - 1} ok, 1 failed, 0 skipped\n" in written


def test_only_the_groups_asked_for_are_run(monkeypatch):
    monkeypatch.setattr(gpu_acceptance, "find_gpu", lambda: GPU)
    monkeypatch.setattr(gpu_acceptance, "run_group", lambda command, group, *_: iter([Row(group, "c", OK, "f")]))

    result = CliRunner().invoke(main, ["--only", "threads"])

    assert result.exit_code == 0
    assert "1 ok, 0 failed, 0 skipped" in result.stdout


def test_what_a_group_that_ran_out_of_time_had_started_ends_with_it():
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(30)'])"
    start = time.monotonic()

    (row,) = run_group(program(child), "speed", 1, dict(os.environ))

    assert "out of time" in row.found
    assert time.monotonic() - start < 25  # it holds the pipe as long as it lives


def test_conditions_that_changed_under_load_are_told_after_the_table(monkeypatch):
    clocks = iter([["GPU: one", "clock: 345 MHz"], ["GPU: one", "clock: 1980 MHz"]])
    monkeypatch.setattr(gpu_acceptance, "find_gpu", lambda: GPU)
    monkeypatch.setattr(gpu_acceptance, "condition_lines", lambda: next(clocks))
    monkeypatch.setattr(gpu_acceptance, "run_group", lambda command, group, *_: iter([Row(group, "c", OK, "f")]))

    result = CliRunner().invoke(main, ["--only", "threads"])

    assert result.stdout.endswith("0 skipped\n\n- right after, clock: 1980 MHz\n")


@pytest.mark.parametrize("group", BUDGETS)
def test_a_group_whose_packages_are_missing_is_skipped_by_name(monkeypatch, tmp_path, group):
    for module in ("pycuda", "pycuda.driver", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "edgepose.cuda.memory", raising=False)

    rows = list(do_group(group, tmp_path, tmp_path, None, 1))

    assert [row.result for row in rows] == [SKIPPED]
    assert ("pycuda" if group in ("kernels", "speed") else "TensorRT") in rows[0].found


def test_models_that_are_there_are_not_made(monkeypatch, tmp_path):
    monkeypatch.setattr("edgepose.benchmarks.gpu.engine_checks.require_builder", lambda: None)
    (tmp_path / "m.onnx").write_bytes(b"")

    assert list(do_group("models", tmp_path, tmp_path, None, 1)) == []


def test_a_package_that_the_folder_lacks_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_acceptance, "PACKAGES", {"absent_module": "absent-package", "numpy": "numpy"})

    (line,) = install(tmp_path, tmp_path / "site")

    assert line.startswith(f"absent-package was not installed from {tmp_path}: ")
    assert install(None, tmp_path / "site") == []


def test_what_a_folder_holds_is_installed_without_a_network_and_its_version_is_said(monkeypatch, tmp_path):
    wheel = tmp_path / "carried_package-1.2.3-py3-none-any.whl"
    info = "carried_package-1.2.3.dist-info"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("carried_module.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carried-package\nVersion: 1.2.3\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setattr(gpu_acceptance, "PACKAGES", {"carried_module": "carried-package"})
    monkeypatch.setattr(gpu_acceptance, "find_gpu", lambda: GPU)
    monkeypatch.setattr(gpu_acceptance, "run_group", lambda *_: [])
    monkeypatch.setattr(sys, "path", [*sys.path])

    result = CliRunner().invoke(main, ["--packages", str(tmp_path), "--only", "kernels"])

    assert result.exit_code == 0, result.output
    assert "carried-package 1.2.3" in result.stdout


def test_preparing_an_unknown_model_is_a_usage_error(tmp_path):
    result = CliRunner().invoke(main, ["--prepare", str(tmp_path), "--model", "other"])

    assert result.exit_code == 2
    assert "simplebaseline_tiny" in result.stderr
