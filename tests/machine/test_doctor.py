"""edgepose doctor, on machines made of a few files, shell scripts and answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.machine import doctor
from edgepose.machine import system as machine
from edgepose.machine.doctor import Finding, examine
from tests.machine.test_gpu import make_driver

ORIN = {
    "name": "Orin",
    "compute_capability": [8, 7],
    "multiprocessors": 16,
    "integrated": True,
    "driver_cuda": [12, 6],
}
BUILD_INFORMATION = "  Video I/O:\n    FFMPEG:     YES\n    GStreamer:  {}\n"
JETPACK_6 = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
    "proc/meminfo": "MemTotal: 7802880 kB\nMemAvailable: 5242880 kB\nSwapTotal: 4194304 kB\n",
    "usr/local/cuda/include/cuda.h": "",
    "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}',
    "var/lib/dpkg/status": (
        "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 6.2+b77\n\n"
        "Package: python3-libnvinfer\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n\n"
        "Package: tensorrt\nStatus: deinstall ok config-files\nVersion: 1\n"
    ),
}
NVCC = {
    "usr/local/cuda/bin/nvcc": (
        '#!/bin/sh\n[ "$1" = --list-gpu-code ] && echo "sm_80 sm_87" || echo "Cuda tools, release {}, V{}.1"\n'
    )
}
NVPMODEL = {"usr/sbin/nvpmodel": "#!/bin/sh\necho 'NV Power Mode: MAXN_SUPER'\necho 2\n"}
HEALTHY = {  # what a Python answers: a word of the program -> answer, or why it has none
    "libcuda": {"status": 0, "gpu": ORIN, "error": ""},
    "tensorrt as": ["10.3.0", "3.10"],
    "pycuda": ["2026.1", 12],
    "cv2": ["4.8.0", BUILD_INFORMATION.format("YES"), "/usr/lib/python3.10/dist-packages/cv2/__init__.py"],
}


def make_root(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if "/bin/" in name or "/sbin/" in name:
            path.chmod(0o755)
    return folder


@pytest.fixture
def answers(monkeypatch):
    """What this Python and the system's answer; change it in a test. An answer in a string is an error."""
    here, system = dict(HEALTHY), {}

    def ask(program: str, python: str = sys.executable):
        known = here if python == sys.executable else system
        absent = f"ModuleNotFoundError: No module named {re.findall(r'import ([a-z_0-9]+)', program)[0]!r}"
        answer = next((value for word, value in known.items() if word in program), absent)
        return (None, answer) if isinstance(answer, str) else (answer, "")

    monkeypatch.setattr(doctor, "ask", ask)
    monkeypatch.setattr(
        doctor, "package_version", lambda name: "" if "cu1" in name or name == "cuda-bindings" else "1.0"
    )
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return here, system


def found(root: Path, name: str) -> Finding:
    return next(finding for finding in examine(root) if finding.name == name)


def jetson_root(folder: Path, nvcc: str = "12.6", **changes: str) -> Path:
    scripts = {name: text.format(nvcc, nvcc) for name, text in NVCC.items()}
    return make_root(folder, {**JETPACK_6, **scripts, **NVPMODEL, **changes})


def test_a_healthy_jetson_lacks_nothing(tmp_path, answers):
    findings = {finding.name: finding for finding in examine(jetson_root(tmp_path))}

    assert [finding for finding in findings.values() if finding.mend] == []
    expected = {
        "jetson": "NVIDIA Jetson Orin Nano, Jetson Linux 36.4.3, JetPack 6.2",
        "memory": "7.4 GiB, 5.0 GiB available, 4.0 GiB swap",
        "gpu": "Orin, sm_87, 16 SMs, integrated",
        "driver": "for CUDA 12.6",
        "cuda toolkit": "12.6.68 (/usr/local/cuda)",
        "nvcc": f"12.6 ({tmp_path}/usr/local/cuda/bin/nvcc)",
        "tensorrt": "10.3.0",
        "pycuda": "2026.1, built with CUDA 12",
        "opencv": "4.8.0, with FFMPEG, with GStreamer (/usr/lib/python3.10/dist-packages/cv2)",
        "power mode": "MAXN_SUPER",
    }
    assert {name: findings[name].found for name in expected} == expected


