"""Foreign ONNX files and checkpoints, and models whose passport is right and whose graph is not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from edgepose.model.passport import passport_path
from tests.faults.conftest import assert_refused, run
from tests.makers import TOY_WEIGHTS, dots_spec

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("openvino")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgepose.export.graph import run as graph_run  # noqa: E402
from edgepose.files import sha256_of  # noqa: E402

POOL = helper.make_node("AveragePool", ["crops"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4])
CONV = helper.make_node("Conv", ["pooled", "w"], ["heatmaps"])
WEIGHTS = numpy_helper.from_array(TOY_WEIGHTS.reshape(2, 3, 1, 1), "w")


def value(name: str, shape: list[int] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def write(path: Path, nodes: list, constants: list = (WEIGHTS,), *, outputs: bool = True) -> Path:
    """A graph of the toy's input and output."""
    found = [value("heatmaps", [1, 2, 16, 12])] if outputs else []
    graph = helper.make_graph(nodes, "g", [value("crops", [1, 3, 64, 48])], found, list(constants))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def endless(path: Path) -> Path:
    """The toy with a Loop of 2^62 turns behind it."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Mul", ["x", "one"], ["y"])],
        "body",
        [value("turn", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("x", None)],
        [value("on", [], TensorProto.BOOL), value("y", None)],
        [numpy_helper.from_array(np.float32(1), "one")],
    )
    conv, loop = (
        helper.make_node("Conv", ["pooled", "w"], ["once"]),
        helper.make_node("Loop", ["turns", "always", "once"], ["heatmaps"], body=body),
    )
    turns, always = (
        numpy_helper.from_array(*pair) for pair in ((np.int64(2**62), "turns"), (np.array(True), "always"))
    )
    return write(path, [POOL, conv, loop], [WEIGHTS, turns, always])


def import_(path: Path):
    spec = path.with_name("spec.json")
    spec.write_text(json.dumps(dots_spec().to_json()))
    return run("import", path, "--spec", spec, "-o", path.parent / "out")


def last_line(result) -> str:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_a_graph_without_outputs_is_refused(tmp_path):
    assert "has no output" in last_line(import_(write(tmp_path / "a.onnx", [POOL, CONV], outputs=False)))


def test_weights_that_are_all_zero_are_refused(tmp_path):
    zero = numpy_helper.from_array(np.zeros((2, 3, 1, 1), np.float32), "w")

    result = import_(write(tmp_path / "a.onnx", [POOL, CONV], [zero]))

    assert "its weights are lost" in last_line(result)
    assert not list(tmp_path.glob("out/*"))


def test_a_loop_without_an_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_run, "LONGEST_RUN", 0.3)
    start = time.monotonic()

    result = import_(endless(tmp_path / "a.onnx"))

    assert "without an end" in last_line(result)
    assert time.monotonic() - start < 60


def test_a_graph_that_cannot_be_run_is_told_without_the_runtimes_sources(tmp_path):
    wrong = helper.make_node("Add", ["mixed", "crops"], ["heatmaps"])
    mix = helper.make_node("Conv", ["pooled", "w"], ["mixed"])

    line = last_line(import_(write(tmp_path / "a.onnx", [POOL, mix, wrong])))

    assert "Incompatible dimensions" in line
    assert line.endswith("export it anew")
    assert "onnxruntime_src" not in line
    assert "[ONNXRuntimeError]" not in line


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("fault", ["outputs", "name"])
def test_a_model_that_fits_its_passport_and_no_runtime_is_one_line(toy, picture, tmp_path, backend, fault):
    if fault == "outputs":
        write(toy, [POOL, CONV], outputs=False)
    else:
        toy.write_bytes(toy.read_bytes().replace(b"crops", b"cr\xff\xfes"))
    path = passport_path(toy)
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": sha256_of(toy)}))

    result = run("infer", "--engine", toy, picture, "-o", tmp_path / "out", "--backend", backend)

    if fault == "outputs" or result.exit_code:
        assert_refused(result, str(toy))


def test_an_export_of_a_network_of_zeros_is_refused(tmp_path):
    import torch

    from edgepose.export.zoo.find import find_model

    model = find_model("simplebaseline_tiny")
    state = {key: torch.zeros_like(each) for key, each in model.build(model.styles[0]).state_dict().items()}
    torch.save(state, tmp_path / "zero.pth")

    result = run("export", "--model", "simplebaseline_tiny", "--weights", tmp_path / "zero.pth", "-o", tmp_path / "out")

    assert "its weights are lost" in last_line(result)
    assert not list(tmp_path.glob("out/*"))


def test_a_truncated_checkpoint_is_told_before_anything_is_asked_of_it(tmp_path):
    import torch

    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:9000])

    result = run("export", "--model", "simplebaseline", "--weights", tmp_path / "a.pth", "-o", tmp_path / "out")

    assert "is damaged" in last_line(result)
    assert "how it was trained" not in result.stderr
