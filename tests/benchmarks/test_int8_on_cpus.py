from __future__ import annotations

import pytest
from click.testing import CliRunner

pytest.importorskip("openvino")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edgepose.benchmarks.studies.int8_on_cpus import WAYS, WITHOUT, main
from tests.makers import write_toy_model


def test_every_way_has_a_row_for_each_kind_of_cpu(tmp_path):
    for suffix, precision in (("", "fp32"), (".fp16", "fp16"), (".int8", "int8")):
        write_toy_model(tmp_path / f"m{suffix}.onnx", precision=precision)

    result = CliRunner().invoke(main, ["--model", str(tmp_path / "m.onnx")], catch_exceptions=False)

    rows = [line.split(" | ") for line in result.output.splitlines() if line.startswith("| ")][2:]
    assert [(row[0].strip("| "), row[1]) for row in rows if row[1] == WITHOUT] == [
        (way, WITHOUT) for way, (_, _, cpus) in WAYS.items() if WITHOUT in cpus
    ]
    assert len(rows) == sum(len(cpus) for _, _, cpus in WAYS.values())
    assert all(float(row[6]) < 0.02 for row in rows if "saturating" not in row[0])  # INT8's step is 1 / 64
