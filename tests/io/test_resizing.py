from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.io.resizing import AvCapture
from edgepose.io.sources import open_source
from edgepose.io.video import VideoReader
from edgepose.stages.frames import Frame, hw_of

SMALL, LARGE = (48, 64), (96, 160)  # another shape, too: what is scaled to the first one's is stretched


def square(size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 BGR: white from (16, 16) to (32, 32) on black."""
    image = np.zeros((*size_hw, 3), np.uint8)
    image[16:32, 16:32] = 255
    return image


def place_of(image: np.ndarray) -> list[int]:
    """Left, top, right, bottom of what is white."""
    rows, columns = np.nonzero(image[..., 1] > 128)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def transport_stream(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """A video of three frames of each size: transport streams may be joined end to end."""
    av = pytest.importorskip("av")
    data = b""
    for size_hw in sizes:
        with av.open(str(path), "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            for image in [square(size_hw)] * 3:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
            container.mux(stream.encode(None))
        data += path.read_bytes()
    path.write_bytes(data)
    return path


def motion_jpeg(path: Path, sizes: list[tuple[int, int]]) -> None:
    """A file of one JPEG a frame, which announces the first one's size."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width = sizes[0]
        stream.pix_fmt = "yuvj420p"
        for i, size_hw in enumerate(sizes):
            packet = av.Packet(cv2.imencode(".jpg", square(size_hw))[1].tobytes())
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = i
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)


@pytest.fixture
def url() -> Iterator[str]:
    """A stream of motion JPEG, two small frames and two large ones."""

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for size_hw in (SMALL, SMALL, LARGE, LARGE):
                jpeg = cv2.imencode(".jpg", square(size_hw))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Stream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("sizes", [[SMALL, LARGE], [LARGE, SMALL]])
def test_each_frame_of_a_file_has_its_own_size_and_pixels(tmp_path: Path, sizes: list[tuple[int, int]]):
    path = transport_stream(tmp_path / "a.ts", sizes)

    frames = list(VideoReader(path))

    assert list(dict.fromkeys(frame.shape[:2] for frame in frames)) == sizes
    assert len(frames) >= 5  # MPEG-2's decoder holds one back, which is lost where the two were joined
    assert all(place_of(frame) == [16, 16, 32, 32] for frame in frames)


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mov"])
def test_each_frame_has_its_own_size_also_where_the_file_announces_one(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    sizes = [SMALL, SMALL, LARGE, LARGE, SMALL]
    motion_jpeg(path, sizes)

    frames = list(VideoReader(path))

    assert [frame.shape[:2] for frame in frames] == sizes
    assert all(place_of(frame) == [16, 16, 32, 32] for frame in frames)


def test_each_frame_of_a_stream_has_its_own_size_and_pixels(url: str):
    pytest.importorskip("av")
    source = open_source(url)
    shots = []

    for shot in source:
        shots.append(shot)
        if len(shots) == 4:
            source.close()

    assert [hw_of(shot.image) for shot in shots] == [SMALL, SMALL, LARGE, LARGE]
    for shot in shots:
        assert isinstance(shot.image, Frame)
        assert place_of(shot.image.to_rgb()) == [16, 16, 32, 32]


@pytest.mark.parametrize("turn", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_metadata_turn_a_frame_as_opencv_turns_it(tmp_path: Path, turn: tuple[int, int, int, int]):
    av = pytest.importorskip("av")
    path = tmp_path / "a.mkv"  # what is inside is an MP4, whose matrix is easily set
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = SMALL
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(square(SMALL), -16, axis=0), "bgr24")))
        container.mux(stream.encode(None))
    before, header, after = path.read_bytes().partition(b"tkhd")
    path.write_bytes(before + header + after.replace(matrix(1, 0, 0, 1), matrix(*turn), 1))
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    _, expected = capture.read()
    assert capture.get(cv2.CAP_PROP_ORIENTATION_META) != 0

    (frame,) = VideoReader(path)

    assert frame.shape == expected.shape
    assert place_of(frame) == place_of(expected)


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    """Of an MP4's track header: x goes to a x + c y, y to b x + d y."""
    return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)


def test_what_is_no_video_does_not_open(tmp_path: Path):
    pytest.importorskip("av")
    (tmp_path / "text.ts").write_text("no video")

    capture = AvCapture(str(tmp_path / "text.ts"))

    assert not capture.isOpened()
    assert capture.read() == (False, None)
    capture.release()


def test_what_pyav_does_not_open_is_read_by_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reader = VideoReader(transport_stream(tmp_path / "a.ts", [SMALL, SMALL]))
    monkeypatch.setattr("edgepose.io.video.AvCapture", lambda name: AvCapture(f"{name}.missing"))

    assert len(list(reader)) == 6


def test_without_pyav_frames_are_scaled_to_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = transport_stream(tmp_path / "a.ts", [SMALL, LARGE])
    monkeypatch.setattr("edgepose.io.video.has_pyav", lambda: False)

    assert {frame.shape[:2] for frame in VideoReader(path)} == {SMALL}
