"""What the OpenVINO backend does so that its INT8 numbers are the file's."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from edgepose.backends import load_backend
from edgepose.calibration.qdq import insert_qdq, quantisable_layers, quantised_inputs
from edgepose.export.precision import to_fp16
from tests.calibration.graphs import GraphMaker, prepare, run, toy_crops, write_model


def network_with_a_concat() -> onnx.ModelProto:
    """Features and a stage's heat maps joined for the next stage, as in a Convolutional Pose Machine."""
    g = GraphMaker()
    x = g.node("Relu", [g.conv("crops", "stem", (8, 3, 3, 3), strides=[4, 4], pads=[1] * 4)], "stem_relu")
    features, first = g.conv(x, "features", (6, 8, 1, 1)), g.conv(x, "first", (2, 8, 1, 1))
    x = g.node("Concat", [features, first], "both", axis=1)
    g.conv(g.node("Relu", [g.conv(x, "second", (8, 8, 3, 3), pads=[1] * 4)], "second_relu"), "heatmaps", (2, 8, 1, 1))
    return g.model(["n", 3, 64, 48], "heatmaps")


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_a_quantised_concat_keeps_the_files_step(rest: str, tmp_path: Path):
    prepared = prepare(network_with_a_concat())
    layers = [name for name in quantisable_layers(prepared) if name == "second"]  # float before the Concat: the worst
    quantised = insert_qdq(prepared, dict.fromkeys(quantised_inputs(prepared, layers), 4.0), layers)
    crops = toy_crops()
    wanted = run(quantised, crops)[0]
    path = write_model(tmp_path, to_fp16(quantised) if rest == "fp16" else quantised, precision="int8")

    with closing(load_backend(path, backend="openvino")) as backend:
        heatmaps = backend.heatmaps(crops)

    # FP16 weights move values by a thousandth, and some of them over the edge between two steps
    assert np.sqrt(((heatmaps - wanted) ** 2).mean() / (wanted**2).mean()) < (1e-5 if rest == "fp32" else 0.02)
