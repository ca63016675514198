"""The CUDA kernels as functions of this process."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from edgepose.cuda.kernels import FOLDER, find_nvcc

SOURCES = Path(__file__).parent.parent / "cuda"


@cache
def compiled_for_the_cpu() -> ctypes.CDLL:
    """The kernels' own source, with a stand-in for the GPU's grid: see tests/cuda/cpu_grid.h."""
    include = Path(find_nvcc()).resolve().parent.parent / "include"
    if not (include / "cuda_fp16.h").is_file():
        include = Path("/usr/local/cuda/include")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernels.so"
        command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", "-DEDGEPOSE_ON_CPU", "-pthread", "-isystem"]
        here = [f"-I{FOLDER}", f"-I{SOURCES}", SOURCES / "on_cpu.cpp"]
        subprocess.run([*command, include, *here, "-o", library], check=True)
        return ctypes.CDLL(str(library))
