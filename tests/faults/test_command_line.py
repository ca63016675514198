"""Streams, paths and numbers on the command line."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.faults.conftest import BEGIN, assert_refused, run, start, thorough
from tests.makers import dots_image

pytest.importorskip("openvino")


@pytest.mark.parametrize("stdin", [b"", b"\n \n"])
def test_no_path_on_stdin_is_an_error(toy, tmp_path, stdin):
    result = run("infer", "--engine", toy, "--input", "-", "-o", tmp_path / "out", stdin=stdin)

    assert_refused(result, "stdin names no file")
    assert not (tmp_path / "out").exists()


def test_closed_stdin_and_stderr_are_empty_ones(toy, picture, tmp_path):
    code = f"import os, sys; os.close(0); os.close(2); sys.stdin = sys.stderr = None; {BEGIN}"
    infer = ("infer", "--engine", toy, "--boxes", "whole", "-o", tmp_path / "out", "--input")

    process = start(*infer, picture, code=code)
    stdout, _ = process.communicate(timeout=120)

    assert process.returncode == 0
    assert stdout.startswith("images: 1, people: 1")
    assert (tmp_path / "out" / "keypoints.json").stat().st_size > 100


@thorough
def test_closed_stdin_names_no_file(toy, tmp_path):
    line = " ".join(["exec", "python", "-m", "edgepose", "infer", "--engine", str(toy), "--input", "-", "<&-"])

    done = subprocess.run(["bash", "-c", line.replace("python", sys.executable, 1)], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (1, "edgepose: stdin names no file: give paths, one a line\n")


def test_names_on_stdin_may_be_any_bytes(toy, picture, tmp_path):
    shutil.copy(picture, os.fsencode(tmp_path) + b"/\xff.png")
    names = os.fsencode(tmp_path) + b"/\xff.png\n" + os.fsencode(picture) + b"\n"

    result = run("infer", "--engine", toy, "--boxes", "whole", "--input", "-", "-o", tmp_path / "out", stdin=names)

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("images: 2, people: 2")


def test_a_circle_of_links_is_one_unreadable_file(toy, picture, tmp_path):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")

    result = run("infer", "--engine", toy, "--input", "-", "-o", tmp_path / "out", stdin=f"{picture}\n{tmp_path}/one\n")

    assert result.exit_code == 3
    assert "one: Too many levels of symbolic links" in result.stderr


@pytest.mark.parametrize("length", [250, 255])
def test_a_long_name_ends_nothing(toy, picture, tmp_path, length):
    long = "x" * (length - 4) + ".png"
    shutil.copy(picture, picture.with_name(long))
    (tmp_path / "more").mkdir()
    shutil.copy(picture, tmp_path / "more" / long)

    result = run(
        "infer", "--engine", toy, "--input", picture.parent, "--input", tmp_path / "more", "-o", tmp_path / "out"
    )

    assert result.exit_code == 0, result.stderr
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 3


@pytest.mark.parametrize("name", ["pipe", "device"])
@pytest.mark.parametrize("option", ["--input", "--boxes"])
def test_what_may_never_end_is_no_input(toy, picture, tmp_path, name, option):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    inputs = [] if option == "--input" else ["--input", picture]

    assert_refused(run("infer", "--engine", toy, *inputs, option, tmp_path / name), f"{name}: a pipe or a device")


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer", "--threads", "9" * 20],
        ["evaluate", "--threads", "1025"],
        ["benchmark", "--threads", "1000000000"],
        ["benchmark", "--seconds", "inf"],
        ["benchmark", "--seconds", "nan"],
        ["infer", "--min-box-score", "nan"],
        ["export", "--input", f"{'9' * 5000}x192"],
        ["export", "--input", "٣x٣"],
    ],
)
def test_a_number_that_is_none_is_wrong_usage(arguments):
    result = run(*arguments)

    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[1]}'" in result.stderr
    assert len(result.stderr) < 500


def test_a_removed_working_directory_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert_refused(run("models"), "working directory")


def test_too_little_memory_to_load_anything_is_one_line(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (300 << 20, resource.RLIM_INFINITY))

    assert_refused(run("models"), "300 MiB", "ulimit -v")


@thorough
@pytest.mark.parametrize("mib", [100, 300, 440, 600, 700, 900, 1100])
def test_whatever_memory_there_is_the_end_is_one_line(toy, picture, tmp_path, mib):
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({mib << 20}, {mib << 20})); {BEGIN}"
    infer = ("infer", "--engine", toy, "--input", picture, "--boxes", "whole", "-o", tmp_path / "out")

    process = start(*infer, code=code)
    _, stderr = process.communicate(timeout=120)

    assert (process.returncode, len(stderr.splitlines())) == (1, 1), stderr
    assert "memory" in stderr


@thorough
def test_a_limit_of_file_sizes_names_the_file(tmp_path):
    pytest.importorskip("torch")
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); {BEGIN}"

    process = start("export", "--model", "simplebaseline_tiny", "-o", tmp_path, code=code)
    _, stderr = process.communicate(timeout=120)

    assert process.returncode == 1
    assert stderr.splitlines()[-1].startswith(f"edgepose: {tmp_path}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Exception from core.cpp:1: std::bad_alloc")])
def test_out_of_memory_is_not_taken_for_a_damaged_file(error):
    from edgepose.backends.runtime import reason

    with pytest.raises(MemoryError):
        reason(error)


def test_out_of_memory_is_one_line(toy, picture, tmp_path, monkeypatch):
    from edgepose.backends import openvino

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(openvino, "read_onnx", full)

    assert_refused(run("infer", "--engine", toy, "--input", picture, "-o", tmp_path / "out"), "out of memory")


def test_a_damaged_middle_of_a_jpeg_is_told_with_its_name_and_status_3(toy, tmp_path, capfd):
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    for name, image in (("whole.jpg", dots_image((8, 20), (28, 40))), ("hole.jpg", noise)):
        cv2.imwrite(str(folder / name), image)
    data = bytearray((folder / "hole.jpg").read_bytes())
    del data[len(data) // 2 : len(data) // 2 + 2000]
    (folder / "hole.jpg").write_bytes(data)

    result = run("infer", "--engine", toy, "--input", folder, "-o", tmp_path / "out")

    assert result.exit_code == 3
    assert "hole.jpg: the image is damaged (Corrupt JPEG data" in result.stderr
    assert "images: 1" in result.stdout
    assert capfd.readouterr().err == ""


def test_annotations_cannot_open_what_is_outside_the_folder_of_images(tmp_path):
    from edgepose.evaluation.evaluate import image_path

    (tmp_path / "images" / "sub").mkdir(parents=True)
    for place in ("secret.png", "images/here.png", "images/sub/deep.png"):
        (tmp_path / place).touch()
    folder = tmp_path / "images"

    assert image_path(folder, "sub/deep.png") == folder / "sub" / "deep.png"
    assert image_path(folder, "val2017/here.png") == folder / "here.png"
    for name in ("../secret.png", str(tmp_path / "secret.png"), "sub/../../secret.png", "a/../../../secret.png"):
        assert image_path(folder, name) == folder / "secret.png"


def test_an_unknown_dataset_of_a_model_that_has_one_alone_is_said():
    pytest.importorskip("torch")
    from edgepose.export.zoo.find import find_model
    from edgepose.export.zoo.model import ChoiceError

    with pytest.raises(ChoiceError, match="no coco form"):
        find_model("simplebaseline_tiny", dataset="coco")


def test_a_passport_that_leads_to_a_command_is_quoted(toy):
    from edgepose.model.passport import Passport
    from edgepose.trt.plan import build_line
    from tests.makers import make_engine, make_spec

    passport = Passport(make_spec(), "fp32", "0" * 64, "w", made_from={"a; rm -rf ~": "0" * 64}, engine=make_engine())

    assert build_line(toy, passport).startswith("edgepose build 'a; rm -rf ~' -o ")
