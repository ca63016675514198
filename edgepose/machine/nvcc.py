"""The CUDA compiler of this machine."""

from __future__ import annotations

import re
import shutil

from edgepose.errors import BuildError
from edgepose.machine.system import run

TOOLKIT = "sudo apt install nvidia-cuda-dev on a Jetson, cuda-toolkit elsewhere"


def find_nvcc() -> str:
    """The CUDA compiler: on PATH, or where JetPack keeps it.

    Raises:
        BuildError: there is none.
    """
    if found := shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin"):
        return found
    raise BuildError(
        "nvcc, which compiles the CUDA kernels, was not found on PATH or in /usr/local/cuda/bin: "
        f"{TOOLKIT}; a plan for other programs needs none: edgepose build --no-kernels"
    )


def nvcc_cuda(nvcc: str) -> tuple[int, int] | None:
    """The CUDA that an nvcc is of, (12, 6) say; None where it does not tell."""
    release = re.search(r"release (\d+)\.(\d+)", run([nvcc, "--version"])[0])
    return (int(release[1]), int(release[2])) if release else None
