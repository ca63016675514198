"""Keeps what OpenCV and its decoders say of broken files from stderr: the caller gets one InputError instead."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import IO

import cv2

# What libjpeg (jerror.h) and libpng write to stderr themselves. After the first kind libjpeg has made up pixels.
DAMAGED = re.compile(r"Corrupt JPEG data|Premature end of JPEG|Inconsistent progression")
_HARMLESS = re.compile(r"Invalid SOS parameters|Unknown Adobe color|Warning: unknown JFIF|libpng (warning|error): ")
_STDERR, _ONE_AT_A_TIME = 2, Lock()


def silence_opencv() -> None:
    """Turn OpenCV's log off, for this process."""
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(0)
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Catch what image decoders write to stderr while the body runs: afterwards the list has it, line by line.

    What others write at that time, another thread say, is passed on. One thread at a time has the body.
    """
    silence_opencv()
    words: list[str] = []
    with _ONE_AT_A_TIME, _in_memory() as caught:
        stderr = os.dup(_STDERR)
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield words
        finally:
            os.dup2(stderr, _STDERR)
            os.close(stderr)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                text = line.decode(errors="replace").strip()
                if DAMAGED.match(text) or _HARMLESS.match(text):
                    words.append(text)
                else:
                    os.write(_STDERR, line)


def _in_memory() -> IO[bytes]:
    if hasattr(os, "memfd_create"):  # Linux; a device may have no place for temporary files
        return os.fdopen(os.memfd_create("words"), "w+b")
    return tempfile.TemporaryFile()
