"""The CUDA kernels: their sources, how nvcc compiles them, and the file beside a plan that holds them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from edgepose.errors import BuildError, EngineMismatchError
from edgepose.machine.nvcc import TOOLKIT, find_nvcc
from edgepose.model.passport import Passport, passport_path

FOLDER = Path(__file__).parent
TARGETS = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_110", "sm_120")


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


def compile_kernels(targets: Sequence[str], source: str = "kernels.cu") -> Compiled:
    """Compile the kernels for targets ("sm_87"), into one module for all of them.

    Args:
        targets: at least one; this nvcc must know each.
        source: of cuda/; kernels.cu holds all kernels, pose.cu those beside a plan.

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
            raise BuildError(f"{nvcc} cannot be run ({error.strerror}): {TOOLKIT}") from error
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
    known = passport.plan.kernels
    if known is None:
        raise EngineMismatchError(f"{plan} was built without CUDA kernels (--no-kernels): build it again with them")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineMismatchError(f"{path}, the CUDA kernels of {plan}: {error.strerror}; {cure}") from error
    if (found := sha256(data).hexdigest()) != known.sha256:
        raise EngineMismatchError(
            f"{path} is not what was compiled with {plan} (sha256 {known.sha256[:12]}…, found {found[:12]}…): {cure}"
        )
    return data
