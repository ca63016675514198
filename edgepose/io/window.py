"""Drawn frames in a window, where OpenCV has windows and there is a display."""

from __future__ import annotations

import os
import subprocess
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
A_WINDOW = "import cv2; cv2.namedWindow('edgepose', cv2.WINDOW_NORMAL)"
PATIENCE = 20  # seconds for another process to open one


class Window:
    """One window a source; `q` or Esc ends the run as Ctrl-C does.

    Raises:
        InputError: this OpenCV has no windows, or there is no display.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [f"edgepose: {name}" for name in names]
        if sys.platform == "linux":
            check_display()
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


def check_display() -> None:
    """Look whether a window opens, in another process: Qt, in opencv-python, ends the one that has no display for it.

    Raises:
        InputError: no display is named, or the one that is named opens none (a closed ssh session's, say).
    """
    named = [f"{name}={os.environ[name]}" for name in ("DISPLAY", "WAYLAND_DISPLAY") if os.environ.get(name)]
    if not named:
        raise InputError(NO_WINDOW)
    command = [sys.executable, "-c", A_WINDOW]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # no cv2.py of the current folder
    try:
        subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise InputError(f"{NO_WINDOW} ({', '.join(named)} opened none)") from error
