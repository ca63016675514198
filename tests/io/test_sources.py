from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.io.sources import (
    CaptureSource,
    CsiMode,
    RawFormat,
    RawSource,
    UnopenedSource,
    csi_pipeline,
    is_live,
    open_source,
    open_sources,
    without_password,
)
from edgepose.io.video import video_file
from edgepose.stages.frames import Frame, hw_of

PICTURE = np.full((4, 6, 3), (0, 0, 255), np.uint8)  # red, as OpenCV gives it


class Capture:
    """A capture that gives these in turn: a picture, or None for a broken frame; then it is at its end."""

    def __init__(self, frames: list[Any]) -> None:
        self.frames, self.open = list(frames), True

    def get(self, key: int) -> float:
        return 12.5

    def isOpened(self) -> bool:
        return self.open and bool(self.frames)

    def read(self) -> tuple[bool, Any]:
        frame = self.frames.pop(0) if self.frames else None
        return frame is not None, frame

    def release(self) -> None:
        self.open = False


def source_of(*captures: list[Any] | None, back_off_s: tuple[float, ...] = ()) -> tuple[CaptureSource, list[float]]:
    """A source that is reached with each capture in turn, None where nobody answers; and the pauses it made."""
    left, pauses = list(captures), []

    def connect() -> Any:
        frames = left.pop(0) if left else None
        if frames is None:
            raise InputError("nobody answers")
        return Capture(frames)

    return CaptureSource("stream", connect, back_off_s=back_off_s, sleep=pauses.append), pauses


def test_frames_come_as_they_are_and_numbered():
    source, _ = source_of([PICTURE, PICTURE])

    shots = list(source)

    assert [shot.index for shot in shots] == [0, 1]
    assert isinstance(shots[0].image, Frame)
    assert shots[0].image.format == "bgr"  # no conversion before it is known who wants it
    assert shots[0].image.to_rgb()[0, 0].tolist() == [255, 0, 0]
    assert source.fps == 12.5


def test_a_broken_frame_ends_no_stream():
    source, pauses = source_of([PICTURE, None, PICTURE], back_off_s=(1.0,))
    frames = iter(source)

    assert [next(frames).index, next(frames).index] == [0, 1]
    assert pauses == []


def test_a_changing_resolution_is_survived():
    source, _ = source_of([PICTURE, np.zeros((8, 8, 3), np.uint8)])

    assert [hw_of(shot.image) for shot in source] == [(4, 6), (8, 8)]


def test_a_stream_is_reached_again_later_and_later_and_says_so():
    source, pauses = source_of([PICTURE], None, None, [PICTURE], back_off_s=(0.5, 1.0, 2.0))
    shots = []

    with pytest.raises(InputError, match=r"stream: no more frames after 2, and 3 attempts"):
        shots.extend(source)

    assert [shot.index for shot in shots] == [0, 1]
    assert pauses == [0.5, 1.0, 2.0, 0.5, 1.0, 2.0]
    assert source.notes == ["stream: broke off after frame 1, reached again at attempt 3"]


def test_a_camera_that_is_unplugged_has_ended():
    source, pauses = source_of([PICTURE, None])

    assert len(list(source)) == 1
    assert pauses == []


def test_a_camera_without_a_frame_is_told():
    source, _ = source_of([None])

    with pytest.raises(InputError, match="stream: it answers, but gives no frame; does another program use it"):
        list(source)


def test_a_stream_that_never_gives_a_frame_is_told_after_as_many_attempts_as_there_are_pauses():
    source, pauses = source_of(*[[None]] * 9, back_off_s=(0.5, 1.0, 2.0))

    with pytest.raises(InputError, match="stream: it answers, but gives no frame, nor when reached again 3 times; "):
        list(source)

    assert pauses == [0.5, 1.0, 2.0]
    assert len(source.notes) == 3


def test_a_stream_that_gave_frames_and_then_only_answers_is_told():
    source, _ = source_of([PICTURE], *[[None]] * 9, back_off_s=(0.5, 1.0))

    with pytest.raises(InputError, match="stream: no more frames after 1: it answers, but gives no frame, nor when"):
        list(source)


def test_a_stream_without_a_frame_that_then_is_gone_is_told():
    source, pauses = source_of([None], back_off_s=(0.5, 1.0))

    with pytest.raises(InputError, match="stream: it gave no frame, and then could not be reached 2 times; "):
        list(source)

    assert pauses == [0.5, 1.0]


def test_a_frame_gives_a_stream_all_its_attempts_anew():
    source, _ = source_of(*[[None], [PICTURE]] * 5, back_off_s=(0.5, 1.0))
    shots = []

    with pytest.raises(InputError, match="no more frames after 5, and 2 attempts to reach it again failed"):
        shots.extend(source)

    assert [shot.index for shot in shots] == [0, 1, 2, 3, 4]


