from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from edgepose.backends import load_runtime
from edgepose.errors import BackendError, ModelFileError
from edgepose.export.space import sample_windows
from edgepose.model.heads.lift import Lift
from edgepose.model.passport import read_passport, write_passport


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_nothing_in_is_nothing_out(tiny_lifter, backend):
    run = load_runtime(tiny_lifter.fp32, backend=backend)

    assert run.run({"points": np.zeros((0, 27, 15, 2), np.float32)})["xyz"].shape == (0, 15, 3)


def test_runtimes_agree_and_keep_no_results(tiny_lifter):
    head = read_passport(tiny_lifter.fp32).spec.head
    openvino, onnxruntime = (load_runtime(tiny_lifter.fp32, backend=name) for name in ("openvino", "onnxruntime"))
    points = sample_windows(head)

    first = openvino.run({"points": points})["xyz"]
    kept = first.copy()
    openvino.run({"points": -points})

    assert np.abs(first - onnxruntime.run({"points": points})["xyz"]).max() < 1e-4  # metres, in FP32
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    "inputs",
    [
        {"points": np.zeros((1, 26, 15, 2), np.float32)},
        {"points": np.zeros((1, 27, 15, 2))},
        {"crops": np.zeros((1, 27, 15, 2), np.float32)},
    ],
    ids=["frames", "float64", "name"],
)
def test_other_inputs_are_a_callers_mistake(tiny_lifter, inputs):
    run = load_runtime(tiny_lifter.fp32)

    with pytest.raises(ValueError, match=r"points (must be|is missing)"):
        run.run(inputs)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_graph_of_other_shapes_than_its_passports_is_refused(tiny_lifter, tmp_path, backend):
    passport = read_passport(tiny_lifter.fp32)
    other = replace(passport, spec=replace(passport.spec, head=Lift(81, points="body15", units="person")))
    model = shutil.copy(tiny_lifter.fp32, tmp_path / "other.onnx")
    write_passport(model, other)

    with pytest.raises(ModelFileError, match=r"the graph's points are \?, 27, 15, 2, its passport says N, 81, 15, 2"):
        load_runtime(model, backend=backend)


def test_onnx_runtime_refuses_fp16(tiny_lifter):
    with pytest.raises(BackendError, match="use OpenVINO"):
        load_runtime(tiny_lifter.fp16, backend="onnxruntime")
