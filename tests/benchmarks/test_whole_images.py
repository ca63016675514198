"""edgepose benchmark of networks that find everybody in a whole image."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.benchmarks import latency
from edgepose.benchmarks.latency_text import table
from edgepose.benchmarks.whole_images import measure_whole
from edgepose.cli import main
from edgepose.files import sha256_of
from edgepose.io.images import write_image
from edgepose.model.passport import Passport, write_passport
from tests.benchmarks.test_latency import Clock
from tests.evaluation.test_bottom_up import MAP_HW, SPEC, Drawn
from tests.makers import write_toy_model


class TimedDrawn(Drawn):
    """Finds two drawn people; its network takes the milliseconds that it is told to, the rest no time."""

    name, arithmetic = "fake", "FP32"

    def __init__(self, clock: Clock, name: str, network_ms: float) -> None:
        super().__init__(range(2))
        self.path, self.clock, self.network_ms = Path(name), clock, network_ms
        self.passport = Passport(SPEC, "fp32", "0" * 64, "random")

    def run(self, arrays):
        self.clock.now += self.network_ms * 1e-3
        return super().run(arrays)

    def close(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "perf_counter", clock)
    monkeypatch.setattr("edgepose.timing.perf_counter", clock)
    return clock


def test_rows_tell_the_people_found_and_the_stages(clock):
    networks = [TimedDrawn(clock, "slow.onnx", 20.0), TimedDrawn(clock, "fast.onnx", 5.0)]

    slow, fast = measure_whole(networks, np.zeros((*MAP_HW, 3), np.uint8), 0.1)

    assert slow.batch == 2
    assert slow.total_ms == pytest.approx((20, 20, 20))
    assert fast.speedup == pytest.approx(4)
    assert (fast.frames_per_s, fast.people_per_s) == pytest.approx((200, 400))
    assert fast.stages_ms == pytest.approx({"network": 5, "host": 0}, abs=1e-9)  # no other stage moves the clock


def test_other_scales_are_run_for_each_picture(clock):
    first, other = TimedDrawn(clock, "m.onnx", 5.0), TimedDrawn(clock, "half.onnx", 2.0)

    (row,) = measure_whole([first], np.zeros((*MAP_HW, 3), np.uint8), 0.1, scales=[other])

    assert row.total_ms == pytest.approx((7, 7, 7))
    assert row.batch == 2


def test_the_command_takes_scales_of_one_network_alone(tmp_path):
    write_toy_model(tmp_path / "m.onnx")

    result = CliRunner().invoke(
        main, ["benchmark", "--engine", str(tmp_path / "m.onnx"), "--scale", str(tmp_path / "m.onnx")]
    )

    assert result.exit_code == 2
    assert "--scale goes with one --engine, a bottom-up network" in result.output


def test_a_picture_of_nobody_is_measured_all_the_same(clock):
    network = TimedDrawn(clock, "m.onnx", 5.0)
    network.outputs = {name: np.zeros_like(maps) for name, maps in network.outputs.items()}

    (row,) = measure_whole([network], np.zeros((*MAP_HW, 3), np.uint8), 0.1)

    assert (row.batch, row.people_per_s, row.joules_per_person) == (0, 0, None)
    assert row.frames_per_s == pytest.approx(200)
    assert table([row]).splitlines()[1].split()[-3] == "200.0"


@pytest.fixture
def engine(tmp_path, clock, monkeypatch) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    write_passport(path, Passport(SPEC, "fp32", sha256_of(path), "random"))
    monkeypatch.setattr("edgepose.backends.load_runtime", lambda *_, **__: TimedDrawn(clock, "m.onnx", 5.0))
    return path


def test_the_command_measures_a_picture_of_ones_own_and_says_which(engine, tmp_path):
    write_image(tmp_path / "crowd.png", np.zeros((*MAP_HW, 3), np.uint8))
    arguments = ["benchmark", "--engine", str(engine), "--seconds", "0.05", "--json"]

    result = CliRunner().invoke(main, [*arguments, "--image", str(tmp_path / "crowd.png")])
    assert result.exit_code == 0, result.stderr
    made = CliRunner().invoke(main, arguments)

    told, told_of_made = json.loads(result.stdout), json.loads(made.stdout)
    assert told["rows"][0]["batch"] == 2
    assert told["conditions"]["frame"] == f"crowd.png, {MAP_HW[1]}x{MAP_HW[0]} RGB, decoded"
    assert not any("shows nobody" in line for line in told["not_measured"])
    assert any("shows nobody" in line for line in told_of_made["not_measured"])


@pytest.mark.parametrize("option", [["--batch", "4"], ["--detector", "d.onnx"]])
def test_options_of_crops_are_refused(engine, option):
    result = CliRunner().invoke(main, ["benchmark", "--engine", str(engine), *option])

    assert result.exit_code == 2
    assert "takes whole images" in result.stderr


def test_a_picture_for_crops_and_two_kinds_at_once_are_refused(engine, tmp_path):
    crops = CliRunner().invoke(main, ["benchmark", "--engine", "crops.onnx", "--image", "p.png"])
    both = CliRunner().invoke(main, ["benchmark", "--engine", str(engine), "--engine", "crops.onnx"])

    assert crops.exit_code == both.exit_code == 2
    assert "crops.onnx takes crops of people" in crops.stderr
    assert "measure them apart" in both.stderr