def test_nv12_is_handed_on_as_it_is():
    source, _ = source_of([np.zeros((6, 4), np.uint8)])

    (shot,) = source

    assert isinstance(shot.image, Frame)
    assert (shot.image.format, shot.image.hw) == ("nv12", (4, 4))


def test_a_video_file_is_a_source(tmp_path: Path):
    path = tmp_path / "v.mp4"
    with video_file(path, 10) as writer:
        for _ in range(5):
            writer.write(np.zeros((48, 64, 3), np.uint8))

    source = open_source(str(path))
    shots = list(source)
    source.close()

    assert (source.live, source.fps, source.length) == (False, 10, 5)
    assert [shot.seconds for shot in shots] == [0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize("name", ["bgr24", "rgb24", "nv12"])
def test_raw_frames_come_as_they_were_piped(name: str):
    raw = RawFormat((4, 6), name)
    data = np.random.default_rng(0).integers(0, 256, 3 * raw.nbytes, np.uint8).tobytes()

    shots = list(RawSource(io.BytesIO(data), raw))

    assert len(shots) == 3
    assert all(isinstance(shot.image, Frame) and shot.image.hw == (4, 6) for shot in shots)
    assert b"".join(shot.image.pixels.tobytes() for shot in shots if isinstance(shot.image, Frame)) == data


def test_stdin_that_ends_within_a_frame_gives_those_before_it():
    shots = []

    with pytest.raises(InputError, match=r"stdin ended within frame 1: 30 of 72 bytes"):
        shots.extend(RawSource(io.BytesIO(bytes(72 + 30)), RawFormat((4, 6))))

    assert len(shots) == 1


@pytest.mark.parametrize("text", ["", "1280", "1280x", "0x5", "8x8:yuv", "7x7:nv12", "8x8:bgr24:x"])
def test_a_raw_format_that_is_none_is_told(text: str):
    with pytest.raises(InputError, match="--raw"):
        RawFormat.parse(text)


def test_a_raw_format_is_read():
    assert RawFormat.parse("1280x720") == RawFormat((720, 1280), "bgr24", 25)
    assert RawFormat.parse("640x480:nv12:30") == RawFormat((480, 640), "nv12", 30)
    assert RawFormat.parse("640x480:nv12-bt709-full").nbytes == 640 * 480 * 3 // 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/dev/video77", "no such camera"),
        ("nothing.mp4", "no such file"),
        ("csi://x", "csi://0"),
        ("-", "--raw"),
        ("http://127.0.0.1:9/stream", r"http://127.0.0.1:9/stream: cannot be opened"),
    ],
)
def test_a_source_that_is_not_there_is_one_line(text: str, told: str):
    with pytest.raises(InputError, match=told) as error:
        open_source(text)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("texts", [(), ("/dev/video77",), ("/dev/video77", "rtsp://user:secret@127.0.0.1:9/a")])
def test_sources_that_cannot_be_opened_end_at_once_and_say_why(texts: tuple[str, ...]):
    sources = open_sources(texts, alone=False)

    assert [source.name for source in sources] == [text.replace("secret", "***") for text in texts]
    for source in sources:
        with closing(source), pytest.raises(InputError, match=r"no such camera|cannot be opened"):
            next(iter(source))


def test_an_open_source_stays_beside_one_that_cannot_be_opened(tmp_path: Path):
    path = tmp_path / "a.mp4"
    with video_file(path, 10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))

    dead, good = open_sources(["/dev/video77", str(path)])

    assert isinstance(dead, UnopenedSource)
    with closing(good):
        assert len(list(good)) == 1


def test_where_no_source_can_be_opened_the_first_ones_reason_is_the_error():
    with pytest.raises(InputError, match=r"/dev/video77: no such camera.*; nor could 1 others be opened"):
        open_sources(["/dev/video77", "/dev/video78"])


def test_a_csi_camera_without_gstreamer_names_the_cure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cv2.videoio_registry, "getBackends", lambda: [cv2.CAP_FFMPEG])

    with pytest.raises(InputError, match="no GStreamer"):
        open_source("csi://0")


def test_the_csi_pipeline_asks_for_nv12_and_the_newest_frame():
    text = csi_pipeline(1, CsiMode((1080, 1920), 60))

    assert text.startswith("nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM), width=1920, height=1080,")
    assert "framerate=60/1, format=NV12 ! nvvidconv ! video/x-raw, format=NV12 !" in text
    assert text.endswith("appsink drop=true max-buffers=1 sync=false")


def test_a_password_is_not_shown():
    assert without_password("rtsp://me:secret@host:554/a") == "rtsp://me:***@host:554/a"
    assert without_password("rtsp://host:554/a@b") == "rtsp://host:554/a@b"


@pytest.mark.parametrize(
    ("text", "live"), [("0", True), ("/dev/video1", True), ("rtsp://h/a", True), ("a.mp4", False), ("-", False)]
)
def test_what_is_live(text: str, live: bool):
    assert is_live(text) is live
