"""Videos and streams whose frames change their size on the way: the reading door to PyAV.

OpenCV scales all frames to the first one's size, whatever their shape, so that nobody can tell where their pixels were.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np


def has_pyav() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


class AvCapture:
    """What is used of cv2.VideoCapture, by PyAV: each frame has the size that it was coded with, and is upright.

    Args:
        name: a file or URL.
        timeout_s: until an attempt to open or read it is given up; None: never.
    """

    def __init__(self, name: str, timeout_s: float | None = None) -> None:
        import av

        self._av: Any = av
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._fps = 0.0
        options = {"rtsp_transport": "tcp"} if name.lower().startswith("rtsp") else {}  # as OpenCV asks for it
        try:
            self._container = av.open(name, timeout=timeout_s, options=options)
            video = self._container.streams.video[0]
        except (av.FFmpegError, OSError, ValueError, IndexError):
            self.release()
            return
        self._fps = float(video.average_rate or video.guessed_rate or 0)
        self._frames = self._decoded(video)

    def _decoded(self, video: Any) -> Iterator[Any]:
        for packet in self._container.demux(video):
            try:
                yield from packet.decode()
            except self._av.error.InvalidDataError:
                continue  # one damaged frame ends nothing

    def isOpened(self) -> bool:
        """Whether it could be opened, and was not released."""
        return self._container is not None

    def get(self, key: int) -> float:
        """The frame rate; 0 for whatever else is asked."""
        return self._fps if key == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Whether there was another frame, and it: (H, W, 3) uint8 BGR."""
        try:
            frame = next(self._frames, None)
            return (False, None) if frame is None else (True, _upright(frame))
        except self._av.FFmpegError:
            return False, None

    def release(self) -> None:
        """Close it; a second call does nothing."""
        self._frames = iter(())
        if self._container is not None:
            self._container.close()
            self._container = None


def _upright(frame: Any) -> np.ndarray:
    """A frame's pixels, turned as its metadata say, by quarters of a circle."""
    pixels = frame.to_ndarray(format="bgr24")
    quarters, rest = divmod(frame.rotation, 90)  # degrees counterclockwise
    return pixels if rest or not quarters else np.ascontiguousarray(np.rot90(pixels, quarters))
