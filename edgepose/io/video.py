"""Video files in and out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from edgepose.errors import EdgeposeError, InputError
from edgepose.files import whole_file
from edgepose.io.opencv_log import silence_opencv

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts")

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when the first video is opened


class VideoReader:
    """Frames of a video file, in order. Metadata that turns a picture upright is obeyed.

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
        self.path = path
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)
        if not self._capture.isOpened():
            raise InputError(f"{path}: not a readable video (empty, truncated, or of a kind that OpenCV does not read)")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 0 < fps <= 1000 else 25.0
        self.length = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each frame as (H, W, 3) uint8 RGB.

        Raises:
            InputError: after the last frame that could be read, if the file announces noticeably more.
        """
        count = 0
        while True:
            ok, frame = self._capture.read()
            if not ok:
                break
            count += 1
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        if count == 0 or count < 0.95 * self.length:  # some containers only estimate their length
            raise InputError(f"{self.path}: the video ends after {count} of {self.length} frames: it is damaged")

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class VideoWriter:
    """Writes RGB frames of one size; see `video_file`."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)
        self.frames = 0

    def write(self, frame: np.ndarray) -> None:
        """Add one (H, W, 3) uint8 RGB frame; the first one decides the size."""
        height, width = frame.shape[:2]
        if self._writer is None:
            self._size_wh = (width + width % 2, height + height % 2)  # the codec halves its colour planes
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, self._size_wh)
            if not self._writer.isOpened():
                raise EdgeposeError(
                    f"this OpenCV cannot write a {width}x{height} MPEG-4 video: use --no-save-overlay for videos"
                )
        right, bottom = self._size_wh[0] - width, self._size_wh[1] - height
        if right < 0 or bottom < 0 or right > 1 or bottom > 1:
            frame, right, bottom = cv2.resize(frame, self._size_wh), 0, 0
        pixels = cv2.copyMakeBorder(
            cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), 0, bottom, 0, right, borderType=cv2.BORDER_REPLICATE
        )
        self._writer.write(pixels)
        self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None


@contextmanager
def video_file(path: Path, fps: float) -> Iterator[VideoWriter]:
    """An MP4 file to write frames to; whole or not at all.

    Raises:
        EdgeposeError: OpenCV cannot write such a video, or not all frames arrived on the disk.
    """
    with whole_file(path) as temporary:
        writer = VideoWriter(temporary, fps)
        try:
            yield writer
        finally:
            writer.close()
        check = cv2.VideoCapture(str(temporary))  # the writer says nothing when the disk is full
        written = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if written < writer.frames:
            raise EdgeposeError(
                f"{path}: only {written} of {writer.frames} frames could be written: is the disk full? It was removed"
            )
