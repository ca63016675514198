"""Registers, shared memory and spills of every CUDA kernel on every target, as a Markdown table. Needs nvcc, no GPU.

python -m edgepose.benchmarks.studies.kernel_use > docs/measurements/kernel_use.md
"""

from __future__ import annotations

import re
import subprocess

from edgepose.cuda.nvcc import TARGETS, KernelUse, compile_kernels
from edgepose.machine.nvcc import find_nvcc


def compiler() -> str:
    """The compiler's release: "CUDA 13.0"."""
    answer = subprocess.run([find_nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release ([\d.]+)", answer)
    return f"CUDA {release[1] if release else 'unknown'}"


def cell(use: KernelUse) -> str:
    """What the table says of a kernel on a target."""
    return f"{use.registers} / {use.shared_bytes} / {use.spilled_bytes}"


def markdown() -> str:
    """The table, with the compiler's release above it."""
    cells: dict[str, list[str]] = {}
    for target in TARGETS:
        for use in compile_kernels([target]).uses:
            cells.setdefault(use.name, []).append(cell(use))
    lines = [
        "# What the CUDA kernels take",
        "",
        f"As ptxas of {compiler()} says (`python -m edgepose.benchmarks.studies.kernel_use`).",
        "Each cell: registers a thread / bytes of shared memory a block / bytes spilled. Compiled, not run.",
        "",
        f"| kernel | {' | '.join(TARGETS)} |",
        f"| --- | {' | '.join('---' for _ in TARGETS)} |",
        *(f"| {name} | {' | '.join(row)} |" for name, row in sorted(cells.items())),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