def test_a_jetson_as_flashed_is_told_to_install_jetpack(tmp_path, answers):
    here, _ = answers
    here.clear()
    bare = {name: JETPACK_6[name] for name in ("etc/nv_tegra_release", "proc/device-tree/model")}

    mends = {finding.name: finding.mend for finding in examine(make_root(tmp_path, bare))}

    assert mends["jetson"] == "sudo apt update && sudo apt install nvidia-jetpack"
    assert mends["cuda toolkit"] == "to compile pycuda: sudo apt install nvidia-cuda-dev"
    assert "sudo apt install nvidia-cuda-dev" in mends["nvcc"]
    assert "sudo apt install python3-libnvinfer" in mends["tensorrt"]
    assert mends["tensorrt_rtx"] == ""  # there is none for a Jetson
    assert "PATH=/usr/local/cuda/bin:$PATH pip install 'edgepose[jetson]'" in mends["pycuda"]
    assert "torch" not in mends


@pytest.mark.parametrize(("release", "revision"), [(32, "7.1"), (35, "4.1"), (36, "3.0")])
def test_jetpack_6_0_and_older_bring_an_older_tensorrt(tmp_path, answers, release, revision):
    line = f"# R{release} (release), REVISION: {revision}, GCID: 1\n"

    mend = found(jetson_root(tmp_path, **{"etc/nv_tegra_release": line}), "jetson").mend

    assert "flash JetPack 6.1 or newer" in mend


def test_a_container_without_the_nvidia_runtime_is_named(tmp_path, answers):
    here, _ = answers
    here["libcuda"] = {"status": None, "gpu": None, "error": ""}
    root = make_root(tmp_path, {"proc/device-tree/model": JETPACK_6["proc/device-tree/model"]})

    assert "--runtime nvidia" in found(root, "jetson").mend
    assert "--runtime nvidia" in found(root, "gpu").mend


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": None, "gpu": None, "error": ""}, "no libcuda.so.1"),
        ({"status": 100, "gpu": None, "error": ""}, "error 100"),
        ({"status": 0, "gpu": None, "error": "the CUDA driver answered cuDeviceGet with error 999"}, "error 999"),
        ("it ended with status -11", "status -11"),
        ("no answer in 60 s", "no answer in 60 s"),
    ],
)
def test_a_driver_in_any_state_is_described(tmp_path, answers, answer, expected):
    here, _ = answers
    here["libcuda"] = answer

    findings = examine(jetson_root(tmp_path))

    assert expected in next(finding.mend for finding in findings if finding.name == "gpu")
    assert "driver" not in {finding.name for finding in findings}


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (0, "Orin, sm_87, 16 SMs, integrated"),
        (100, "no GPU (cuInit: error 100)"),
        (803, "cuInit with error 803 (CUDA_ERROR_X): restart the machine"),
        ("*(volatile int *)0", "status -11"),
        ("({for (;;); 0;})", "no answer in 2 s"),
    ],
)
def test_a_driver_that_fails_crashes_or_hangs_is_asked_from_afar(tmp_path, monkeypatch, init, expected):
    make_driver(tmp_path, init=init)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setattr(machine, "PATIENCE", 2 if "for" in str(init) else 60)

    _, finding = doctor._gpu(tmp_path, on_jetson=True)

    assert expected in finding.found + finding.mend


def test_a_user_who_may_not_use_the_gpu_is_told_of_the_group(tmp_path, answers, monkeypatch):
    here, _ = answers
    here["libcuda"] = {"status": 999, "gpu": None, "error": "the CUDA driver answered cuInit with error 999: why"}
    root = jetson_root(tmp_path, **{"dev/nvmap": ""})
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)

    assert "sudo usermod -aG video $USER" in found(root, "gpu").mend


