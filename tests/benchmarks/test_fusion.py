"""The table of how TensorRT fuses files. No GPU."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgepose.benchmarks.fusion import as_row, fusion_rows, main
from edgepose.model.computes import Computes
from edgepose.trt.options import BuildOptions
from tests.trt.test_build import write_network


def test_a_row_tells_layers_and_shares():
    computes = Computes({"INT8": 0.75, "FP16": 0.25}, {"INT8": 1.0, "FP16": 0.5}, (), 0, 112, 57, 1, 52)

    assert as_row("m", computes) == "| m | 112 | 57 | 52 | 1 | 75.0% INT8, 25.0% FP16 | 100% of INT8, 50% of FP16 |"
    assert as_row("m", "not built") == "| m | not built |  |  |  |  |  |"


def test_each_file_has_a_row_and_one_that_cannot_be_built_its_reason(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    options = BuildOptions(targets=("sm_86",), kernels=False)
    files = [
        write_network(tmp_path / "a.onnx", layers=2),
        write_network(tmp_path / "b.onnx", operator="NoSuchOperator"),
    ]

    (_, first), (_, second) = fusion_rows(files, options, "tensorrt_rtx")

    assert isinstance(first, Computes)
    assert first.weighted == 2
    assert "NoSuchOperator" in str(second)
    assert "| --- |" in CliRunner().invoke(main, [str(files[0]), "--target", "sm_86"]).output
    assert list(fusion_rows([], options)) == []
