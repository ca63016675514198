"""edgepose benchmark: the arithmetic of its table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.benchmarks import latency
from edgepose.benchmarks.latency import make_frame, measure
from edgepose.benchmarks.latency_text import conditions, table
from edgepose.cli import main
from edgepose.model.passport import Passport
from edgepose.stages.geometry import usable_boxes
from edgepose.timing import stage
from tests.benchmarks.test_energy import write_monitor
from tests.makers import make_spec


class Clock:
    """Stands in for perf_counter: only the fake backends move it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedBackend:
    """Takes the milliseconds it is told to."""

    name = "fake"
    arithmetic = "FP32"

    def __init__(self, clock: Clock, name: str, network_ms: float) -> None:
        self.path = Path(name)
        self.passport = Passport(make_spec(), "fp32", "0" * 64, "random")
        self.spec = self.passport.spec
        self.clock, self.network_ms, self.calls = clock, network_ms, 0
        self.closed = False

    def keypoints(self, image, regions, *, flip_test=False, decoder=None):
        self.calls += 1
        with stage("network"):
            self.clock.now += self.network_ms * 1e-3
        self.clock.now += 1e-3
        return np.zeros((len(regions), 2, 3), np.float32)

    def keypoints_of(self, images, regions, **options):
        return [self.keypoints(*each, **options) for each in zip(images, regions, strict=True)]

    def warm_up(self, *, flip_test=False):
        pass

    def run(self, crops):
        raise NotImplementedError

    def heatmaps(self, crops):
        raise NotImplementedError

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class GraphedBackend(TimedBackend):
    """A CUDA graph saves 2 ms a frame, and joins two stages."""

    capturable = True
    cuda_graphs = True
    frames_in_flight = 2

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.under_way = []

    def keypoints(self, image, regions, *, flip_test=False, decoder=None):
        self.cuda_graphs = self.cuda_graphs and self.capturable
        with stage("network+decode" if self.cuda_graphs else "network"):
            self.clock.now += (self.network_ms - 2 * self.cuda_graphs) * 1e-3
        return np.zeros((len(regions), 2, 3), np.float32)

    def submit(self, image, regions, *, flip_test=False, decoder=None):
        self.clock.now += 1e-3  # twice as fast as waiting for each
        self.under_way.append(np.zeros((len(regions), 2, 3), np.float32))
        assert len(self.under_way) <= self.frames_in_flight

    def result(self):
        return self.under_way.pop(0)

    def heatmaps(self, crops):
        raise NotImplementedError


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "perf_counter", clock)
    monkeypatch.setattr("edgepose.timing.perf_counter", clock)
    return clock


def test_times_stages_and_ratios_are_what_the_engines_took(clock):
    slow, fast = TimedBackend(clock, "slow.onnx", 19.0), TimedBackend(clock, "fast.onnx", 4.0)

    rows = measure([slow, fast], batch=4, seconds=0.2).rows

    assert [row.model for row in rows] == ["slow.onnx", "fast.onnx"]
    assert rows[0].total_ms == pytest.approx((20, 20, 20))
    assert rows[1].stages_ms == pytest.approx({"network": 4, "host": 1})
    assert rows[1].speedup == pytest.approx(4)
    assert rows[0].people_per_s == pytest.approx(200)


def test_engines_take_turns_so_that_drift_hits_both(clock):
    first, second = TimedBackend(clock, "a", 1.0), TimedBackend(clock, "b", 1.0)

    measure([first, second], batch=1, seconds=0.05)

    assert first.calls == second.calls


def test_the_warm_up_is_not_counted_and_ends_even_when_times_never_settle(clock):
    backend = TimedBackend(clock, "drifting", 1.0)
    backend.network_ms = 100.0
    original = backend.keypoints

    def slower_each_time(*arguments, **options):
        backend.network_ms *= 1.1
        return original(*arguments, **options)

    backend.keypoints = slower_each_time

    (row,) = measure([backend], batch=1, seconds=0.01).rows

    alone = latency.FEWEST_ROUNDS
    assert backend.calls == 1 + latency.WARM_UP_ROUNDS[1] + row.rounds + alone
    assert row.total_ms[0] > 100 * 1.1**30


def test_the_frame_holds_as_many_usable_boxes_as_asked_for():
    image, boxes = make_frame(64)

    assert image.shape == (1080, 1920, 3)
    assert image.dtype == np.uint8
    assert usable_boxes(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 1920).all()
    assert np.array_equal(boxes, make_frame(64)[1])


def test_the_table_has_a_line_per_engine_and_batch_and_the_conditions_name_the_files(clock):
    backend = TimedBackend(clock, "m.onnx", 2.0)

    lines = table(measure([backend], 1, 0.01).rows + measure([backend], 8, 0.01).rows).splitlines()

    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    about = conditions([backend], threads=2).found
    assert about["CPU threads"] == "2"
    assert "random weights" in about["m.onnx"]