@pytest.mark.parametrize(
    ("pycuda", "said"),
    [(True, "12.9.10, not used: pycuda is"), (False, "12.9.10, used in pycuda's place")],
)
def test_which_way_to_the_gpu_is_taken_is_said(tmp_path, answers, monkeypatch, pycuda, said):
    here, _ = answers
    if not pycuda:
        del here["pycuda"]
        assert found(jetson_root(tmp_path), "pycuda").mend.endswith("pip install 'cuda-bindings==12.*'")
    monkeypatch.setattr(doctor, "package_version", lambda name: "12.9.10" if name == "cuda-bindings" else "")

    findings = {finding.name: finding for finding in examine(jetson_root(tmp_path))}

    assert findings["cuda-bindings"].found == said
    assert findings["pycuda"].mend == ""


def test_a_driver_older_than_nvcc_tensorrt_and_pycuda_is_too_old(tmp_path, answers):
    here, _ = answers
    here["pycuda"] = ["2026.1", 13]
    status = JETPACK_6["var/lib/dpkg/status"].replace("10.3.0.30-1+cuda12.5", "10.13.3-1+cuda13.0")
    root = jetson_root(tmp_path, nvcc="13.0", **{"var/lib/dpkg/status": status})

    mend = found(root, "driver").mend

    assert "too old for nvcc (CUDA 13), tensorrt (CUDA 13), pycuda (CUDA 13)" in mend


def test_a_wheel_of_tensorrt_says_which_cuda_it_wants(tmp_path, answers, monkeypatch):
    monkeypatch.setattr(doctor, "package_version", lambda name: "11.4" if name == "tensorrt-cu13" else "")

    assert "tensorrt (CUDA 13)" in found(jetson_root(tmp_path), "driver").mend


def test_minor_versions_of_one_cuda_go_together(tmp_path, answers):
    assert found(jetson_root(tmp_path, nvcc="12.9"), "driver").mend == ""


def test_an_nvcc_that_does_not_know_the_gpu_is_named(tmp_path, answers):
    here, _ = answers
    here["libcuda"] = {"status": 0, "gpu": {**ORIN, "compute_capability": [11, 0]}, "error": ""}

    assert "does not know sm_110" in found(jetson_root(tmp_path), "nvcc").mend


def test_an_nvcc_that_does_not_run_is_named(tmp_path, answers):
    root = jetson_root(tmp_path, **{"usr/local/cuda/bin/nvcc": "#!/bin/sh\necho cannot execute >&2\nexit 126\n"})

    assert "cannot execute" in found(root, "nvcc").mend


def test_tensorrt_of_the_systems_python_is_joined_to_an_environment_of_the_same_python(tmp_path, answers, monkeypatch):
    here, system = answers
    del here["tensorrt as"]
    system["tensorrt as"] = ["10.3.0", "{}.{}".format(*sys.version_info[:2])]
    monkeypatch.setattr(sys, "prefix", "/home/me/venv")

    mend = found(jetson_root(tmp_path), "tensorrt").mend

    assert "10.3.0" in mend
    assert mend.endswith("sed -i '/^include-system-site-packages/s/false/true/' /home/me/venv/pyvenv.cfg")


