"""What the OpenVINO backend does so that its INT8 numbers are the file's, on any CPU."""

from __future__ import annotations

import json
import os
import platform
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from edgepose.backends import load_backend, openvino_graph
from edgepose.backends.openvino_graph import int8_kernels_are_exact
from edgepose.calibration.qdq import insert_qdq, quantisable_layers, quantised_inputs
from edgepose.export.graph.edit import replace_nodes
from edgepose.export.graph.fp16 import to_fp16
from edgepose.machine.system import int8_instructions
from tests.backends.exactness import check_levels, in_fp32, quantised, run_openvino
from tests.calibration.graphs import GraphMaker, mobile_network, pose_network, prepare, run, toy_crops, write_model
from tests.shared_data import SHARED, needs_shared

WAYS = [pytest.param(True, id="exact"), pytest.param(False, id="kernels")]
TRAINED = ("ultralight_simplepose", "cpm_mobilenetv2", "efficientpose_rt")


def network_with_a_concat() -> onnx.ModelProto:
    """Features and a stage's heat maps joined for the next stage, as in a Convolutional Pose Machine."""
    g = GraphMaker()
    x = g.node("Relu", [g.conv("crops", "stem", (8, 3, 3, 3), strides=[4, 4], pads=[1] * 4)], "stem_relu")
    features, first = g.conv(x, "features", (6, 8, 1, 1)), g.conv(x, "first", (2, 8, 1, 1))
    x = g.node("Concat", [features, first], "both", axis=1)
    g.conv(g.node("Relu", [g.conv(x, "second", (8, 8, 3, 3), pads=[1] * 4)], "second_relu"), "heatmaps", (2, 8, 1, 1))
    return g.model(["n", 3, 64, 48], "heatmaps")


def network_with_biases() -> onnx.ModelProto:
    """Three convolutions with biases, which OpenVINO's reader adds in a node of their own."""
    g = GraphMaker()
    x = "crops"
    for name, shape in {"first": (8, 3, 4, 4), "second": (8, 8, 1, 1), "heatmaps": (2, 8, 1, 1)}.items():
        x = g.conv(x, name, shape, strides=[shape[2]] * 2)
        g.nodes[-1].input.append(g.weight(f"{name}.bias", g.rng.normal(0, 1, shape[0])))
    return g.model(["n", 3, 64, 48], "heatmaps")


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
@pytest.mark.parametrize("exact", WAYS)
@pytest.mark.parametrize("network", [pose_network, mobile_network, network_with_a_concat])
def test_every_level_is_the_one_that_the_file_means(network, exact: bool, rest: str, tmp_path: Path):
    crops = toy_crops()
    model = quantised(network(), crops)
    path = write_model(tmp_path, to_fp16(model) if rest == "fp16" else model, precision="int8")

    assert check_levels(path, crops, exact=exact) > 10_000


@pytest.mark.parametrize("exact", WAYS)
def test_a_quantisation_behind_a_concat_keeps_the_files_step(exact: bool, tmp_path: Path):
    prepared = prepare(network_with_a_concat())
    layers = [name for name in quantisable_layers(prepared) if name == "second"]  # float before the Concat
    model = to_fp16(insert_qdq(prepared, dict.fromkeys(quantised_inputs(prepared, layers), 4.0), layers))
    path = write_model(tmp_path, model, precision="int8")

    assert check_levels(path, toy_crops(), exact=exact) > 5_000


@needs_shared
@pytest.mark.parametrize("exact", WAYS)
@pytest.mark.parametrize("name", TRAINED)
def test_every_level_of_a_trained_network_is_the_one_that_its_file_means(name: str, exact: bool, tmp_path: Path):
    model, crops, _ = trained_network(name)
    path = write_model(tmp_path, model, precision="int8")

    assert check_levels(path, crops, exact=exact) > 1_000_000


@needs_shared
@pytest.mark.parametrize("name", TRAINED)
def test_kernels_and_exact_arithmetic_end_no_farther_apart_than_rounding_explains(name: str, tmp_path: Path):
    model, crops, fp32 = trained_network(name)
    path = write_model(tmp_path, model, precision="int8")

    exact, kernels = (run_openvino(path, crops, way)["heatmaps"] for way in (True, False))

    # Both are FP32's maps plus an error of quantisation; were these wholly unlike, their difference would be
    # sqrt(2) of one. Saturating kernels were off by 5 to 6 times as much.
    assert np.linalg.norm(kernels - exact) < np.sqrt(2) * np.linalg.norm(exact - fp32)


