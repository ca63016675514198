"""What this machine has and lacks for edgepose, and what mends it: what `edgepose doctor` prints.

What may crash or hang (a driver, a package built for another numpy) is asked in a process of its own, and nothing
here imports what may be missing or broken.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from edgepose.machine.gpu import Gpu
from edgepose.machine.system import (
    ask,
    debian_version,
    find_jetson,
    int8_instructions,
    memory,
    package_version,
    power_mode,
    read,
    run,
)
from edgepose.model.engine_info import OLDEST_TENSORRT

FLAVOURS = ("tensorrt", "tensorrt_rtx", "tensorrt_lean", "tensorrt_dispatch")
TOO_OLD = "edgepose needs TensorRT 10.3 or newer: on a Jetson, flash JetPack 6.1 or newer"
CONTAINER = "in a container, add --runtime nvidia to docker run"
GPU_DEVICES = ("dev/nvmap", "dev/nvhost-gpu", "dev/nvidiactl", "dev/nvidia0")

# Programs for another Python; each leaves what it found in `answer`.
_ASK_GPU = """
import ctypes, dataclasses
from edgepose.machine.gpu import find_gpu
from edgepose.errors import BackendError
answer = {"status": None, "gpu": None, "error": ""}
try:
    answer["status"] = ctypes.CDLL("libcuda.so.1").cuInit(0)
    gpu = find_gpu()
    answer["gpu"] = gpu and dataclasses.asdict(gpu)
except OSError:
    pass
except BackendError as error:
    answer["error"] = str(error)
