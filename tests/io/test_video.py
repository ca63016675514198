from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.errors import EdgeposeError, InputError
from edgepose.io.video import VideoReader, VideoWriter, video_file


def write_clip(path: Path, frames: int = 12, height: int = 48, width: int = 64) -> Path:
    with video_file(path, fps=20) as writer:
        for index in range(frames):
            writer.write(np.full((height, width, 3), (15 * index, 0, 100), np.uint8))
    return path


@pytest.mark.parametrize("size", [(48, 64), (49, 65), (2, 2), (1, 1)])
def test_frames_read_back_in_order_as_rgb(tmp_path, size):
    reader = VideoReader(write_clip(tmp_path / "a.mp4", 12, *size))

    frames = list(reader)

    assert (reader.length, reader.fps) == (12, 20)
    assert frames[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    reds = [frame[..., 0].mean() for frame in frames]
    assert np.abs(np.array(reds) - 15 * np.arange(12)).max() < 8  # the codec is lossy
    assert frames[0][..., 2].mean() > 80 > frames[0][..., 1].mean()


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
@pytest.mark.parametrize("content", ["empty", "text", "random", "truncated"])
def test_what_is_no_video_is_one_line_and_nothing_else(tmp_path, capfd, suffix, content):
    data = {
        "empty": b"",
        "text": b"hello\n" * 100,
        "random": np.random.default_rng(0).bytes(5000),
        "truncated": write_clip(tmp_path / "whole.mp4").read_bytes()[:600],
    }[content]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)

    with pytest.raises(InputError) as error:
        list(VideoReader(path))

    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_missing_video_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        VideoReader(tmp_path / "none.mp4")


def test_a_video_that_ends_early_gives_its_frames_and_then_the_error(tmp_path):
    reader = VideoReader(write_clip(tmp_path / "a.mp4"))
    reader.length = 30
    frames = []

    with pytest.raises(InputError, match="ends after 12 of 30 frames"):
        frames.extend(reader)

    assert len(frames) == 12


def test_a_video_that_was_not_written_whole_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", _Unreadable)

    with pytest.raises(EdgeposeError, match="only 0 of 12 frames"):
        write_clip(tmp_path / "a.mp4")

    assert list(tmp_path.iterdir()) == []


class _Unreadable:
    """What OpenCV gives for a file that a full disk cut off."""

    def __init__(self, path: str) -> None: ...

    def isOpened(self) -> bool:
        return False

    def release(self) -> None: ...


def test_an_interrupted_video_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(VideoWriter, "write", interrupt)

    with pytest.raises(KeyboardInterrupt):
        write_clip(tmp_path / "a.mp4")

    assert list(tmp_path.iterdir()) == []


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
