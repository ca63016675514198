"""The CUDA kernels: their sources, how nvcc compiles them, and the arguments that a ModelSpec stands for."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgepose.errors import BuildError
from edgepose.geometry import Regions
from edgepose.passport import DECODERS, ModelSpec

FOLDER = Path(__file__).parent
SOURCES = ("crop.cu", "decode.cu")
TARGETS = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_110", "sm_120")
LARGEST_BLUR = 31  # px; decode.cu keeps its window in shared memory
LARGEST_COMBINED = 10240  # px of a "udp-combined" heat map: 40 KiB, which with decode.cu's own fit into 48 KiB
LARGEST_COUNT = 65535  # people in one launch: the grid's z

Shape = tuple[int, int, int]  # x, y, z, as CUDA counts blocks and threads


@dataclass(frozen=True)
class KernelUse:
    """What one kernel takes on one target, as ptxas reports it: registers a thread, bytes a block."""

    name: str
    registers: int
    shared_bytes: int
    spilled_bytes: int


def find_nvcc() -> str:
    """The CUDA compiler: on PATH, or where JetPack keeps it.

    Raises:
        BuildError: there is none.
    """
    if found := shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin"):
        return found
    raise BuildError(
        "nvcc was not found on PATH or in /usr/local/cuda/bin: apt install cuda-nvcc (JetPack: cuda-toolkit)"
    )


def compile_kernels(source: str, target: str) -> tuple[bytes, list[KernelUse]]:
    """Compile one of SOURCES for a target ("sm_87"), and say what each kernel takes.

    Returns:
        The cubin and the use of each kernel in it.

    Raises:
        BuildError: nvcc is missing, or refused; carries its last lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        command = [find_nvcc(), f"-arch={target}", "-cubin", "-std=c++17", "-O3", "-Xptxas=-v,-warn-spills"]
        done = subprocess.run([*command, "-o", cubin, FOLDER / source], capture_output=True, text=True, check=False)
        if done.returncode != 0 or "warning" in done.stderr:
            lines = [line for line in done.stderr.splitlines() if "error" in line or "warning" in line]
            raise BuildError(f"nvcc could not compile {source} for {target} cleanly: {'; '.join(lines[-3:])}")
        return cubin.read_bytes(), _read_use(done.stderr)


def _read_use(report: str) -> list[KernelUse]:
    """The lines of ptxas -v about each kernel."""
    found = []
    for block in report.split("Function properties for ")[1:]:
        registers = re.search(r"Used (\d+) registers", block)
        shared = re.search(r"(\d+) bytes smem", block)
        spilled = re.search(r"(\d+) bytes spill stores", block)
        found.append(
            KernelUse(
                block.split()[0],
                int(registers[1]) if registers else 0,
                int(shared[1]) if shared else 0,
                int(spilled[1]) if spilled else 0,
            )
        )
    return found


def normalise_factors(spec: ModelSpec) -> np.ndarray:
    """(6,) float32: factor, then summand, per channel of the crops: (pixel - mean) / std in one multiply-add."""
    std, mean = np.array(spec.std), np.array(spec.mean)
    return np.concatenate([1 / std, -mean / std]).astype(np.float32)


def blur_weights(spec: ModelSpec) -> np.ndarray:
    """The Gaussian of the spec's decoder, float32; (1,) where it has none.

    Raises:
        ValueError: a blur too wide for the kernel's shared memory.
    """
    if spec.decoder in ("argmax", "quarter"):
        return np.ones(1, np.float32)
    if spec.blur_kernel > LARGEST_BLUR:
        raise ValueError(f"blur_kernel must be at most {LARGEST_BLUR} on a GPU, got {spec.blur_kernel}")
    side = 2 * spec.blur_kernel + 1 if spec.decoder == "udp-combined" else spec.blur_kernel
    return np.asarray(cv2.getGaussianKernel(side, 0))[:, 0].astype(np.float32)


def decode_arguments(spec: ModelSpec) -> tuple[int, int, int, int, np.float32]:
    """What decode.cu takes after the sizes: decoder, independent guard, flip shift, blur kernel, offset px."""
    offset_px = np.float32(spec.offset_radius * max(spec.heatmap_hw))
    guard = int(spec.quarter_guard == "independent")
    return DECODERS.index(spec.decoder), guard, spec.flip_shift, spec.blur_kernel, offset_px


def to_image_factors(regions: Regions, grid_hw: tuple[int, int]) -> np.ndarray:
    """(N, 4) float32: image x = x * [0] + [2], image y = y * [1] + [3], for x and y in px of the grid."""
    matrices = regions.to_grid_matrices(grid_hw)
    scale = 1 / matrices[:, [0, 1], [0, 1]]
    return np.concatenate([scale, -matrices[:, :, 2] * scale], axis=1).astype(np.float32)


def crop_grid(spec: ModelSpec, count: int) -> tuple[Shape, Shape]:
    """Block and grid of a launch of crop.cu for `count` people, 1 to 65535: none is no launch."""
    _check_count(count)
    height, width = spec.input_hw
    return (32, 8, 1), (-(-width // 32), -(-height // 8), count)


def decode_grid(spec: ModelSpec, count: int) -> tuple[Shape, Shape, int]:
    """Block, grid and bytes of dynamic shared memory of a launch of decode.cu for `count` people, 1 to 65535.

    Raises:
        ValueError: heat maps of "udp-combined" too large for a block's shared memory.
    """
    _check_count(count)
    height, width = spec.heatmap_hw
    combined = spec.decoder == "udp-combined"
    if combined and height * width > LARGEST_COMBINED:
        raise ValueError(f"udp-combined: heat maps of at most {LARGEST_COMBINED} px on a GPU, got {height} x {width}")
    return (128, 1, 1), (count * spec.num_keypoints, 1, 1), 4 * height * width if combined else 0


def _check_count(count: int) -> None:
    if not 1 <= count <= LARGEST_COUNT:
        raise ValueError(f"one launch takes 1 to {LARGEST_COUNT} people, got {count}")
