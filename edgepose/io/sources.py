"""Where frames come from: videos, cameras, streams and raw pixels; images are in images.py.

A source is made from what a user writes behind --source: see `open_source`.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import cv2
import numpy as np

from edgepose.errors import InputError
from edgepose.io.opencv_log import silence_opencv
from edgepose.io.resizing import AvCapture, has_pyav
from edgepose.io.video import VideoReader
from edgepose.stages.frames import YUVS, Frame

TIMEOUT_MS = 8000  # until a stream that does not answer is given up
BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # between attempts to reach a stream again; then it has ended
SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")
RAW_FORMATS = ("rgb24", "bgr24", "nv12", *(f"nv12-{yuv}" for yuv in YUVS))  # ffmpeg's names, and what NV12 means

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True)
class Shot:
    """One frame of a source.

    Attributes:
        image: as its decoder or camera gives it: mostly a Frame of BGR or NV12.
        index: its number, from 0; frames that were dropped have numbers too.
        seconds: when it is, from the source's first frame: by the frame rate in a file, by the clock in a live source.
    """

    image: np.ndarray | Frame
    index: int
    seconds: float


class Source(Protocol):
    """Frames of one video, camera or stream, for one pass.

    Attributes:
        name: what it is called in results; a URL without its password.
        live: frames come when they come: those that nobody has time for are dropped.
        fps: frames per second; for a live source what it says of itself, or 25.
        length: frames that are announced; 0 where nobody knows.
        notes: what went wrong on the way and was survived, a line each.
    """

    name: str
    live: bool
    fps: float
    length: int
    notes: list[str]

    def __iter__(self) -> Iterator[Shot]:
        """The frames. InputError, after the last good one, if the source ends in a way that it should not."""
        ...

    def close(self) -> None:
        """Free it; a second call does nothing."""
        ...


def open_source(text: str, *, raw: RawFormat | None = None, csi: CsiMode | None = None) -> Source:
    """The source that a text names.

    Args:
        text: a video file; `/dev/video0` or a number, a camera; `rtsp://`, `http://` and the like, a stream; `csi://0`,
            a camera on a Jetson's CSI port; `-`, raw frames on stdin.
        raw: size and format of stdin's frames.
        csi: what a CSI camera is asked for.

    Raises:
        InputError: it is not there, cannot be opened, or is no video.
    """
    if text == "-":
        if raw is None:
            raise InputError("raw frames on stdin need their size and format: --raw 1280x720:bgr24, say")
        return RawSource(sys.stdin.buffer, raw)
    if text.startswith("csi://"):
        number = text.removeprefix("csi://")
        if not number.isascii() or not number.isdigit():
            raise InputError(f"{text}: a CSI camera is csi:// and its number: csi://0")
        return CaptureSource(text, lambda: _open_csi(text, int(number), csi or CsiMode()))
    if text.lower().startswith(SCHEMES):
        return CaptureSource(without_password(text), lambda: _open_url(text), back_off_s=BACK_OFF_S)
    if (text.isascii() and text.isdigit()) or text.startswith("/dev/video"):
        device = f"/dev/video{text}" if text.isdigit() else text
        return CaptureSource(device, lambda: _open_camera(device))
    return FileSource(Path(text))


def open_sources(
    texts: Sequence[str], *, raw: RawFormat | None = None, csi: CsiMode | None = None, alone: bool = True
) -> list[Source]:
    """The sources that several texts name, opened at the same time; see `open_source`.

    One that cannot be opened keeps none of the others: it is an `UnopenedSource`.

    Args:
        alone: there is nothing else to do: where none can be opened that is an error.

    Raises:
        InputError: `alone`, and none could be opened.
    """

    def opened(text: str) -> Source:
        try:
            return open_source(text, raw=raw, csi=csi)
        except InputError as error:
            return UnopenedSource(without_password(text), error)

    with ThreadPoolExecutor(max_workers=max(1, len(texts))) as pool:
        sources = list(pool.map(opened, texts))
    unopened = [source.error for source in sources if isinstance(source, UnopenedSource)]
    if alone and unopened and len(unopened) == len(texts):
        more = f"; nor could {len(texts) - 1} others be opened" if len(texts) > 1 else ""
        raise InputError(f"{unopened[0]}{more}")
    return sources


def is_live(text: str) -> bool:
    """Whether a text behind --source names a camera or stream, and not a file."""
    camera = (text.isascii() and text.isdigit()) or text.startswith(("/dev/video", "csi://"))
    return camera or text.lower().startswith(SCHEMES)


def without_password(url: str) -> str:
    """A URL as it may be shown: `rtsp://user:secret@host/` -> `rtsp://user:***@host/`."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)


class UnopenedSource:
    """A source that could not be opened, beside others: it ends at once, and says why."""

    live = False
    fps = 25.0
    length = 0

    def __init__(self, name: str, error: InputError) -> None:
        self.name, self.error = name, error
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Shot]:
        raise self.error
        yield

    def close(self) -> None:
        """Nothing: it never was open."""