"""
_ASK_TENSORRT = "import NAME as trt, sys; answer = [trt.__version__, '%d.%d' % sys.version_info[:2]]"
_ASK_PYCUDA = "import pycuda, pycuda.driver; answer = [pycuda.VERSION_TEXT, pycuda.driver.get_version()[0]]"
_ASK_OPENCV = "import cv2; answer = [cv2.__version__, cv2.getBuildInformation(), cv2.__file__]"


@dataclass(frozen=True)
class Finding:
    """One line of `edgepose doctor`.

    Attributes:
        name: what was looked for.
        found: what is there; empty if it is not.
        mend: the command or step that brings it or puts it right; empty if nothing is to be done.
        cuda: major version of the CUDA that it was made with; None for what does not run on the GPU.
    """

    name: str
    found: str
    mend: str = ""
    cuda: int | None = None


def examine(root: Path = Path("/")) -> list[Finding]:
    """What this machine has and lacks for edgepose, with what mends each lack, on any machine and in any state.

    Args:
        root: where the machine's files and JetPack's tools are looked for.
    """
    jetson = _jetson(root)
    on_jetson = bool(jetson.found)
    gpu, gpu_finding = _gpu(root, on_jetson)
    findings = [
        _package("edgepose"),
        Finding("machine", f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}"),
        Finding("memory", memory(root)),
        Finding("cpu int8", ", ".join(int8_instructions(root)) or "no VNNI: FP32 instead where INT8 kernels saturate"),
        Finding("python", _python(), "" if sys.version_info >= (3, 10) else "use Python 3.10 or newer"),
        jetson,
        gpu_finding,
        _toolkit(root, on_jetson),
        _nvcc(root, gpu, on_jetson),
        *_tensorrts(root, gpu, on_jetson),
        *_driver_packages(gpu),
        _package("numpy"),
        _opencv(root, on_jetson),
        _package("openvino", "to run models on a CPU: pip install 'edgepose[cpu]'"),
        _package("onnxruntime", "to run FP32 models on a CPU, and to calibrate: pip install 'edgepose[cpu]'"),
    ]
    if gpu is not None:
        findings.insert(findings.index(gpu_finding) + 1, _driver(gpu, findings, on_jetson))
    if on_jetson:
        return [*findings, _power_mode(root)]
    cure = "to export checkpoints: pip install 'edgepose[workstation]'"  # a workstation's work
    return findings + [_package(name, cure) for name in ("torch", "onnx", "onnxsim")]


def _package(name: str, cure: str = "") -> Finding:
    found = package_version(name)
    return Finding(name, found, "" if found else cure)


def _python() -> str:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.prefix == sys.base_prefix:
        return found
    shared = re.search(r"include-system-site-packages *= *true", read(Path(sys.prefix, "pyvenv.cfg")))
    return f"{found}, virtual environment {'with' if shared else 'without'} the system's packages"


def _jetson(root: Path) -> Finding:
    jetson = find_jetson(root)
    if jetson is None:
        return Finding("jetson", "")
    if not jetson.release:
        return Finding("jetson", jetson.board, f"no /etc/nv_tegra_release: {CONTAINER}")
    number = ".".join(map(str, jetson.release))
    found = f"{jetson.board}, Jetson Linux {number}, JetPack {jetson.jetpack or 'not installed'}"
    if jetson.release < (36, 4):
        return Finding("jetson", found, TOO_OLD)
    return Finding("jetson", found, "" if jetson.jetpack else "sudo apt update && sudo apt install nvidia-jetpack")


def _gpu(root: Path, on_jetson: bool) -> tuple[Gpu | None, Finding]:
    answer, error = ask(_ASK_GPU)
    if answer is None:
        return None, Finding("gpu", "", f"the CUDA driver does not answer ({error}): restart the machine")
    if values := answer["gpu"]:
        pairs = {name: tuple(values[name]) for name in ("compute_capability", "driver_cuda")}
        gpu = Gpu(**{**values, **pairs})
        kind = "integrated" if gpu.integrated else "discrete"
        return gpu, Finding("gpu", f"{gpu.name}, {gpu.target}, {gpu.multiprocessors} SMs, {kind}")
    devices = [root / name for name in GPU_DEVICES]
    closed = [path for path in devices if path.exists() and not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        cure = f"you may not use {closed[0]}: sudo usermod -aG video $USER, then log out and in again"
    elif answer["error"]:
        cure = f"{answer['error'].partition(':')[0]}: restart the machine"
    elif answer["status"] is not None:
        cure = f"the CUDA driver finds no GPU (cuInit: error {answer['status']}): restart the machine"
    elif on_jetson:
        cure = f"no libcuda.so.1: flash JetPack 6.1 or newer; {CONTAINER}"
    else:
        cure = "for TensorRT plans: an NVIDIA GPU with its driver"
    return None, Finding("gpu", "", cure)


def _driver(gpu: Gpu, others: list[Finding], on_jetson: bool) -> Finding:
    """A driver runs what was made with its own CUDA major version or an older one (NVIDIA, CUDA Compatibility)."""
    major, minor = gpu.driver_cuda
    too_new = [f"{other.name} (CUDA {other.cuda})" for other in others if other.cuda and other.cuda > major]
    found = f"for CUDA {major}.{minor}"
    if not too_new:
        return Finding("driver", found)
    cure = (
        "flash a newer JetPack, or install this one's again" if on_jetson else f"update it, or take those for {major}"
    )
    return Finding("driver", found, f"too old for {', '.join(too_new)}: {cure}")


def _toolkit_cure(on_jetson: bool) -> str:
    return f"sudo apt install {'nvidia-cuda-dev' if on_jetson else 'cuda-toolkit'}"


def _toolkit(root: Path, on_jetson: bool) -> Finding:
    folder = root / "usr/local/cuda"
    found = re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', read(folder / "version.json"))
    number = found[1] if found else "of unknown version" if folder.is_dir() else ""
    if number and (folder / "include/cuda.h").is_file():
        return Finding("cuda toolkit", f"{number} (/usr/local/cuda)")
    return Finding("cuda toolkit", number and f"{number}, no headers", f"to compile pycuda: {_toolkit_cure(on_jetson)}")


def _nvcc(root: Path, gpu: Gpu | None, on_jetson: bool) -> Finding:
    path = shutil.which("nvcc") or shutil.which("nvcc", path=str(root / "usr/local/cuda/bin"))
    if path is None:
        return Finding("nvcc", "", f"for edgepose build, to compile the kernels: {_toolkit_cure(on_jetson)}")
    answer, error = run([path, "--version"])
    release = re.search(r"release (\d+)\.(\d+)", answer)
    if release is None:
        return Finding("nvcc", "", f"{path} does not work ({error or 'no version'}): {_toolkit_cure(on_jetson)}")
    number = f"{release[1]}.{release[2]}"
    known = run([path, "--list-gpu-code"])[0].split()
    cure = f"it does not know {gpu.target}: {_toolkit_cure(on_jetson)}" if gpu and gpu.target not in known else ""
    return Finding("nvcc", f"{number} ({path})", cure, int(release[1]))


def _tensorrts(root: Path, gpu: Gpu | None, on_jetson: bool) -> list[Finding]:
    findings = [replace(_tensorrt(root, name), cuda=_tensorrt_cuda(root, name)) for name in FLAVOURS]
    if any(finding.found or finding.mend for finding in findings[:2]):  # one of the two is enough
        return findings
    if on_jetson:
        cure = "sudo apt install python3-libnvinfer, and a virtual environment made with --system-site-packages"
        findings[0] = replace(findings[0], mend=cure)
    elif gpu:
        findings[0] = replace(findings[0], mend=f"pip install tensorrt-cu{gpu.driver_cuda[0]}")
    else:
        findings[1] = replace(
            findings[1], mend="to build plans without a GPU, on x86-64: pip install tensorrt-rtx-cu13"
        )
    return findings


def _tensorrt_cuda(root: Path, name: str) -> int | None:
    """From the name of the wheel, tensorrt-cu13, or the version of the Debian package, 10.3.0.30-1+cuda12.5."""
    wheels = [cuda for cuda in range(11, 20) if package_version(f"{name}-cu{cuda}")]
    if wheels or name != "tensorrt":
        return max(wheels, default=None)
    debian = re.search(r"\+cuda(\d+)", debian_version(root, "python3-libnvinfer"))
    return int(debian[1]) if debian else None


def _tensorrt(root: Path, name: str) -> Finding:
    """A flavour of TensorRT, as this Python sees it, or else the system's."""
    program = _ASK_TENSORRT.replace("NAME", name)
    answer, error = ask(program)
    if answer:
        parts = tuple(int(part) for part in answer[0].split(".") if part.isdigit())
        too_old = parts < OLDEST_TENSORRT and name != "tensorrt_rtx"
        return Finding(name, answer[0], TOO_OLD if too_old else "")
    if "No module named" not in error:
        return Finding(name, "", f"it is installed but does not load: {error}")
    theirs, _ = ask(program, str(root / "usr/bin/python3"))
    if not theirs:
        return Finding(name, "")
    cure = "make a virtual environment with that one: /usr/bin/python3 -m venv --system-site-packages VENV"
    if sys.prefix != sys.base_prefix and theirs[1] == "{}.{}".format(*sys.version_info[:2]):
        cure = f"sed -i '/^include-system-site-packages/s/false/true/' {sys.prefix}/pyvenv.cfg"
    return Finding(name, "", f"only the system's Python {theirs[1]} sees it ({theirs[0]}): {cure}")


