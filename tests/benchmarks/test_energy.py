"""INA3221 power monitors in a folder like /sys, and the energy between samples of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgepose.benchmarks.energy import Energy, Meter, Rail, counted, find_rails, integrate


def write_monitor(
    root: Path, channels: list[tuple[str, int, int]], *, number: int = 1, name: str = "ina3221"
) -> list[Rail]:
    """A monitor of (label, mV, mA), as hwmon shows it; the rails that are found then."""
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    for channel, (label, millivolt, milliampere) in enumerate(channels, start=1):
        (folder / f"in{channel}_label").write_text(f"{label}\n")
        (folder / f"in{channel}_input").write_text(f"{millivolt}\n")
        (folder / f"curr{channel}_input").write_text(f"{milliampere}\n")
    (folder / "in7_label").write_text("sum of shunt voltages\n")
    (folder / "in7_input").write_text("800\n")
    return find_rails(root)


def test_rails_are_found_by_their_labels_among_other_sensors(tmp_path):
    write_monitor(tmp_path, [("cpu", 900, 100)], number=0, name="coretemp")

    rails = write_monitor(tmp_path, [("VDD_IN", 5000, 2000), ("NC", 0, 0), ("VDD_SOC", 5000, 400)])

    assert [(rail.label, rail.watts()) for rail in rails] == [
        ("VDD_IN", pytest.approx(10)),
        ("VDD_SOC", pytest.approx(2)),
    ]


def test_a_rail_that_cannot_be_read_is_none(tmp_path):
    rails = write_monitor(tmp_path, [("VDD_IN", 5000, 2000), ("VDD_SOC", 5000, 400)])
    (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").unlink()

    assert [rail.label for rail in find_rails(tmp_path)] == ["VDD_SOC"]
    assert rails[0].watts() is None
    assert find_rails(tmp_path / "elsewhere") == []


def test_energy_is_the_area_under_the_power():
    samples = [(10.0, {"a": 2.0, "b": 0.0}), (11.0, {"a": 4.0, "b": 0.0}), (13.0, {"a": 4.0, "b": 1.0})]

    energy = integrate(samples)

    assert energy == Energy({"a": 3 + 8, "b": 1}, 3.0, 3)
    assert energy.per(2).joules == {"a": 5.5, "b": 0.5}


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], ["VDD_IN"]),  # Orin Nano, NX
        (
            ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"],  # AGX Orin
            ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"],
        ),
    ],
)
def test_no_rail_is_counted_twice(labels, wanted):
    assert counted(labels) == wanted
    assert Energy(dict.fromkeys(labels, 1.0), 1.0, 9).total == len(wanted)


def test_a_meter_samples_while_the_body_runs(tmp_path):
    rails = write_monitor(tmp_path, [("VDD_IN", 5000, 2000)])

    with Meter(rails, period=0.001) as meter:
        time.sleep(0.1)

    assert meter.energy is not None
    assert meter.energy.joules["VDD_IN"] == pytest.approx(10 * meter.energy.seconds)
    assert meter.energy.seconds >= 0.1


def test_too_few_samples_are_no_energy(tmp_path):
    rails = write_monitor(tmp_path, [("VDD_IN", 5000, 2000)])

    with Meter(rails, period=60) as meter:
        pass
    with Meter([]) as nothing:
        pass

    assert meter.energy is None
    assert nothing.energy is None
