"""The CUDA kernels: their sources, how nvcc compiles them, and the arguments that a ModelSpec stands for."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from edgepose.errors import BuildError, EngineMismatchError
from edgepose.machine.system import run
from edgepose.model.passport import COMBINED, DECODERS, QUARTER_GUARDS, ModelSpec, Passport, passport_path
from edgepose.stages.geometry import Regions

FOLDER = Path(__file__).parent
TARGETS = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_110", "sm_120")
LARGEST_BLUR = 31  # px; decode.cu keeps its window in shared memory
LARGEST_WHOLE = 10240  # px of a heat map that WHOLE blur: 40 KiB, which with decode.cu's own fit into 48 KiB
WHOLE = (*COMBINED, "udp-original")  # decoders that blur the whole map, in shared memory
_TOOLKIT = "sudo apt install nvidia-cuda-dev on a Jetson, cuda-toolkit elsewhere"
LARGEST_COUNT = 65535  # people in one launch: the grid's z

Shape = tuple[int, int, int]  # x, y, z, as CUDA counts blocks and threads


@dataclass(frozen=True)
class KernelUse:
    """What one kernel takes on one target, as ptxas reports it: registers a thread, bytes a block."""

    name: str
    target: str
    registers: int
    shared_bytes: int
    spilled_bytes: int


@dataclass(frozen=True)
class Compiled:
    """Compiled kernels.

    Attributes:
        fatbin: a module with code for each target, as cuModuleLoadData takes it.
        uses: what each kernel takes on each target.
        warnings: of the compiler, and of spilled registers, each once.
    """

    fatbin: bytes
    uses: tuple[KernelUse, ...]
    warnings: tuple[str, ...]


def find_nvcc() -> str:
    """The CUDA compiler: on PATH, or where JetPack keeps it.

    Raises:
        BuildError: there is none.
    """
    if found := shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin"):
        return found
    raise BuildError(
        "nvcc, which compiles the CUDA kernels, was not found on PATH or in /usr/local/cuda/bin: "
        f"{_TOOLKIT}; a plan for other programs needs none: edgepose build --no-kernels"
    )


def nvcc_cuda(nvcc: str) -> tuple[int, int] | None:
    """The CUDA that an nvcc is of, (12, 6) say; None where it does not tell."""
    release = re.search(r"release (\d+)\.(\d+)", run([nvcc, "--version"])[0])
    return (int(release[1]), int(release[2])) if release else None


def compile_kernels(targets: Sequence[str], source: str = "kernels.cu") -> Compiled:
    """Compile the kernels for targets ("sm_87"), into one module for all of them.

    Args:
        targets: at least one; this nvcc must know each.
        source: of cuda/; kernels.cu holds all kernels.

    Raises:
        BuildError: nvcc is missing, or refused; carries its last lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        fatbin = Path(folder) / "kernels.fatbin"
        command = [nvcc := find_nvcc(), "-fatbin", "-std=c++17", "-O3", "-Xptxas=-v,-warn-spills"]
        for target in targets:
            command += ["-gencode", f"arch={target.replace('sm_', 'compute_')},code={target}"]
        command += ["-o", str(fatbin), str(FOLDER / source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise BuildError(f"{nvcc} cannot be run ({error.strerror}): {_TOOLKIT}") from error
        lines = done.stderr.splitlines()
        if done.returncode != 0:
            reasons = [line for line in lines if "error" in line or "fatal" in line] or lines
            raise BuildError(
                f"nvcc could not compile the CUDA kernels for {', '.join(targets)}: {'; '.join(reasons[-3:])}; "
                f"{_cure(done.stderr)}"
            )
        warnings = dict.fromkeys(line.strip() for line in lines if "warning" in line.lower())
        return Compiled(fatbin.read_bytes(), _read_uses(done.stderr), tuple(warnings))


def _cure(report: str) -> str:
    """What to do about what nvcc says."""
    if "Unsupported gpu architecture" in report:
        return "the CUDA toolkit must know the GPU: see nvcc --list-gpu-code"
    if re.search(r"host compiler properties|cc1plus|g(cc|\+\+): (not found|No such file)", report):
        return "install g++: sudo apt install build-essential"
    return "see edgepose doctor"


def _read_uses(report: str) -> tuple[KernelUse, ...]:
    """The lines of ptxas -v about each kernel."""
    found = []
    for block in report.split("Compiling entry function ")[1:]:
        name, target = re.findall(r"'(\w+)'", block)[:2]
        numbers = [
            re.search(pattern, block)
            for pattern in (r"Used (\d+) registers", r"(\d+) bytes smem", r"(\d+) bytes spill stores")
        ]
        found.append(KernelUse(name, target, *(int(number[1]) if number else 0 for number in numbers)))
    return tuple(found)


def kernels_path(plan: Path) -> Path:
    """Where a plan's kernels lie: the plan's name with .fatbin behind it."""
    return Path(f"{plan}.fatbin")


def read_kernels(plan: Path, passport: Passport) -> bytes:
    """The module that was compiled with a plan, for cuModuleLoadData.

    Raises:
        EngineMismatchError: there is none, or it is another plan's.
    """
    path = kernels_path(plan)
    files = f"{plan.name}, {path.name} and {passport_path(plan).name}"
    cure = f"copy {files} together, or build it again with edgepose build"
    known = (passport.engine or {}).get("kernels")
    if known is None:
        raise EngineMismatchError(f"{plan} was built without CUDA kernels (--no-kernels): build it again with them")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineMismatchError(f"{path}, the CUDA kernels of {plan}: {error.strerror}; {cure}") from error
    if (found := sha256(data).hexdigest()) != known["sha256"]:
        raise EngineMismatchError(
            f"{path} is not what was compiled with {plan} (sha256 {known['sha256'][:12]}…, found {found[:12]}…): {cure}"
        )
    return data


def normalise_factors(spec: ModelSpec) -> np.ndarray:
    """(6,) float32: factor, then summand, per channel of the crops: (pixel - mean) / std in one multiply-add."""
    std, mean = np.array(spec.std), np.array(spec.mean)
    return np.concatenate([1 / std, -mean / std]).astype(np.float32)


def blur_weights(spec: ModelSpec) -> np.ndarray:
    """The Gaussian of the spec's decoder, float32; (1,) where it has none; where it blurs offsets, theirs follows.

    Raises:
        ValueError: a blur too wide for the kernel's shared memory.
    """
    if spec.decoder in ("argmax", "quarter"):
        return np.ones(1, np.float32)
    if spec.blur_kernel > LARGEST_BLUR:
        raise ValueError(f"blur_kernel must be at most {LARGEST_BLUR} on a GPU, got {spec.blur_kernel}")
    sides = [2 * spec.blur_kernel + 1] if spec.has_offsets else [spec.blur_kernel]
    if spec.decoder == "udp-combined-v0":
        sides.append(spec.blur_kernel)
    return np.concatenate([cv2.getGaussianKernel(side, 0)[:, 0] for side in sides]).astype(np.float32)


def decode_arguments(spec: ModelSpec) -> tuple[int, int, int, int, np.float32]:
    """What decode.cu takes after the sizes: decoder, border guard, flip shift, blur kernel, offset px."""
    offset_px = np.float32(spec.offset_radius * max(spec.heatmap_hw))
    guard = QUARTER_GUARDS.index(spec.quarter_guard)
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
    return (32, 8, 1), (-(-width // 64), -(-height // 8), count)


def decode_grid(spec: ModelSpec, count: int) -> tuple[Shape, Shape, int]:
    """Block, grid and bytes of dynamic shared memory of a launch of decode.cu for `count` people, 1 to 65535.

    Raises:
        ValueError: heat maps of a WHOLE decoder too large for a block's shared memory.
    """
    _check_count(count)
    height, width = spec.heatmap_hw
    whole = spec.decoder in WHOLE
    if whole and height * width > LARGEST_WHOLE:
        raise ValueError(f"{spec.decoder}: heat maps of at most {LARGEST_WHOLE} px on a GPU, got {height} x {width}")
    return (128, 1, 1), (count * spec.num_keypoints, 1, 1), 4 * height * width if whole else 0


def peaks_grid(maps: int) -> tuple[Shape, Shape]:
    """Block and grid of a launch of peaks.cu for `maps` heat maps, at least one."""
    if maps < 1:
        raise ValueError(f"one launch takes at least one map, got {maps}")
    return (256, 1, 1), (maps, 1, 1)


def _check_count(count: int) -> None:
    if not 1 <= count <= LARGEST_COUNT:
        raise ValueError(f"one launch takes 1 to {LARGEST_COUNT} people, got {count}")
