"""What can be asked of this machine: its Jetson board, its packages, another Python. Nothing raises, nothing hangs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds for one answer: the first import of TensorRT from an SD card is slow


@dataclass(frozen=True)
class Jetson:
    """A Jetson.

    Attributes:
        board: as the device tree names it.
        release: of Jetson Linux, (36, 4, 3); empty where the file is missing, as in a container.
        jetpack: version of the installed nvidia-jetpack package, "6.2"; empty without it.
    """

    board: str
    release: tuple[int, ...]
    jetpack: str


def find_jetson(root: Path = Path("/")) -> Jetson | None:
    """The Jetson that this machine is, or None.

    Args:
        root: where /etc, /proc and /var are looked for.
    """
    board = read(root / "proc/device-tree/model").strip("\0 \n")
    # its first line: # R36 (release), REVISION: 4.3, GCID: ...
    found = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", read(root / "etc/nv_tegra_release"))
    release = tuple(int(part) for part in f"{found[1]}.{found[2]}".split(".")) if found else ()
    if not release and "Jetson" not in board:
        return None
    return Jetson(board or "unknown board", release, debian_version(root, "nvidia-jetpack").partition("+")[0])


def power_mode(root: Path = Path("/")) -> tuple[str, str]:
    """A Jetson's power mode, and why it is not known; one of them is empty."""
    nvpmodel = shutil.which("nvpmodel") or shutil.which("nvpmodel", path=str(root / "usr/sbin"))
    if nvpmodel is None:
        return "", "there is no nvpmodel"
    answer, error = run([nvpmodel, "-q"])
    mode = re.search(r"Power Mode:\s*(.+)", answer)
    return (mode[1].strip(), "") if mode else ("", error or "it names no mode")


# What adds four products of bytes in 32 bits: x86's flags in /proc/cpuinfo, and ARM's (SDOT; Jetson's Cortex-A78AE).
INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "asimddp", "i8mm")
BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # multiply BF16 numbers and add them up in FP32


def int8_instructions(root: Path = Path("/")) -> list[str]:
    """The processor's instructions that add up INT8 products without saturating, by their flags; empty: it has none.

    Only what the processor has; `edgepose.backends.openvino_graph.int8_kernels_are_exact` tells what is made of it.
    """
    return [flag for flag in INT8_FLAGS if flag in _flags(root)]


def bf16_instructions(root: Path = Path("/")) -> list[str]:
    """The processor's instructions for BF16, by their flags; empty: it has none."""
    return [flag for flag in BF16_FLAGS if flag in _flags(root)]


def _flags(root: Path) -> list[str]:
    lines = read(root / "proc/cpuinfo").splitlines()
    return next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])


def memory(root: Path = Path("/")) -> str:
    """This machine's memory in words: in all, available, swap."""
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB", read(root / "proc/meminfo"), flags=re.MULTILINE))
    names = {"MemTotal": "", "MemAvailable": " available", "SwapTotal": " swap"}
    return ", ".join(f"{int(sizes[key]) / 2**20:.1f} GiB{text}" for key, text in names.items() if key in sizes)


def run(command: list[str]) -> tuple[str, str]:
    """What a program prints, and why it failed, in one line."""
    try:
        process = subprocess.Popen(
            command,
            cwd="/",  # `python -c` imports from the folder it runs in
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return "", f"{command[0]}: {error.strerror}"
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()  # and not awaited: what hangs in a driver cannot be killed
        return "", f"no answer in {PATIENCE} s"
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return out, "" if process.returncode == 0 else (lines or [f"it ended with status {process.returncode}"])[-1]


def ask(program: str, python: str = sys.executable) -> tuple[Any, str]:
    """The `answer` of a program in a Python of its own, or None and why it has none."""
    out, error = run([python, "-c", f"{program}\nimport json; print('\\nanswer:' + json.dumps(answer))"])
    answer = re.search(r"^answer:(.*)$", out, flags=re.MULTILINE)
    return (json.loads(answer[1]), "") if answer else (None, error or "it says nothing")


def read(path: Path) -> str:
    """A file's text; nothing where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def package_version(package: str) -> str:
    """An installed package's version; or nothing."""
    try:
        return version(package) or "of unknown version"  # None where its metadata are damaged
    except (PackageNotFoundError, KeyError):
        return ""


def debian_version(root: Path, package: str) -> str:
    """An installed Debian package's version; or nothing."""
    for stanza in read(root / "var/lib/dpkg/status").split("\n\n"):
        if f"\nPackage: {package}\n" in f"\n{stanza}" and " ok installed" in stanza:
            found = re.search(r"^Version: (\S+)", stanza, flags=re.MULTILINE)
            return found[1] if found else ""
    return ""
