"""A passport in words, and a look at this machine: what `edgepose inspect` and `edgepose doctor` print."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgepose.cuda.driver import find_gpu
from edgepose.errors import BackendError
from edgepose.passport import Passport


def describe(path: Path, passport: Passport) -> list[str]:
    """The lines of `edgepose inspect`: what a model file is, how it is fed and read, and how good it is."""
    spec = passport.spec
    rows = [
        ("file", f"{path.name}, {path.stat().st_size / 2**20:.1f} MiB, sha256 {passport.sha256[:12]}…"),
        ("model", f"{spec.name}, {passport.precision.upper()}"),
        ("weights", "random: for timing only" if passport.random_weights else passport.weights),
        ("input", f"{spec.input_hw[0]}x{spec.input_hw[1]} {spec.color_order.upper()}, box x {spec.box_padding:g}"),
        ("normalise", f"(pixel - {_numbers(spec.mean)}) / {_numbers(spec.std)}"),
        (
            "heat maps",
            f"{spec.output_channels} of {spec.heatmap_hw[0]}x{spec.heatmap_hw[1]}, {spec.alignment} alignment",
        ),
        ("decoder", _decoder(passport)),
        ("key points", f"{spec.num_keypoints} ({spec.skeleton.name}): {', '.join(spec.skeleton.keypoints)}"),
    ]
    rows += [("made from", f"{name} (sha256 {digest[:12]}…)") for name, digest in passport.made_from.items()]
    if passport.engine:
        rows.append(("engine", ", ".join(f"{key} {_text(value)}" for key, value in passport.engine.items())))
    if passport.versions:
        rows.append(("versions", ", ".join(f"{name} {number}" for name, number in passport.versions.items())))
    rows += [("verified", f"{name} {value:.3g}") for name, value in passport.verified.items()]
    rows += [
        ("accuracy", ", ".join(f"{key} {_text(value)}" for key, value in entry.items())) for entry in passport.accuracy
    ]
    return [f"{name:<10} {text}" for name, text in rows]


def _decoder(passport: Passport) -> str:
    spec = passport.spec
    details = {
        "quarter": f" ({spec.quarter_guard} border guard)",
        "dark": f" (blur {spec.blur_kernel})",
        "udp": f" (blur {spec.blur_kernel})",
        "udp-combined": f" (blur {spec.blur_kernel}, offsets x {spec.offset_radius:g})",
    }
    return f"{spec.decoder}{details.get(spec.decoder, '')}, flip test shifts by {spec.flip_shift} px"


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Finding:
    """One line of `edgepose doctor`.

    Attributes:
        name: what was looked for.
        found: what is there; empty if it is not.
        mend: the command or step that brings it; empty if nothing is to be done.
    """

    name: str
    found: str
    mend: str = ""


def examine(root: Path = Path("/")) -> list[Finding]:
    """What this machine has and lacks for edgepose, with what mends each lack.

    Args:
        root: where /etc, /sys and /proc are looked for.
    """
    jetson = _jetson(root)
    findings = [
        Finding("machine", f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}"),
        Finding("python", sys.version.split()[0], "" if sys.version_info >= (3, 10) else "use Python 3.10 or newer"),
        Finding("jetson", jetson),
        *_gpu(bool(jetson)),
        _nvcc(),
        _module("tensorrt", "on a Jetson: apt install python3-libnvinfer, and a venv with --system-site-packages"),
        _module("tensorrt_rtx", "to build plans without a GPU: pip install tensorrt-rtx-cu13"),
        _package("pycuda", "on the device: pip install 'edgepose[jetson]'"),
        _package("openvino", "to run models on a CPU: pip install 'edgepose[cpu]'"),
        _package("onnxruntime", "to run and calibrate models on a CPU: pip install 'edgepose[cpu]'"),
        _package("torch", "to export checkpoints: pip install 'edgepose[workstation]'"),
        _package("onnxsim", "to export checkpoints: pip install 'edgepose[workstation]'"),
        _opencv(),
    ]
    if jetson:
        findings.append(_power_mode())
    return findings


def _jetson(root: Path) -> str:
    """The board and its Jetson Linux release, from "# R36 (release), REVISION: 4.3, ..."; or nothing."""
    board = _read(root / "proc/device-tree/model").strip("\0 \n")
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _read(root / "etc/nv_tegra_release"))
    if release is None:
        return ""
    return f"{board or 'unknown board'}, Jetson Linux {release[1]}.{release[2]}"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _gpu(is_jetson: bool) -> list[Finding]:
    try:
        gpu = find_gpu()
    except BackendError as error:
        return [Finding("gpu", "", str(error))]
    if gpu is None:
        cure = "flash JetPack 6 or newer" if is_jetson else "for TensorRT plans: an NVIDIA GPU with its driver"
        return [Finding("gpu", "", cure)]
    kind = "integrated" if gpu.integrated else "discrete"
    return [
        Finding("gpu", f"{gpu.name}, {gpu.target}, {gpu.multiprocessors} SMs, {kind}"),
        Finding("driver", "CUDA up to {}.{}".format(*gpu.driver_cuda)),
    ]


def _nvcc() -> Finding:
    path = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if path is None:
        return Finding("nvcc", "", "to compile the kernels on the device: apt install cuda-toolkit")
    answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"release ([\d.]+)", answer)
    on_path = "" if shutil.which("nvcc") else "put it on PATH: export PATH=/usr/local/cuda/bin:$PATH"
    return Finding("nvcc", f"{release[1] if release else 'of unknown version'} ({path})", on_path)


def _module(name: str, cure: str) -> Finding:
    """A package that need not come from pip: asked by importing it in another process, since it may crash."""
    program = f"import {name}; print({name}.__version__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding(name, done.stdout.strip())
    last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
    return Finding(name, "", cure if "No module named" in last else f"it is installed but does not load: {last}")


def _package(name: str, cure: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "", cure)


def _opencv() -> Finding:
    try:
        import cv2
    except ImportError as error:
        return Finding("opencv", "", f"pip install opencv-python-headless ({error})")
    build = cv2.getBuildInformation()
    gstreamer = re.search(r"GStreamer:\s+(YES|NO)", build)
    return Finding(
        "opencv", f"{cv2.__version__}, {'with' if gstreamer and gstreamer[1] == 'YES' else 'without'} GStreamer"
    )


def _power_mode() -> Finding:
    nvpmodel = shutil.which("nvpmodel")
    if nvpmodel is None:
        return Finding("power mode", "", "apt install nvidia-l4t-nvpmodel")
    answer = subprocess.run([nvpmodel, "-q"], capture_output=True, text=True, check=False).stdout
    mode = re.search(r"Power Mode:\s*(.+)", answer)
    return Finding("power mode", mode[1].strip() if mode else "", "" if mode else "sudo nvpmodel -q says why")