@lru_cache
def trained_network(name: str) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """One of the shared networks in INT8 and FP16, a picture for it, and the FP32 network's heat maps of it."""
    entry = json.loads((SHARED / "models" / "models.json").read_text())[name]
    model = onnx.load(SHARED / "models" / entry["file"])
    height, width = (size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[2:])
    mean, std = (np.reshape(entry[key], (1, 3, 1, 1)) / entry["scale"] for key in ("mean", "std"))
    coarse = np.random.default_rng(0).uniform(0, 255, (1, 3, height // 16, width // 16))
    crops = ((coarse.repeat(16, 2).repeat(16, 3) - mean) / std).astype(np.float32)
    return to_fp16(quantised(model, crops)), crops, run(model, crops)[0]


def write_conv(folder: Path, value: int) -> Path:
    """A 1x1 convolution of 64 channels, all weights of which are 127, on crops of one value."""
    g = GraphMaker()
    x = g.node("Concat", ["crops"] * 21, "many", axis=1)
    weight = g.weight("weight", np.full((2, 63, 1, 1), 127.0))
    g.node("AveragePool", [g.node("Conv", [x, weight], "sums")], "heatmaps", kernel_shape=[4, 4], strides=[4, 4])
    model = g.model(["n", 3, 64, 48], "heatmaps")
    pairs = insert_qdq(prepare(model), {"many": float(value)}, ["sums"])
    return write_model(folder, pairs, precision="int8")


def test_by_default_an_int8_file_is_right_on_any_cpu(tmp_path: Path):
    path = write_conv(tmp_path, 127)

    with closing(load_backend(path, backend="openvino")) as backend:
        heatmaps = backend.heatmaps(np.full((1, 3, 64, 48), 127, np.float32))

    assert backend.arithmetic.startswith("INT8 kernels")
    np.testing.assert_allclose(heatmaps, 63 * 127 * 127, rtol=1e-6)


@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" in os.environ, reason="the processor's instructions are not all allowed")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="an x86 rule")
def test_kernels_are_exact_where_the_processor_has_vnni_or_amx():
    assert int8_kernels_are_exact() == bool(int8_instructions())


def test_rounding_to_fp16_is_that_of_numpy():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    numbers = np.unique(every[np.isfinite(every)].astype(np.float32))
    ties = (numbers[1:] + numbers[:-1]) / 2
    beside = [np.nextafter(ties, np.float32(end)) for end in (-np.inf, np.inf)]
    values = np.concatenate([numbers, ties, *beside, np.float32([65519.99, 65520, -1e38, 1e38, 1e-30])])
    x = openvino_graph._operators().parameter([-1], np.float32)
    model = openvino_graph.openvino.Model([openvino_graph._rounded_to_fp16(x.output(0))], [x])
    request = openvino_graph.openvino.Core().compile_model(model, "CPU", openvino_graph.settings(1))

    rounded = request([values])[0]

    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(rounded, values.astype(np.float16))


@pytest.mark.parametrize("network", [pose_network, mobile_network, network_with_biases])
def test_stored_in_fp16_is_every_result_of_the_file_rounded(network, tmp_path: Path):
    model, crops = to_fp16(network()), toy_crops()
    path = write_model(tmp_path, model, precision="fp16")
    wanted = run(rounding_each_result(model), crops)[0]

    with (
        closing(load_backend(path, backend="openvino", store_fp16=True)) as backend,
        closing(load_backend(path, backend="openvino")) as plain,
    ):
        heatmaps, not_rounded = backend.heatmaps(crops), plain.heatmaps(crops)

    assert backend.arithmetic == "FP32 on FP16 weights, stored as FP16"
    np.testing.assert_array_equal(heatmaps, heatmaps.astype(np.float16))
    # a sum in another order falls on the other side of a tie once in some thousand values
    assert (heatmaps == wanted).mean() > 0.9
    assert (not_rounded.astype(np.float16) == wanted).mean() < 0.8


def rounding_each_result(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph in FP32 that rounds to FP16 whatever an FP16 graph has in FP16."""
    single = in_fp32(model)
    nodes = []
    for node in single.graph.node:
        if node.op_type == "Cast":
            node.op_type = "Identity"
            del node.attribute[:]
        (output,) = node.output
        node.output[0] = f"{output}.sum"
        half = onnx.helper.make_node("Cast", [f"{output}.sum"], [f"{output}.half"], to=onnx.TensorProto.FLOAT16)
        nodes += [node, half, onnx.helper.make_node("Cast", [f"{output}.half"], [output], to=onnx.TensorProto.FLOAT)]
    replace_nodes(single, nodes)
    return single
