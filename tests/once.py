"""What all processes of one test run share: made by the first that asks, while the others wait."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

FOLDER = "EDGEPOSE_TESTS_FOLDER"  # of this run; tests/conftest.py names it


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder `name` of the run; `make` writes it to the path it is given, and nobody changes it later."""
    folder = Path(os.environ[FOLDER])
    path = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(folder / f"{name}.half")
            (folder / f"{name}.half").rename(path)
    return path
