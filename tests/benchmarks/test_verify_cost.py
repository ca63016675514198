"""What verify costs the CPU, counted. No plan and no GPU."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgepose.benchmarks.studies.verify_cost import main
from tests.makers import dots_spec, write_toy_model


def test_crops_of_the_cpu_and_frames_of_the_plan_are_counted(tmp_path):
    pytest.importorskip("openvino")
    onnx = write_toy_model(tmp_path / "m.onnx", dots_spec(), batch="N")

    done = CliRunner().invoke(main, [str(onnx)])

    assert done.exit_code == 0, done.output
    assert "for 66 crops; 544 frames through the plan" in done.output  # as docs/measurements/gpu.md says