Capture: TypeAlias = cv2.VideoCapture | AvCapture


class FileSource:
    """A video file: no frame is dropped."""

    live = False

    def __init__(self, path: Path) -> None:
        self._reader = VideoReader(path)
        self.name, self.fps, self.length = str(path), self._reader.fps, self._reader.length
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Shot]:
        for index, image in enumerate(self._reader.frames()):
            yield Shot(image, index, index / self.fps)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class CaptureSource:
    """A camera or stream that OpenCV opens. A stream that breaks off is reached again, with growing pauses.

    Args:
        name: for messages and results.
        connect: opens it; InputError where that fails.
        back_off_s: pauses before each new attempt; () for a camera, which ends when it breaks off.
        sleep: waits; for tests.
    """

    live = True
    length = 0

    def __init__(
        self,
        name: str,
        connect: Callable[[], Capture],
        *,
        back_off_s: tuple[float, ...] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.notes: list[str] = []
        self._connect, self._back_off_s, self._sleep = connect, back_off_s, sleep
        self._capture: Capture | None = connect()
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 0 < fps <= 1000 else 25.0
        self._closed = self._reading = False

    def __iter__(self) -> Iterator[Shot]:
        self._reading = True
        try:
            yield from self._shots()
        finally:
            self._reading = False
            self._release()

    def _shots(self) -> Iterator[Shot]:
        index, start, broken = 0, time.monotonic(), 0
        reached = 0  # times in a row that it was reached again, and gave no frame yet
        while not self._closed:
            image = self._read()
            if image is not None:
                broken = reached = 0
                yield Shot(image, index, time.monotonic() - start)
                index += 1
                continue
            broken += 1
            if self._closed or (not self._back_off_s and index):
                return  # a camera that was unplugged has ended
            if broken <= 3 and self._capture is not None and self._capture.isOpened() and index:
                continue  # one damaged frame ends nothing
            self._reach_again(index, reached)
            broken, reached = 0, reached + 1

    def close(self) -> None:
        """Let the camera or stream go; a thread that reads it lets it go itself, when its read returns."""
        self._closed = True
        if not self._reading:
            self._release()

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _read(self) -> Frame | None:
        """The next frame; None for a broken one, or none."""
        capture = self._capture
        if capture is None:
            return None
        try:
            ok, pixels = capture.read()
        except cv2.error:
            return None
        if not ok or pixels is None or pixels.size == 0:
            return None
        if pixels.ndim == 2:  # GStreamer hands NV12 over as it is
            return Frame(np.ascontiguousarray(pixels), "nv12")
        return Frame(np.asarray(pixels), "bgr")

    def _reach_again(self, index: int, reached: int) -> None:
        """Open the source again, later and later.

        Raises:
            InputError: all attempts have failed, or as many times in a row it was reached and gave no frame.
        """
        self._release()
        tries = len(self._back_off_s)
        so_far = f"{self.name}: no more frames after {index}" if index else self.name
        if reached == tries:
            again = f", nor when reached again {tries} times" if tries else ""
            raise InputError(
                f"{so_far}: it answers, but gives no frame{again}; does another program use it? Does ffplay show it?"
            )
        for attempt, pause in enumerate(self._back_off_s, 1):
            self._sleep(max(pause, self._back_off_s[reached]))
            if self._closed:
                return
            try:
                self._capture = self._connect()
            except InputError:
                continue
            self.notes.append(f"{self.name}: broke off after frame {index}, reached again at attempt {attempt}")
            return
        if index == 0:
            raise InputError(
                f"{self.name}: it gave no frame, and then could not be reached {tries} times; is it still running?"
            )
        raise InputError(f"{so_far}, and {tries} attempts to reach it again failed")


@dataclass(frozen=True)
class RawFormat:
    """Size and pixel format of raw frames: one of RAW_FORMATS."""

    size_hw: tuple[int, int]
    format: str = "bgr24"
    fps: float = 25.0

    def __post_init__(self) -> None:
        height, width = self.size_hw
        if self.format not in RAW_FORMATS:
            raise ValueError(f"a raw format must be one of {', '.join(RAW_FORMATS)}, got {self.format!r}")
        if not (1 <= height <= 16384 and 1 <= width <= 16384):
            raise ValueError(f"raw frames must be of 1 to 16384 pixels a side, got {width}x{height}")
        if self.format.startswith("nv12") and (height % 2 or width % 2):
            raise ValueError(f"NV12 frames have even sides, got {width}x{height}")

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """`1280x720`, `1280x720:nv12` or `1280x720:nv12-bt709:30`: width, height, format, frames a second."""
        size, _, rest = text.partition(":")
        name, _, fps = rest.partition(":")
        match = _SIZE.fullmatch(size)
        try:
            if match is None:
                raise ValueError("wanted WIDTHxHEIGHT")
            return cls((int(match[2]), int(match[1])), name or "bgr24", float(fps or 25))
        except ValueError as error:
            raise InputError(f"--raw {text}: {error}; for example 1280x720:bgr24") from error

    @property
    def nbytes(self) -> int:
        """Of one frame."""
        height, width = self.size_hw
        return height * width * 3 // (2 if self.format.startswith("nv12") else 1)


class RawSource:
    """Raw frames from a pipe; no frame is dropped."""

    live = False
    length = 0

    def __init__(self, stream: BinaryIO, raw: RawFormat) -> None:
        self.name, self.fps = "stdin", raw.fps
        self.notes: list[str] = []
        self._stream, self._raw = stream, raw

    def __iter__(self) -> Iterator[Shot]:
        (height, width), index = self._raw.size_hw, 0
        while data := self._stream.read(self._raw.nbytes):
            if len(data) < self._raw.nbytes:
                raise InputError(
                    f"stdin ended within frame {index}: {len(data)} of {self._raw.nbytes} bytes; are size and format "
                    f"{width}x{height}:{self._raw.format} right?"
                )
            pixels = np.frombuffer(data, np.uint8)
            if self._raw.format.startswith("nv12"):
                yuv = self._raw.format.removeprefix("nv12").removeprefix("-") or "bt601"
                image: np.ndarray | Frame = Frame(pixels.reshape(height * 3 // 2, width), "nv12", yuv=yuv)
            else:
                image = Frame(pixels.reshape(height, width, 3), self._raw.format.removesuffix("24"))
            yield Shot(image, index, index / self.fps)
            index += 1
        if index == 0:
            raise InputError("stdin was empty: no raw frame came")

    def close(self) -> None:
        """Nothing: stdin is not ours to close."""


@dataclass(frozen=True)
class CsiMode:
    """What a CSI camera is asked for; the sensor must have such a mode."""

    size_hw: tuple[int, int] = (720, 1280)
    fps: int = 30

    @classmethod
    def parse(cls, text: str) -> CsiMode:
        """`1280x720` or `1280x720:60`: width, height, frames a second."""
        size, _, fps = text.partition(":")
        match = _SIZE.fullmatch(size)
        if match is None or not (fps or "30").isdigit():
            raise InputError(f"--csi-mode {text}: wanted WIDTHxHEIGHT or WIDTHxHEIGHT:FPS, such as 1280x720:30")
        return cls((int(match[2]), int(match[1])), int(fps or 30))


def csi_pipeline(number: int, mode: CsiMode) -> str:
    """The GStreamer pipeline of a Jetson's CSI camera: NV12 out of the camera's memory, the newest frame only."""
    height, width = mode.size_hw
    return (
        f"nvarguscamerasrc sensor-id={number} ! "
        f"video/x-raw(memory:NVMM), width={width}, height={height}, framerate={mode.fps}/1, format=NV12 ! "
        f"nvvidconv ! video/x-raw, format=NV12 ! "
        f"appsink drop=true max-buffers=1 sync=false"
    )


def _open_csi(name: str, number: int, mode: CsiMode) -> Capture:
    silence_opencv()
    if cv2.CAP_GSTREAMER not in cv2.videoio_registry.getBackends():
        raise InputError(
            f"{name}: this OpenCV has no GStreamer, which CSI cameras need: use JetPack's (apt install "
            f"nvidia-opencv-dev), not the one of pip"
        )
    return _opened(cv2.VideoCapture(csi_pipeline(number, mode), cv2.CAP_GSTREAMER), name, "no camera answers there")


def _open_camera(device: str) -> Capture:
    silence_opencv()
    if not os.path.exists(device):
        raise InputError(f"{device}: no such camera; v4l2-ctl --list-devices lists them")
    if not os.access(device, os.R_OK | os.W_OK):
        raise InputError(f"{device}: permission denied: add yourself to the group video, or ask who owns it")
    return _opened(cv2.VideoCapture(device, cv2.CAP_V4L2), device, "not a camera, or another program uses it")


def _open_url(url: str) -> Capture:
    silence_opencv()
    name = without_password(url)
    why = f"nothing answers there, or what comes within {TIMEOUT_MS // 1000} seconds is no video"
    if has_pyav():
        return _opened(AvCapture(url, TIMEOUT_MS / 1000), name, why)
    if cv2.CAP_FFMPEG not in cv2.videoio_registry.getBackends():
        raise InputError(f"{name}: this OpenCV has no FFmpeg, which streams need")
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    return _opened(cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits), name, why)


def _opened(capture: Capture, name: str, why: str) -> Capture:
    if not capture.isOpened():
        capture.release()
        raise InputError(f"{name}: cannot be opened: {why}")
    return capture
