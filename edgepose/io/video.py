"""Video files in and out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgepose.errors import EdgeposeError, InputError
from edgepose.files import whole_file
from edgepose.io.opencv_log import silence_opencv
from edgepose.io.resizing import AvCapture, has_pyav
from edgepose.stages.frames import Frame

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts")

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when the first video is opened


class VideoReader:
    """Frames of a video file, in order. Metadata that turns a picture upright is obeyed.

    Where frames change their size on the way, each has its own where PyAV is installed; else the first one's.

    Attributes:
        fps: frames per second; 25 where the file does not say.
        length: frames that the file announces; 0 where it does not say.

    Raises:
        InputError: the file is missing, empty, truncated, or no video.
    """

    def __init__(self, path: Path) -> None:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file")
        silence_opencv()
        has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()  # others write to stderr about bad files
        self.path = Path(path)
        self._capture: cv2.VideoCapture | AvCapture = cv2.VideoCapture(
            str(path), cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY
        )
        if not self._capture.isOpened():
            raise InputError(f"{path}: not a readable video (empty, truncated, or of a kind that OpenCV does not read)")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 0 < fps <= 1000 else 25.0
        self.length = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each frame as (H, W, 3) uint8 RGB; see `frames`."""
        for frame in self.frames():
            yield frame.to_rgb()

    def frames(self) -> Iterator[Frame]:
        """Each frame as the decoder gives it, BGR: a GPU takes it so.

        Raises:
            InputError: after the last frame that could be read, if the file announces noticeably more.
        """
        count = 0
        if has_pyav():
            resizing = AvCapture(str(self.path))
            if resizing.isOpened():
                self._capture.release()
                self._capture = resizing
        while True:
            ok, pixels = self._capture.read()
            if not ok:
                break
            count += 1
            yield Frame(np.asarray(pixels), "bgr")
        if count == 0 and self.length == 0:
            raise InputError(f"{self.path}: a video of 0 frames; was its recording interrupted?")
        if count == 0 or count < 0.95 * self.length:  # some containers only estimate their length
            raise InputError(f"{self.path}: the video ends after {count} of {self.length} frames: it is damaged")

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class VideoWriter:
    """Writes RGB frames of one size; see `video_file`."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: _H264 | _Mpeg4 | None = None
        self._size_wh = (0, 0)
        self.frames = 0

    def write(self, frame: np.ndarray) -> None:
        """Add one (H, W, 3) uint8 RGB frame; the first one decides the size."""
        height, width = frame.shape[:2]
        if self._writer is None:
            self._size_wh = (width + width % 2, height + height % 2)  # the codec halves its colour planes
            kind = _H264 if has_pyav() else _Mpeg4
            self._writer = kind(self._path, self._fps, self._size_wh)
        right, bottom = self._size_wh[0] - width, self._size_wh[1] - height
        if right < 0 or bottom < 0 or right > 1 or bottom > 1:
            frame, right, bottom = cv2.resize(frame, self._size_wh), 0, 0
        self._writer.write(cv2.copyMakeBorder(frame, 0, bottom, 0, right, borderType=cv2.BORDER_REPLICATE))
        self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _H264:
    """By PyAV, which every browser plays."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int]) -> None:
        import av

        self._av: Any = av
        try:
            self._container: Any = av.open(str(path), "w", format="mp4")
            self._stream: Any = self._container.add_stream("h264", rate=Fraction(fps).limit_denominator(1001))
            self._stream.width, self._stream.height = size_wh
            self._stream.pix_fmt = "yuv420p"
        except (av.FFmpegError, ValueError) as error:
            raise EdgeposeError(f"PyAV cannot write a {size_wh[0]}x{size_wh[1]} H.264 video: {error}") from error

    def write(self, frame: np.ndarray) -> None:
        """Add an RGB frame."""
        self._encode(self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24"))

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        try:
            self._encode(None)
        finally:
            self._container.close()

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            raise EdgeposeError(f"the video could not be written: {error}") from error


class _Mpeg4:
    """By OpenCV, whose wheels have no H.264."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int]) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size_wh)
        if not self._writer.isOpened():
            raise EdgeposeError(
                f"this OpenCV cannot write a {size_wh[0]}x{size_wh[1]} MPEG-4 video: use --no-save-overlay for videos"
            )

    def write(self, frame: np.ndarray) -> None:
        """Add an RGB frame."""
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()


@contextmanager
def video_file(path: Path, fps: float) -> Iterator[VideoWriter]:
    """An MP4 file to write frames to: H.264 where PyAV is installed, else MPEG-4.

    After an interrupt or an error what was written until then, which plays, is PATH's stem with .partial.mp4.

    Raises:
        EdgeposeError: OpenCV cannot write such a video, or not all frames arrived on the disk.
    """
    with whole_file(path) as temporary:
        writer = VideoWriter(temporary, fps)
        try:
            yield writer
        except BaseException:
            with suppress(EdgeposeError, OSError):
                writer.close()
                if writer.frames:
                    os.replace(temporary, path.with_name(f"{path.stem}.partial{path.suffix}"))
            raise
        writer.close()
        check = cv2.VideoCapture(str(temporary))  # the writer says nothing when the disk is full
        written = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if written < writer.frames:
            raise EdgeposeError(
                f"{path}: only {written} of {writer.frames} frames could be written: is the disk full? It was removed"
            )