def test_a_plan_is_measured_with_and_without_cuda_graphs_and_with_two_frames_under_way(clock):
    backend = GraphedBackend(clock, "m.plan", 6.0)

    with_graph, without = measure([backend], batch=4, seconds=0.2).rows

    assert (with_graph.cuda_graph, without.cuda_graph) == (True, False)
    assert with_graph.stages_ms == pytest.approx({"network+decode": 4, "host": 0}, abs=1e-9)
    assert without.stages_ms == pytest.approx({"network": 6, "host": 0}, abs=1e-9)
    assert without.speedup == pytest.approx(4 / 6)
    assert with_graph.people_per_s == pytest.approx(4 / 1e-3)


def test_a_network_that_no_graph_can_hold_is_named_and_measured_without(clock):
    backend = GraphedBackend(clock, "m.plan", 6.0)
    backend.capturable = False

    measured = measure([backend], batch=1, seconds=0.05)

    assert [row.cuda_graph for row in measured.rows] == [False]
    assert measured.missing == ["m.plan with a CUDA graph: it cannot be recorded as one"]


def test_the_table_has_columns_for_graph_and_energy_only_where_a_row_has_them(clock):
    plan = measure([GraphedBackend(clock, "m.plan", 6.0)], 1, 0.01).rows
    onnx = measure([TimedBackend(clock, "m.onnx", 6.0)], 1, 0.01).rows

    assert "graph" not in table(onnx)
    assert "J/person" not in table(plan + onnx)
    lines = table([replace(plan[0], joules_per_person=0.0123), *onnx]).splitlines()

    assert lines[0].split()[-3:] == ["people/s", "J/person", "speed-up"]
    assert lines[1].split()[-2] == "0.0123"
    assert lines[2].split()[-2] == "-"
    assert [line.split()[3] for line in lines] == ["graph", "yes", "-"]


@pytest.mark.parametrize("value", ["", "0", "1,x", "-2"])
def test_a_wrong_batch_is_explained(value):
    result = CliRunner().invoke(main, ["benchmark", "--engine", "m.onnx", "--batch", value])

    assert result.exit_code == 2
    assert "1,4,8" in result.stderr


def test_backends_are_named_once_or_for_each_engine(clock, monkeypatch):
    asked = []

    def load(engine, backend, threads):
        asked.append(backend)
        return TimedBackend(clock, str(engine), 1.0)

    monkeypatch.setattr("edgepose.backends.load_backend", load)
    common = ["benchmark", "--batch", "1", "--seconds", "0.01"]

    for backends in ([], ["openvino"], ["onnxruntime", "openvino"]):
        options = [part for backend in backends for part in ("--backend", backend)]
        assert CliRunner().invoke(main, [*common, "--engine", "a", "--engine", "b", *options]).exit_code == 0
    wrong = CliRunner().invoke(main, [*common, "--engine", "a", "--backend", "openvino", "--backend", "openvino"])

    assert asked == [None, None, "openvino", "openvino", "onnxruntime", "openvino"]
    assert wrong.exit_code == 2


def test_a_missing_engine_is_one_line():
    result = CliRunner().invoke(main, ["benchmark", "--engine", "absent.onnx"])

    assert result.exit_code == 1
    assert result.stderr == "edgepose: absent.onnx: no such file\n"


def test_json_carries_numbers_conditions_and_what_was_not_measured(clock, monkeypatch):
    backend = TimedBackend(clock, "m.onnx", 2.0)
    monkeypatch.setattr("edgepose.backends.load_backend", lambda *_, **__: backend)

    result = CliRunner().invoke(
        main, ["benchmark", "--engine", "m.onnx", "--batch", "2", "--seconds", "0.01", "--json"]
    )

    data = json.loads(result.stdout)
    assert data["rows"][0]["batch"] == 2
    assert data["conditions"]["frame"].startswith("1920x1080")
    assert any(line.startswith("energy: ") for line in data["not_measured"])
    assert backend.closed


def test_json_carries_energy_where_a_monitor_measures_it(clock, monkeypatch, tmp_path):
    backend = TimedBackend(clock, "m.onnx", 2.0)
    monkeypatch.setattr("edgepose.backends.load_backend", lambda *_, **__: backend)
    rails = write_monitor(tmp_path, [("VDD_IN", 5000, 2000), ("VDD_SOC", 5000, 400)])
    monkeypatch.setattr("edgepose.benchmarks.energy.find_rails", lambda: rails)
    monkeypatch.setattr("edgepose.benchmarks.energy.perf_counter", clock)
    monkeypatch.setattr("edgepose.benchmarks.energy.FEWEST_SAMPLES", 2)

    result = CliRunner().invoke(
        main, ["benchmark", "--engine", "m.onnx", "--batch", "2", "--seconds", "0.01", "--json"]
    )

    data = json.loads(result.stdout)
    assert data["rows"][0]["joules_per_person"] == pytest.approx(10 * 3e-3 / 2)  # 10 W, 3 ms, two people
    assert data["rows"][0]["joules_by_rail"]["VDD_SOC"] == pytest.approx(2 * 3e-3 / 2)
    assert data["conditions"]["energy"].startswith("of VDD_IN,")
    assert not any(line.startswith("energy") for line in data["not_measured"])
