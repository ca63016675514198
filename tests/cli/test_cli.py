from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from edgepose import cli
from edgepose.cli import COMMANDS, main
from edgepose.cli.progress import progress, steps
from edgepose.errors import InputError

HEAVY = ["cv2", "openvino", "onnxruntime", "onnx", "torch", "onnxsim", "pycocotools"]
HEAVY += ["tensorrt", "tensorrt_rtx", "pycuda", "PIL", "h5py", "scipy"]
BARE = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None  # as if it were not installed
import edgepose
from edgepose.cli import main
for arguments in {[["--help"], *([name, "--help"] for name in COMMANDS)]}:
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0, arguments
"""


def test_every_help_works_with_numpy_and_click_alone():
    process = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)

    assert process.returncode == 0, process.stderr
    assert process.stdout.count("Usage:") == 1 + len(COMMANDS)


def test_importing_edgepose_loads_nothing_heavy():
    code = f"import sys, edgepose; print([name for name in {HEAVY} if name in sys.modules])"

    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_there_under_its_name(name):
    command = main.get_command(click.Context(main), name)

    assert command is not None
    assert command.name == name


@pytest.mark.parametrize("name", ["export", "import", "calibrate", "build", "infer", "demo"])
def test_every_command_that_writes_files_takes_o_for_their_place(name):
    assert " -o, --out" in CliRunner().invoke(main, [name, "--help"]).stdout


def test_an_unknown_command_is_wrong_usage():
    assert CliRunner().invoke(main, ["fly"]).exit_code == 2


def run_and_raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    """Run a command that raises."""

    @click.command("models")
    def command() -> None:
        raise error

    monkeypatch.setattr(main, "get_command", lambda context, name: command)
    return CliRunner().invoke(main, ["models"])


def test_what_the_user_can_act_on_is_one_line_and_exit_status_1(monkeypatch):
    result = run_and_raise(monkeypatch, InputError("a.jpg: first\n  second"))

    assert (result.exit_code, result.stderr) == (1, "edgepose: a.jpg: first second\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EISDIR, errno.EFBIG])
def test_files_that_cannot_be_written_are_one_line(monkeypatch, number):
    result = run_and_raise(monkeypatch, OSError(number, "why", "out.json"))

    assert result.exit_code == 1
    assert re.fullmatch(r"edgepose: out.json: why: [a-z ,]+; nothing half-written was left\n", result.stderr)


@pytest.mark.parametrize(
    ("temporary", "wanted"), [("o/.edgepose-x1/m.onnx", "o/m.onnx"), ("o/.edgepose-x1", "o/"), ("a.json", "a.json")]
)
def test_the_wanted_file_is_named_not_its_temporary_folder(monkeypatch, temporary, wanted):
    result = run_and_raise(monkeypatch, OSError(errno.EACCES, "Permission denied", temporary))

    assert result.stderr.startswith(f"edgepose: {wanted}: Permission denied: name a place you may use;")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["infer", "--help"]])
def test_a_full_disk_behind_the_help_is_one_line(arguments):
    code = f"from edgepose.cli import main; main({arguments})"
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)

    assert process.returncode == 1
    assert process.stderr.startswith("edgepose: output: No space left on device")
    assert len(process.stderr.splitlines()) == 1


def test_progress_passes_everything_on_and_is_seen_at_a_terminal_only(monkeypatch, capsys):
    assert list(progress("images", [1, 2, 3], 3)) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    assert list(progress("images", iter([1, 2, 3]), 3)) == [1, 2, 3]
    assert "images" in capsys.readouterr().err


def test_ctrl_c_is_exit_status_130(monkeypatch):
    result = run_and_raise(monkeypatch, KeyboardInterrupt("after 3 images"))

    assert (result.exit_code, result.stderr) == (130, "interrupted after 3 images; nothing half-written was left\n")


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("libfoo.so: cannot open shared object file")])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    result = run_and_raise(monkeypatch, error)

    assert result.exception is error


@pytest.mark.parametrize(("weights", "told"), [("random", True), ("published", False)])
def test_random_weights_are_told(capsys, tmp_path, weights, told):
    from edgepose.model.passport import Passport
    from tests.makers import make_spec

    cli.warn_of_random_weights(Path("m.onnx"), Passport(make_spec(), "fp32", "0" * 64, weights))

    assert ("random" in capsys.readouterr().err) == told


def test_steps_are_shown_on_one_line_at_a_terminal_only(monkeypatch, capsys):
    with steps() as show:
        show("Building", 1, 2)
    assert capsys.readouterr().err == ""

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with steps() as show:
        show("Building", 1, 2)
    assert "Building 1/2" in capsys.readouterr().err
