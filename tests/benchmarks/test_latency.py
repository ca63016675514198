"""edgepose benchmark: the arithmetic of its table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.backends import StageTimes
from edgepose.benchmarks import latency
from edgepose.benchmarks.latency import conditions, make_frame, measure, table
from edgepose.cli import main
from edgepose.geometry import usable_boxes
from edgepose.passport import Passport
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

    def __init__(self, clock: Clock, name: str, network_ms: float) -> None:
        self.path = Path(name)
        self.passport = Passport(make_spec(), "fp32", "0" * 64, "random")
        self.spec = self.passport.spec
        self.times = StageTimes()
        self.clock, self.network_ms, self.calls = clock, network_ms, 0

    def keypoints(self, image, regions, *, flip_test=False, decoder=None):
        self.calls += 1
        with self.times.stage("network"):
            self.clock.now += self.network_ms * 1e-3
        self.clock.now += 1e-3
        return np.zeros((len(regions), 2, 3), np.float32)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "perf_counter", clock)
    monkeypatch.setattr("edgepose.backends.perf_counter", clock)
    return clock


def test_times_stages_and_ratios_are_what_the_engines_took(clock):
    slow, fast = TimedBackend(clock, "slow.onnx", 19.0), TimedBackend(clock, "fast.onnx", 4.0)

    rows = measure([slow, fast], batch=4, seconds=0.2)

    assert [row.engine for row in rows] == ["slow.onnx", "fast.onnx"]
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

    rows = measure([backend], batch=1, seconds=0.01)

    assert backend.calls == latency.WARM_UP_ROUNDS[1] + rows[0].rounds
    assert rows[0].total_ms[0] > 100 * 1.1**30


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

    lines = table(measure([backend], 1, 0.01) + measure([backend], 8, 0.01)).splitlines()

    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    about = conditions([backend], threads=2)
    assert about["threads"] == "2"
    assert "random weights" in about["m.onnx"]


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
    assert data["not_measured"]
