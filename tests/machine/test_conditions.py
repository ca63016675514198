"""What is read of a machine, from a folder like its root."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepose.machine.conditions import read_conditions
from edgepose.machine.system import bf16_instructions, int8_instructions

ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1728000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu4/cpufreq/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpu4/cpufreq/scaling_governor": "schedutil\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "51562\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "50093\n",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("edgepose.machine.conditions.power_mode", lambda root: ("MAXN_SUPER", ""))
    monkeypatch.setattr("edgepose.machine.conditions.shutil.which", lambda program: None)
    for name, text in ORIN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_jetsons_conditions_are_read(root):
    conditions = read_conditions(root)

    assert conditions.found["machine"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert conditions.found["Jetson Linux"] == "36.4.3"
    assert conditions.found["power mode"] == "MAXN_SUPER"
    assert conditions.found["GPU clock"] == "17000000.gpu 1020 MHz of 1020 MHz, governor nvhost_podgov"
    assert conditions.found["memory clock (EMC)"] == "3199 MHz"
    assert conditions.found["CPU clock"] == "730 to 1728 MHz of 2 cores, governor schedutil"
    assert conditions.found["temperatures"] == "cpu-thermal 52 °C, gpu-thermal 50 °C"
    assert conditions.missing == ["JetPack: nvidia-jetpack is not installed"]


def test_what_cannot_be_read_is_named_and_left_out(root, monkeypatch):
    monkeypatch.setattr("edgepose.machine.conditions.power_mode", lambda root: ("", "there is no nvpmodel"))
    (root / "sys/kernel/debug/bpmp/debug/clk/emc/rate").unlink()

    conditions = read_conditions(root)

    assert "power mode: there is no nvpmodel" in conditions.missing
    assert any(line.startswith("memory clock (EMC)") for line in conditions.missing)
    assert not {"power mode", "memory clock (EMC)"} & set(conditions.found)


def test_a_machine_that_is_no_jetson_lacks_no_jetsons_conditions(tmp_path, monkeypatch):
    monkeypatch.setattr("edgepose.machine.conditions.shutil.which", lambda program: None)

    conditions = read_conditions(tmp_path)

    assert {line.partition(":")[0] for line in conditions.missing} <= {"machine", "CPU clock", "temperatures"}
    assert "Linux" in conditions.found["system"]


def test_a_discrete_gpus_clocks_are_nvidia_smis(tmp_path, monkeypatch):
    asked = []

    def run(command):
        asked.append(command)
        return "NVIDIA H100 80GB HBM3, 580.159.04, 1980 MHz, 2619 MHz, 41, 700.00 W\n", ""

    monkeypatch.setattr("edgepose.machine.conditions.shutil.which", lambda program: program)
    monkeypatch.setattr("edgepose.machine.conditions.run", run)

    text = read_conditions(tmp_path).found["nvidia-smi"]

    assert text.startswith("NVIDIA H100 80GB HBM3, driver_version 580.159.04, clocks.sm 1980 MHz")
    assert asked[0][0] == "nvidia-smi"


def test_an_nvidia_smi_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("edgepose.machine.conditions.shutil.which", lambda program: program)
    monkeypatch.setattr("edgepose.machine.conditions.run", lambda command: ("", "NVIDIA-SMI has failed"))

    assert "nvidia-smi: NVIDIA-SMI has failed" in read_conditions(tmp_path).missing


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        ("flags\t\t: avx512f avx512_bf16 avx512_vnni\n", ["avx512_bf16"]),
        ("Features\t: fp asimd bf16\n", ["bf16"]),
        ("flags\t\t: avx512f avx512_vnni\n", []),
    ],
)
def test_instructions_for_bf16_are_read_from_the_processors_flags(tmp_path, cpuinfo, found):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)

    assert bf16_instructions(tmp_path) == found


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", ["avx512_vnni"]),
        ("flags\t\t: avx2 avx_vnni amx_int8\n", ["amx_int8", "avx_vnni"]),
        ("flags\t\t: avx2 avx512f\nvmx flags\t: avx_vnni\n", []),
        ("Features\t: fp asimd asimdrdm asimddp\n", ["asimddp"]),
        ("Features\t: fp asimd\n", []),
        ("", []),
    ],
)
def test_instructions_for_int8_are_read_from_the_processors_flags(tmp_path, cpuinfo, found):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)

    assert int8_instructions(tmp_path) == found
    assert read_conditions(tmp_path).found["CPU INT8"] == (", ".join(found) or "no VNNI, AMX or dot product")
