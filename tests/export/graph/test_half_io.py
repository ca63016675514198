"""FP16 inputs and outputs: the file computes what it did, between other types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgepose.backends import load_backend
from edgepose.errors import ExportError
from edgepose.export.graph.fp16 import to_fp16
from edgepose.export.graph.half_io import halve_io, with_half_io
from edgepose.files import sha256_of
from edgepose.model.passport import Passport, read_passport, write_passport
from tests.export.graph.test_fp16 import CROPS, FLOAT, HALF, WEIGHT, conv, make_model, run
from tests.makers import dots_spec, write_toy_model


def types_of(model: onnx.ModelProto) -> list[int]:
    return [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]


def test_the_casts_at_both_ends_are_left_out():
    nodes = [conv("crops", "x"), conv("x", "heatmaps")]
    half = to_fp16(make_model(nodes, {"w": WEIGHT}))

    halved = with_half_io(half)

    assert types_of(halved) == [HALF, HALF]
    assert [node.op_type for node in halved.graph.node] == ["Conv", "Conv"]
    found = run(halved, CROPS.astype(np.float16))
    # ONNX Runtime's CPU computes FP16 in FP32 and rounds where it likes: by up to four times half an ulp of 4
    np.testing.assert_allclose(found, run(half, CROPS), atol=4 * 2**-9)


def test_an_end_that_is_fp32_inside_stays():
    nodes = [conv("crops", "x"), conv("x", "heatmaps")]

    assert types_of(with_half_io(to_fp16(make_model(nodes, {"w": WEIGHT}), keep_fp32=["x"]))) == [FLOAT, HALF]
    assert types_of(with_half_io(to_fp16(make_model(nodes, {"w": WEIGHT}), keep_fp32=["heatmaps"]))) == [HALF, FLOAT]


def test_an_input_that_is_read_in_both_types_stays():
    nodes = [conv("crops", "x"), conv("crops", "y"), helper.make_node("Add", ["x", "y"], ["heatmaps"], name="sum")]

    assert types_of(with_half_io(to_fp16(make_model(nodes, {"w": WEIGHT}), keep_fp32=["x"]))) == [FLOAT, HALF]


def test_a_network_in_fp32_is_refused_and_left_alone(tmp_path: Path):
    path = write_toy_model(tmp_path / "m.onnx")
    before = path.read_bytes()

    with pytest.raises(ExportError, match=r"take the \.fp16\.onnx or the \.int8\.onnx"):
        halve_io(path)

    assert path.read_bytes() == before
    read_passport(path)


@pytest.mark.parametrize("options", [{}, {"store_fp16": True}], ids=["fast", "stored"])
def test_a_cpu_computes_the_same_with_either_kind_of_ends(tmp_path: Path, options: dict[str, bool]):
    pytest.importorskip("openvino")
    plain = write_toy_model(tmp_path / "plain.onnx")
    paths = [tmp_path / "m.fp16.onnx", tmp_path / "halved.fp16.onnx"]
    for path in paths:
        path.write_bytes(to_fp16(onnx.load(plain)).SerializeToString())
        write_passport(path, Passport(dots_spec(), "fp16", sha256_of(path), "toy"))
    halve_io(paths[1])
    crops = np.random.default_rng(0).random((3, 3, 64, 48), dtype=np.float32)

    before, after = (load_backend(path, **options) for path in paths)

    assert types_of(onnx.load(paths[1])) == [HALF, HALF]
    assert after.heatmaps(crops).dtype == np.float32
    np.testing.assert_array_equal(after.heatmaps(crops), before.heatmaps(crops))
    assert read_passport(paths[1]).precision == "fp16"
