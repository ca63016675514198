"""Keeps OpenCV's own words about broken files from stderr: the caller gets one InputError instead."""

from __future__ import annotations

import cv2


def silence_opencv() -> None:
    """Turn OpenCV's log off, for this process."""
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(0)
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