def _pycuda() -> Finding:
    build = "PATH=/usr/local/cuda/bin:$PATH pip install"  # it takes the toolkit of the first nvcc on PATH
    answer, error = ask(_ASK_PYCUDA)
    if answer:
        return Finding("pycuda", f"{answer[0]}, built with CUDA {answer[1]}", cuda=answer[1])
    if "No module named 'pycuda'" in error:
        return Finding("pycuda", "", f"to run plans, on the device: {build} 'edgepose[jetson]'")
    again = "" if "libcuda.so" in error else f": {build} --force-reinstall --no-deps --no-cache-dir pycuda"
    return Finding("pycuda", "", f"it is installed but does not load: {error}{again}")


def _driver_packages(gpu: Gpu | None) -> list[Finding]:
    """pycuda, or cuda-bindings in its place; which of them plans run with."""
    pycuda, bindings = _pycuda(), package_version("cuda-bindings")
    if not bindings:
        if gpu is not None and not pycuda.found:
            wheel = f"or, without compiling: pip install 'cuda-bindings=={gpu.driver_cuda[0]}.*'"
            pycuda = replace(pycuda, mend=f"{pycuda.mend}; {wheel}")
        return [pycuda]
    major = int(bindings.split(".")[0]) if bindings[0].isdigit() else None
    if pycuda.found:
        return [pycuda, Finding("cuda-bindings", f"{bindings}, not used: pycuda is")]
    return [replace(pycuda, mend=""), Finding("cuda-bindings", f"{bindings}, used in pycuda's place", cuda=major)]


def _opencv(root: Path, on_jetson: bool) -> Finding:
    answer, error = ask(_ASK_OPENCV)
    if answer is None:
        if "No module named" in error:
            return Finding("opencv", "", "pip install opencv-python-headless")
        cure = "'numpy<2'" if re.search("multiarray|ARRAY_API|NumPy 1", error) else "-U opencv-python-headless"
        return Finding("opencv", "", f"it is installed but does not load: {error}: pip install {cure}")
    number, build, file = answer
    with_ = {name: _has(build, name) for name in ("FFMPEG", "GStreamer")}
    found = f"{number}, " + ", ".join(f"{'with' if has else 'without'} {name}" for name, has in with_.items())
    found = f"{found} ({Path(file).parent})"
    if tuple(int(part) for part in re.findall(r"\d+", number)[:2]) < (4, 8):
        return Finding("opencv", found, "edgepose needs 4.8 or newer: pip install -U opencv-python-headless")
    if not on_jetson or with_["GStreamer"]:
        return Finding("opencv", found)
    theirs, _ = ask(_ASK_OPENCV, str(root / "usr/bin/python3"))
    if theirs and _has(theirs[1], "GStreamer"):
        cure = f"JetPack's {theirs[0]} has it: pip uninstall opencv-python-headless, pip install 'numpy<2'"
    else:
        cure = "sudo apt install nvidia-opencv-dev"  # nvidia-opencv brings no Python module on Jetson Linux 39
    return Finding("opencv", found, f"edgepose needs no GStreamer, but if you do: {cure}")


def _has(build_information: str, library: str) -> bool:
    return re.search(rf"^\s*{library}:\s+YES", build_information, flags=re.MULTILINE) is not None


def _power_mode(root: Path) -> Finding:
    mode, error = power_mode(root)
    if mode:
        return Finding("power mode", mode)
    return Finding("power mode", "", f"{error}: sudo apt install nvidia-l4t-nvpmodel, and ask with sudo nvpmodel -q")
