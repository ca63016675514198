from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgepose.cli import main
from edgepose.estimate.detect import EMBEDDED
from edgepose.io.images import write_image
from edgepose.io.video import VideoReader, video_file
from tests.makers import write_toy_model

pytest.importorskip("openvino")
pytest.importorskip("onnx")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path / "m.onnx")


def clip(path: Path, frames: int) -> Path:
    with video_file(path, 10) as writer:
        for _ in range(frames):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    return path


def infer(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["infer", *map(str, arguments)], input=stdin)


def test_two_sources_are_watched_at_once(model: Path, tmp_path: Path):
    first, second = clip(tmp_path / "a.mp4", 4), clip(tmp_path / "b.mp4", 6)

    result = infer("--engine", model, "--source", first, "--source", second, "--format", "jsonl", "-o", tmp_path / "o")

    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [r["frame"] for r in records if r["file_name"] == str(first)] == list(range(4))
    assert [r["frame"] for r in records if r["file_name"] == str(second)] == list(range(6))
    assert [VideoReader(tmp_path / "o/overlays" / f"{name}.mp4").length for name in "ab"] == [4, 6]
    assert "the small detector that comes along" in result.stderr


def test_raw_frames_come_from_stdin_and_go_out_as_a_table(model: Path):
    result = infer(
        "--engine", model, "--source", "-", "--raw", "8x8:rgb24", "--format", "csv", stdin=bytes(3 * 8 * 8 * 3)
    )

    assert result.exit_code == 0, result.output
    (head,) = csv.reader(io.StringIO(result.stdout))
    assert head[:4] == ["source", "frame", "seconds", "track_id"]
    assert "stdin: 3 frames" in result.stderr


def test_stdin_that_ends_within_a_frame_keeps_those_before_it(model: Path):
    result = infer(
        "--engine", model, "--source", "-", "--raw", "8x8:rgb24", "--format", "jsonl", stdin=bytes(8 * 8 * 3 + 5)
    )

    assert result.exit_code == 3
    assert len([line for line in result.stdout.splitlines() if "people" in line]) == 1
    assert "stdin ended within frame 1: 5 of 192 bytes" in result.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "give images with --input, or a video, camera or stream with --source"),
        (["--source", "a.mp4", "--boxes", "whole"], "--boxes goes with --input"),
        (["--input", "a.mp4", "--smooth", "--no-track"], "--smooth needs --track"),
        (["--source", "a.mp4", "--detect-every", "0"], "neither a whole number over 0 nor auto"),
        (["--source", "a.mp4", "--lift", "l.onnx", "--source", "b.mp4"], "--lift goes with one --source at a time"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(model: Path, options: list[str], told: str):
    result = infer("--engine", model, *options)

    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--source", "/dev/video77"], "/dev/video77: no such camera"),
        (["--source", "-"], "need their size and format: --raw"),
        (["--source", "csi://a"], "a CSI camera is csi:// and its number"),
    ],
)
def test_a_source_that_cannot_be_opened_is_one_line(model: Path, options: list[str], told: str):
    result = infer("--engine", model, *options)

    assert result.exit_code == 1
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_dead_source_beside_good_ones_is_told_and_counted(model: Path, tmp_path: Path):
    good, picture = clip(tmp_path / "a.mp4", 3), tmp_path / "b.png"
    write_image(picture, np.zeros((48, 64, 3), np.uint8))
    dead = ["--source", "http://user:secret@127.0.0.1:9/x", "--format", "jsonl"]

    beside_a_video = infer("--engine", model, "--source", good, *dead)
    beside_an_image = infer("--engine", model, "--input", picture, *dead)

    for result, found in ((beside_a_video, 3), (beside_an_image, 1)):
        assert result.exit_code == 3
        assert "http://user:***@127.0.0.1:9/x: cannot be opened" in result.stderr.splitlines()[0]
        records = [json.loads(line) for line in result.stdout.splitlines()]
        assert len([record for record in records if "people" in record]) == found
        assert [record["file_name"] for record in records if "error" in record] == ["http://user:***@127.0.0.1:9/x"]


def test_a_detector_and_a_pose_network_that_were_swapped_are_told(model: Path, tmp_path: Path):
    for options in (("--engine", model, "--detector", model), ("--engine", EMBEDDED)):
        result = infer(*options, "--source", clip(tmp_path / "a.mp4", 2))

        assert result.exit_code == 1
        assert "were --detector and --engine swapped?" in result.stderr


def test_a_port_in_use_is_one_line(model: Path, tmp_path: Path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        result = infer("--engine", model, "--source", clip(tmp_path / "a.mp4", 2), "--serve", port)

    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
