"""The table of how TensorRT fuses files. No GPU."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgepose.benchmarks import fusion
from edgepose.benchmarks.fusion import as_row, files_of, fusion_rows, libraries_of, main
from edgepose.errors import ModelFileError
from edgepose.model.computes import Computes
from edgepose.trt.options import BuildOptions
from tests.trt.test_build import write_network


def test_a_row_tells_layers_and_shares():
    computes = Computes({"INT8": 0.75, "FP16": 0.25}, {"INT8": 1.0, "FP16": 0.5}, (), 0, 112, 57, 1, 52)

    assert (
        as_row("rtx", "m", computes)
        == "| rtx | m | 112 | 57 | 52 | 1 | 75.0% INT8, 25.0% FP16 | 100% of INT8, 50% of FP16 |"
    )
    assert as_row("rtx", "m", "not built") == "| rtx | m | not built |  |  |  |  |  |"


def test_each_file_has_a_row_and_one_that_cannot_be_built_its_reason(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    options = BuildOptions(targets=("sm_86",), kernels=False)
    files = [
        write_network(tmp_path / "a.onnx", layers=2),
        write_network(tmp_path / "b.onnx", operator="NoSuchOperator"),
    ]

    (library, _, first), (_, _, second) = fusion_rows(files, options, "tensorrt_rtx")

    assert library.startswith("tensorrt_rtx 1.")
    assert isinstance(first, Computes)
    assert first.weighted == 2
    assert "NoSuchOperator" in str(second)
    assert "| --- |" in CliRunner().invoke(main, [str(files[0]), "--target", "sm_86"]).output
    assert list(fusion_rows([], options)) == []


def test_a_folder_stands_for_the_four_networks_in_both_precisions(tmp_path):
    names = [
        "simplebaseline_resnet50_coco_256x192",
        "hrnet_w32_coco_256x192",
        "ultralight-simplepose",
        "cpm_coco_256x192",
    ]
    wanted = [tmp_path / f"{name}.{precision}.onnx" for name in names for precision in ("fp16", "int8")]
    for path in [*wanted, tmp_path / "other.int8.onnx"]:
        path.touch()

    assert files_of([]) == []
    assert files_of([tmp_path, tmp_path / "other.int8.onnx"]) == [*wanted, tmp_path / "other.int8.onnx"]
    wanted[-1].unlink()
    with pytest.raises(ModelFileError, match=r"has no cpm\*\.int8\.onnx: export and calibrate it"):
        files_of([tmp_path])


def test_each_installed_library_has_its_rows(monkeypatch):
    monkeypatch.setattr(fusion, "find_spec", lambda name: name)

    assert libraries_of(None, []) == ["tensorrt", "tensorrt_rtx"]
    assert libraries_of(None, ["sm_86"]) == ["tensorrt_rtx"]
    assert libraries_of("tensorrt", []) == ["tensorrt"]
