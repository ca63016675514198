"""Files that another tool has quantised are refused by each command that makes or judges INT8."""

from __future__ import annotations

from pathlib import Path

import cv2
import onnx
import pytest
from click.testing import CliRunner

from edgepose.cli import main
from tests.calibration.graphs import pose_network, toy_crops, write_model
from tests.makers import smooth_image

quantization = pytest.importorskip("onnxruntime.quantization")

WAYS = ["QDQ", "QOperator", "dynamic"]


class Crops(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        self.feeds = iter([{"crops": crop[None]} for crop in toy_crops(2)])

    def get_next(self):
        return next(self.feeds, None)


@pytest.fixture(scope="module", params=WAYS)
def foreign(request, tmp_path_factory) -> Path:
    """A toy network that onnxruntime has quantised, with a passport that says FP32."""
    folder = tmp_path_factory.mktemp("foreign")
    for seed in range(6):
        cv2.imwrite(str(folder / f"{seed}.png"), smooth_image(seed=seed))
    source = write_model(folder, pose_network(), "source.onnx")
    made = folder / "made.onnx"
    if request.param == "dynamic":
        quantization.quantize_dynamic(source, made, op_types_to_quantize=["Conv"])
    else:
        form = quantization.QuantFormat[request.param]
        quantization.quantize_static(source, made, Crops(), quant_format=form)
    return write_model(folder, onnx.load(made), "foreign.onnx")


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrate", "--model"),
        ("calibrate", "--budget", "1px", "--model"),
        ("calibrate", "--report", "page.html", "--model"),
        ("sensitivity",),
    ],
)
def test_each_command_refuses_it_in_a_line(foreign, arguments, monkeypatch):
    monkeypatch.chdir(foreign.parent)
    before = sorted(path.name for path in foreign.parent.iterdir())

    result = CliRunner().invoke(main, [*arguments, foreign.name, "--images", "*.png", "--boxes", "whole"])

    assert result.exit_code == 1
    assert "foreign.onnx is quantised already (" in result.output
    assert "wanted the FP32 file" in result.output
    assert result.output.count("\n") == 1
    assert sorted(path.name for path in foreign.parent.iterdir()) == before
