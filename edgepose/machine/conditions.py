"""What a measured time holds for: board, power mode, clocks, temperatures. Linux's files, nvpmodel and nvidia-smi.

Only what can be read is stated; what cannot is named with the reason. Nothing raises, nothing hangs.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edgepose.machine.system import find_jetson, int8_instructions, power_mode, read, run

_CPUS = "sys/devices/system/cpu"
_EMC = "sys/kernel/debug/bpmp/debug/clk/emc/rate"  # Hz; root's only
_SMI = ("name", "driver_version", "clocks.sm", "clocks.mem", "temperature.gpu", "power.limit")


@dataclass
class Conditions:
    """Conditions by name, in the order of reading.

    Attributes:
        found: name -> value, with its unit.
        missing: one line for each that cannot be read: name, and why.
    """

    found: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, name: str, value: str, reason: str) -> None:
        """Note a value, or where it is empty the reason."""
        if value:
            self.found[name] = value
        else:
            self.missing.append(f"{name}: {reason}")


def read_conditions(root: Path = Path("/")) -> Conditions:
    """The machine as it is now; clocks and temperatures follow the load, so read them right after a measurement.

    Args:
        root: where /etc, /proc and /sys are looked for.
    """
    conditions = Conditions()
    jetson = find_jetson(root)
    conditions.add("machine", jetson.board if jetson else _processor(root), "there is no processor's name")
    conditions.add("system", _system(), "unknown")
    conditions.found["CPU INT8"] = ", ".join(int8_instructions(root)) or "no VNNI, AMX or dot product"
    if jetson:
        conditions.add("Jetson Linux", ".".join(map(str, jetson.release)), "there is no /etc/nv_tegra_release")
        conditions.add("JetPack", jetson.jetpack, "nvidia-jetpack is not installed")
        conditions.add("power mode", *power_mode(root))
        conditions.add("GPU clock", _gpu_clock(root), "there is no GPU in /sys/class/devfreq")
        emc = _hertz(read(root / _EMC))
        conditions.add("memory clock (EMC)", emc, f"/{_EMC} is for root only")
    conditions.add("CPU clock", _cpu_clock(root), f"there is no cpufreq in /{_CPUS}")
    conditions.add("temperatures", _temperatures(root), "there is none in /sys/class/thermal")
    if not jetson and shutil.which("nvidia-smi"):  # on a Jetson it knows none of these
        answer, error = run(["nvidia-smi", f"--query-gpu={','.join(_SMI)}", "--format=csv,noheader"])
        values = [value.strip() for value in (answer.splitlines() or [""])[0].split(",")]
        text = ", ".join(f"{name} {value}" for name, value in zip(_SMI, values, strict=False) if value)
        conditions.add("nvidia-smi", "" if error else text.removeprefix("name "), error or "nvidia-smi names none")
    return conditions


def _system() -> str:
    return f"{platform.system()} {platform.release()}, {platform.machine()}, Python {platform.python_version()}"


def _processor(root: Path) -> str:
    names = [line.split(":", 1)[1].strip() for line in _lines(root / "proc/cpuinfo") if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def _cpu_clock(root: Path) -> str:
    """The clocks of all cores that are on, with their governors."""
    folders = sorted((root / _CPUS).glob("cpu[0-9]*/cpufreq"))
    clocks = [int(text) / 1000 for folder in folders if (text := read(folder / "scaling_cur_freq").strip()).isdigit()]
    governors = sorted({text for folder in folders if (text := read(folder / "scaling_governor").strip())})
    if not clocks:
        return ""
    span = f"{min(clocks):.0f}" if min(clocks) == max(clocks) else f"{min(clocks):.0f} to {max(clocks):.0f}"
    return f"{span} MHz of {len(clocks)} cores" + (f", governor {' and '.join(governors)}" if governors else "")


def _gpu_clock(root: Path) -> str:
    """17000000.gpu on an Orin (17000000.ga10b before JetPack 6), gpu-gpc-0 on a Thor."""
    parts = []
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        if any(name in folder.name for name in ("gpu", "ga10b")) and (clock := _hertz(read(folder / "cur_freq"))):
            governor, most = read(folder / "governor").strip(), _hertz(read(folder / "max_freq"))
            parts.append(
                f"{folder.name} {clock}" + f" of {most}" * bool(most) + f", governor {governor}" * bool(governor)
            )
    return "; ".join(parts)


def _temperatures(root: Path) -> str:
    parts = []
    for folder in sorted(
        (root / "sys/class/thermal").glob("thermal_zone*"), key=lambda path: (len(path.name), path.name)
    ):
        text = read(folder / "temp").strip()  # a zone whose part is switched off cannot be read
        if text.removeprefix("-").isdigit():
            parts.append(f"{read(folder / 'type').strip() or folder.name} {int(text) / 1000:.0f} °C")
    return ", ".join(parts)


def _hertz(text: str) -> str:
    return f"{int(text) / 1e6:.0f} MHz" if text.strip().isdigit() else ""


def _lines(path: Path) -> Iterable[str]:
    return read(path).splitlines()
