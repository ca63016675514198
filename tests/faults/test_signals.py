"""SIGTERM and SIGINT, early and late, and what a killed process leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from edgepose import files
from edgepose.files import temporary_folder, write_bytes
from edgepose.io.video import video_file
from edgepose.limits import LEFTOVER_AGE
from tests.faults.conftest import start, thorough

pytest.importorskip("openvino")

STILL = {"stdout": subprocess.DEVNULL}


def wait_for(folder: Path, pattern: str, size: int = 0) -> None:
    """Until there is such a file of at least so many bytes."""
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size >= size for path in folder.glob(pattern)):
        assert time.monotonic() < deadline, "the work has not begun"
        time.sleep(0.01)


def test_sigterm_keeps_what_was_found_and_leaves_nothing_else(toy, tmp_path):
    out = tmp_path / "out"
    with video_file(tmp_path / "long.mp4", fps=10) as writer:
        for _ in range(3000):
            writer.write(np.zeros((64, 48, 3), np.uint8))
    process = start("infer", "--engine", toy, "--input", tmp_path / "long.mp4", "--boxes", "whole", "-o", out, **STILL)
    wait_for(out, ".edgepose-*.json", size=1000)

    process.terminate()
    _, stderr = process.communicate(timeout=120)

    assert process.returncode == 130
    assert stderr.startswith("interrupted after ")
    assert len(stderr.splitlines()) == 1
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert left - {"long.partial.mp4"} == {"keypoints.partial.json"}  # the video, if a frame of it was written
    assert json.loads((out / "keypoints.partial.json").read_text())


@thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_export_leaves_nothing(tmp_path, number):
    pytest.importorskip("torch")
    process = start("export", "--model", "simplebaseline_tiny", "-o", tmp_path, **STILL)
    wait_for(tmp_path, ".edgepose-*")

    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)

    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def interrupted_after(seconds: float, toy: Path, out: Path) -> tuple[int, str]:
    """Status and stderr of an infer that gets SIGINT so long after our code has begun."""
    code = "import edgepose.__main__ as it; it.interrupts.leave_at_once(); print('begun', flush=True); it.main()"
    process = start("infer", "--engine", toy, "--input", toy.parent, "-o", out, code=code)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr


@pytest.mark.parametrize("seconds", [0, 0.1, pytest.param(0.2, marks=thorough), pytest.param(0.4, marks=thorough)])
def test_an_interrupt_while_modules_load_is_one_line(toy, tmp_path, seconds):
    status, stderr = interrupted_after(seconds, toy, tmp_path / "out")

    assert status in (130, 1)  # 1: it was done before, and found no picture
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith("interrupted") or status == 1
    assert not (tmp_path / "out").exists()


def test_a_signal_that_the_parent_has_ignored_stays_ignored(toy, picture, tmp_path):
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from edgepose.__main__ import main;"
        "import os, threading; threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start(); main()"
    )
    process = start("infer", "--engine", toy, "--input", picture, "-o", tmp_path / "out", code=code)

    assert process.wait(timeout=120) == 0


@pytest.mark.parametrize(("age", "left"), [(LEFTOVER_AGE + 60, []), (LEFTOVER_AGE - 60, [".edgepose-0123abcd.json"])])
def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path, age, left):
    files._remove_leftovers.cache_clear()
    leftover, folder = tmp_path / ".edgepose-0123abcd.json", tmp_path / ".edgepose-x1"
    folder.mkdir()
    (folder / "m.onnx").touch()
    (tmp_path / ".edgeposer").touch()
    leftover.touch()
    for path in (folder / "m.onnx", folder, leftover):
        os.utime(path, times=(time.time() - age, time.time() - age))

    write_bytes(tmp_path / "a.json", b"{}")

    folders = [folder.name] if left else []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*left, *folders, ".edgeposer", "a.json"])


def test_a_file_being_written_is_no_leftover_whatever_its_folders_age(tmp_path):
    files._remove_leftovers.cache_clear()
    folder = tmp_path / ".edgepose-x1"
    folder.mkdir()
    (folder / "m.onnx").touch()
    os.utime(folder, times=(0, 0))

    with temporary_folder(tmp_path):
        pass

    assert folder.exists()
