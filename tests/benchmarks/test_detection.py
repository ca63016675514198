from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from edgepose.benchmarks.detection import STAGES, measure_detector
from edgepose.cli import main
from edgepose.estimate.detect import EMBEDDED, load_detector
from tests.makers import write_toy_model

pytest.importorskip("openvino")


def test_a_detector_is_timed_stage_by_stage():
    measured = measure_detector(load_detector(threads=1), seconds=0.01)

    assert measured.rounds >= 3
    assert list(measured.stages_ms) == list(STAGES)
    assert min(measured.stages_ms.values()) >= 0
    assert "person_tiny.onnx, FP32 openvino" in measured.text()


def test_the_command_tells_it(tmp_path: Any):
    model = write_toy_model(tmp_path / "m.onnx")
    common = ["benchmark", "--engine", str(model), "--batch", "1", "--seconds", "0.01", "--detector", str(EMBEDDED)]

    result = CliRunner().invoke(main, common)

    assert result.exit_code == 0, result.output
    assert "detector person_tiny.onnx, FP32 openvino:" in result.stdout
    assert '"detector"' in CliRunner().invoke(main, [*common, "--json"]).stdout