def test_the_command_that_joins_an_environment_works(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    command = f"sed -i '/^include-system-site-packages/s/false/true/' {tmp_path}/pyvenv.cfg"

    subprocess.run(command, shell=True, check=True)

    ask = "import site, sys; print(any(folder.startswith(sys.base_prefix) for folder in site.getsitepackages()))"
    done = subprocess.run([tmp_path / "bin/python", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_tensorrt_of_another_python_asks_for_an_environment_of_that_one(tmp_path, answers):
    here, system = answers
    del here["tensorrt as"]
    system["tensorrt as"] = ["10.3.0", "3.1"]

    assert "/usr/bin/python3 -m venv --system-site-packages" in found(jetson_root(tmp_path), "tensorrt").mend


def test_tensorrt_8_is_too_old(tmp_path, answers):
    here, _ = answers
    here["tensorrt as"] = ["8.6.2.3", "3.10"]

    assert "10.3 or newer" in found(jetson_root(tmp_path), "tensorrt").mend


def test_one_of_tensorrt_and_tensorrt_for_rtx_is_enough(tmp_path, answers):
    here, _ = answers
    here["tensorrt_rtx as"] = ["1.7.1.116", "3.11"]
    del here["tensorrt as"]

    assert found(tmp_path, "tensorrt").mend == ""
    assert found(tmp_path, "tensorrt_rtx").found == "1.7.1.116"


@pytest.mark.parametrize(
    ("package", "error", "expected"),
    [
        ("tensorrt as", "ImportError: libnvinfer.so.10: cannot open shared object file", "libnvinfer.so.10"),
        ("pycuda", "ImportError: libcurand.so.10: cannot open shared object file", "--force-reinstall"),
        ("cv2", "ImportError: numpy.core.multiarray failed to import", "pip install 'numpy<2'"),
        ("cv2", "ImportError: libGL.so.1: cannot open shared object file", "opencv-python-headless"),
        ("cv2", "it ended with status -11", "opencv-python-headless"),
    ],
)
def test_a_package_that_does_not_load_is_told_from_one_that_is_absent(tmp_path, answers, package, error, expected):
    here, _ = answers
    here[package] = error
    name = {"tensorrt as": "tensorrt", "cv2": "opencv"}.get(package, package)

    mend = found(jetson_root(tmp_path), name).mend

    assert f"does not load: {error}" in mend
    assert expected in mend


def test_opencv_without_gstreamer_is_told_where_jetpacks_is(tmp_path, answers):
    here, system = answers
    here["cv2"] = ["4.12.0", BUILD_INFORMATION.format("NO"), "/venv/cv2/__init__.py"]
    root = jetson_root(tmp_path)

    assert "sudo apt install nvidia-opencv-dev" in found(root, "opencv").mend
    system["cv2"] = HEALTHY["cv2"]
    assert "pip uninstall opencv-python-headless" in found(root, "opencv").mend


def test_an_old_opencv_is_named(tmp_path, answers):
    here, _ = answers
    here["cv2"] = ["4.5.4", BUILD_INFORMATION.format("YES"), "/usr/lib/python3/dist-packages/cv2.so"]

    assert "4.8 or newer" in found(jetson_root(tmp_path), "opencv").mend


@pytest.mark.parametrize("script", ["#!/bin/sh\necho 'NVPM ERROR: no permission' >&2\nexit 1\n", "not a program"])
def test_a_power_mode_that_is_not_told_says_how_to_ask(tmp_path, answers, script):
    assert "sudo nvpmodel -q" in found(jetson_root(tmp_path, **{"usr/sbin/nvpmodel": script}), "power mode").mend


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import os; os.abort()", "it ended with status -6"),
        ("raise ImportError('libnvinfer.so.10')", "ImportError: libnvinfer.so.10"),
        ("import time; time.sleep(60)", "no answer in 0.5 s"),
        ("import os; os._exit(0)", "it says nothing"),
    ],
)
def test_a_program_that_crashes_or_hangs_gives_an_error(monkeypatch, program, error):
    monkeypatch.setattr(machine, "PATIENCE", 0.5)
    start = time.monotonic()

    assert machine.ask(program) == (None, error)
    assert time.monotonic() - start < 30


def test_an_answer_is_found_among_what_a_package_prints():
    assert machine.ask("print('[TRT] hello', end=''); answer = [1, 'two']") == ([1, "two"], "")


def test_a_program_that_is_not_there_gives_an_error():
    assert machine.run(["/nowhere/nvcc"]) == ("", "/nowhere/nvcc: No such file or directory")


def test_this_machine_is_examined_as_it_is():
    result = CliRunner().invoke(main, ["doctor", "--json"])

    findings = {item["name"]: item for item in json.loads(result.stdout)}
    assert {"edgepose", "python", "jetson", "gpu", "nvcc", "pycuda", "opencv", "openvino", "onnxruntime"} <= set(
        findings
    )
    assert {"tensorrt", "tensorrt_rtx", "tensorrt_lean", "tensorrt_dispatch"} <= set(findings)
    assert findings["opencv"]["found"]
    assert findings["python"]["found"].startswith("3.")


def test_each_mend_stands_below_what_it_mends(tmp_path, answers, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("gpu", "", "buy one"), Finding("nvcc", "13.0")])

    result = CliRunner().invoke(main, ["doctor"])

    assert [line.split() for line in result.stdout.splitlines()] == [
        ["gpu", "-"],
        ["->", "buy", "one"],
        ["nvcc", "13.0"],
    ]
