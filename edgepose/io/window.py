"""Drawn frames in a window, where OpenCV has windows and there is a display."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from edgepose.errors import InputError

NO_WINDOW = (
    "no window can be shown: this OpenCV has none (opencv-python-headless), or there is no display; use --serve and a "
    "browser"
)


class Window:
    """One window a source; `q` or Esc ends the run as Ctrl-C does.

    Raises:
        InputError: this OpenCV has no windows, or there is no display.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [f"edgepose: {name}" for name in names]
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise InputError(NO_WINDOW)  # Qt, in opencv-python, would end the process
        try:
            for name in self._names:
                cv2.namedWindow(name, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise InputError(NO_WINDOW) from error

    def show(self, source: int, image: np.ndarray, status: Mapping[str, Any]) -> None:
        """Show (H, W, 3) uint8 RGB as the newest frame of a source."""
        cv2.imshow(self._names[source], cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in (ord("q"), 27):
            raise KeyboardInterrupt

    def close(self) -> None:
        """Close the windows."""
        cv2.destroyAllWindows()
