"""Energy of a Jetson while something runs, from its INA3221 power monitors through Linux's hwmon.

A monitor has three channels: inN_label names the rail, inN_input is its voltage in mV, currN_input its current in mA
(Linux kernel, Documentation/hwmon/ina3221). NVML's power readings are not there on a Jetson.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from types import TracebackType

from edgepose.machine.system import read

WHOLE = "VDD_IN"  # what the module takes in all, on an Orin Nano and NX
PART_OF_OTHERS = ("VDDQ_VDD2_1V8AO",)  # fed by VIN_SYS_5V0, on an AGX Orin
PERIOD = 0.02  # seconds between samples
FEWEST_SAMPLES = 5

Watts = dict[str, float]


@dataclass(frozen=True)
class Rail:
    """One channel of a monitor: its label, and the files of its voltage (mV) and current (mA)."""

    label: str
    millivolt: Path
    milliampere: Path

    def watts(self) -> float | None:
        """What it takes now; None where it cannot be read."""
        try:
            return int(read(self.millivolt)) * int(read(self.milliampere)) * 1e-6
        except ValueError:
            return None


@dataclass(frozen=True)
class Energy:
    """What was spent between entering and leaving a Meter. What the machine takes when idle is in it.

    Attributes:
        joules: of each rail.
        seconds: how long.
        samples: how often each was read.
    """

    joules: dict[str, float]
    seconds: float
    samples: int

    @property
    def total(self) -> float:
        """Joules of the counted rails."""
        return sum(self.joules[name] for name in counted(self.joules))

    def per(self, people: int) -> Energy:
        """The share of one of `people`."""
        return replace(self, joules={name: value / people for name, value in self.joules.items()})


def counted(labels: Iterable[str]) -> list[str]:
    """The rails that add up to a total: VDD_IN, or where there is none all that are no part of another."""
    labels = list(labels)
    return [WHOLE] if WHOLE in labels else [name for name in labels if name not in PART_OF_OTHERS]


def find_rails(root: Path = Path("/")) -> list[Rail]:
    """The rails of this machine's INA3221 monitors that can be read; none where there is no such monitor."""
    rails = []
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read(folder / "name").strip() != "ina3221":
            continue
        for channel in (1, 2, 3):  # in7 is the sum of the shunts
            label = read(folder / f"in{channel}_label").strip()
            rail = Rail(label, folder / f"in{channel}_input", folder / f"curr{channel}_input")
            if label not in ("", "NC") and rail.watts() is not None:
                rails.append(rail)
    return rails


class Meter:
    """Samples rails in a thread of its own: `with Meter(rails) as meter: ...`, then `meter.energy`.

    That is None where there are no rails, or where too few samples were taken.
    """

    def __init__(self, rails: list[Rail], period: float = PERIOD) -> None:
        self._rails, self._period = rails, period
        self._samples: list[tuple[float, Watts]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.energy: Energy | None = None

    def __enter__(self) -> Meter:
        if self._rails:
            self._sample()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._rails:
            return
        self._stop.set()
        self._thread.join()
        self._sample()
        if len(self._samples) >= FEWEST_SAMPLES:
            self.energy = integrate(self._samples)

    def _watch(self) -> None:
        while not self._stop.wait(self._period):
            self._sample()

    def _sample(self) -> None:
        watts: Mapping[str, float | None] = {rail.label: rail.watts() for rail in self._rails}
        read_all = {name: value for name, value in watts.items() if value is not None}
        if len(read_all) == len(self._rails):  # a reading that fails once is left out, the next one bridges it
            self._samples.append((perf_counter(), read_all))


def integrate(samples: list[tuple[float, Watts]]) -> Energy:
    """Energy between the first and the last of at least two (seconds, watts of each rail), by the trapezoidal rule."""
    joules = dict.fromkeys(samples[0][1], 0.0)
    for (start, before), (end, after) in pairwise(samples):
        for name in joules:
            joules[name] += (end - start) * (before[name] + after[name]) / 2
    return Energy(joules, samples[-1][0] - samples[0][0], len(samples))
