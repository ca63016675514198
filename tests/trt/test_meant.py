"""What NVIDIA's parser makes of an INT8 file, its layers in a plan, and pairs moved behind an interleaving. No GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.errors import BuildError
from edgepose.files import sha256_of
from edgepose.model.passport import Passport, write_passport
from edgepose.trt.build import build_engine
from edgepose.trt.interleaving import MOVED
from edgepose.trt.log import logger_of
from edgepose.trt.meant import layers_of, meant_of, producers_of
from edgepose.trt.options import BuildOptions
from tests.makers import make_spec

onnx = pytest.importorskip("onnx")
trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")

PLAIN = BuildOptions(max_batch=2, targets=("sm_86",), kernels=False)


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> Path:
    """Two deconvolutions in INT8, pairs before the interleaving, a head in FP16: as `calibrate` writes it."""
    from edgepose.calibration.qdq import insert_qdq, quantisable_layers, quantised_inputs
    from edgepose.export.graph.fp16 import to_fp16
    from tests.calibration.graphs import GraphMaker, prepare

    g = GraphMaker()
    g.conv("crops", "c", (8, 3, 4, 4), strides=[4, 4])
    name = g.node("Relu", ["c"], "c_relu")
    for layer in ("first", "second"):
        weight = g.weight(f"{layer}.weight", np.random.default_rng(0).normal(0, 0.1, (8, 8, 4, 4)).astype(np.float32))
        g.node("ConvTranspose", [name, weight], layer, strides=[2, 2], pads=[1] * 4, kernel_shape=[4, 4])
        name = g.node("Relu", [layer], f"{layer}_relu")
    g.conv(name, "heatmaps", (2, 8, 1, 1))
    prepared = prepare(g.model(["n", 3, 64, 48], "heatmaps"))
    layers = quantisable_layers(prepared)
    quantised = insert_qdq(prepared, dict.fromkeys(quantised_inputs(prepared, layers), 3.0), layers)
    path = tmp_path_factory.mktemp("int8") / "m.int8.onnx"
    path.write_bytes(to_fp16(quantised).SerializeToString())
    write_passport(path, Passport(make_spec(), "int8", sha256_of(path), "random"))
    return path


def parsed(path: Path) -> tuple[Any, ...]:
    """The network, with what must outlive it."""
    builder = trt.Builder(logger_of(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger_of(trt))
    assert parser.parse(path.read_bytes())
    return network, parser, builder


def test_each_layer_is_meant_as_the_onnx_has_it(int8):
    network, *_keep = parsed(int8)

    meant = meant_of(trt, network)

    assert [(layer.precision, layer.multiply_adds) for layer in meant.layers] == [
        ("INT8", 8 * 3 * 4 * 4 * 16 * 12),
        ("INT8", 32 * 8 * 2 * 2 * 17 * 13),
        ("INT8", 32 * 8 * 2 * 2 * 33 * 25),
        ("FP16", 2 * 8 * 64 * 48),
    ]
    assert any(name.endswith(".quantize") for name in meant.pairs)


def test_a_plan_says_which_precision_each_of_them_got(int8, tmp_path):
    report = build_engine(int8, tmp_path / "m.plan", PLAIN, runtime="tensorrt_rtx")

    computes = report.passport.plan.computes
    assert computes is not None
    assert computes.meant == {"INT8": 1.0, "FP16": 1.0}
    assert computes.layers > 4
    assert not any("did not keep" in warning for warning in report.warnings)


class Picky(trt.Builder):
    """Cannot build a dequantisation that is interleaved, as TensorRT 10.16 cannot for sm_87."""

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        producers = producers_of(list(layers_of(network)))
        for layer in layers_of(network):
            source = producers.get(layer.get_input(0).name) if layer.num_inputs else None
            dequantised = source is not None and source.type == trt.LayerType.DEQUANTIZE
            if dequantised and layer.type == trt.LayerType.SHUFFLE:
                return None
        return super().build_serialized_network(network, config)


def test_pairs_are_moved_where_tensorrt_cannot_interleave_int8_and_it_is_said(int8, tmp_path, monkeypatch):
    monkeypatch.setattr(trt, "Builder", Picky)

    report = build_engine(int8, tmp_path / "m.plan", PLAIN, runtime="tensorrt_rtx")

    assert MOVED in report.warnings
    assert report.passport.plan.computes is not None
    assert report.passport.plan.computes.meant == {"INT8": 1.0, "FP16": 1.0}  # the convolutions still are


def test_a_moved_pair_keeps_its_step_and_stands_before_the_next_convolution(int8):
    from edgepose.trt.interleaving import move_pairs

    network, *_keep = parsed(int8)
    before = producers_of(list(layers_of(network)))

    assert move_pairs(trt, network) == 1  # behind the second deconvolution is the head, which has none
    assert move_pairs(trt, network) == 0

    layers = list(layers_of(network))
    producers = producers_of(layers)
    (pair,) = [layer for layer in layers if layer.name.endswith(".dequantize.moved")]
    (quantise,) = [layer for layer in layers if layer.name.endswith(".quantize.moved")]
    assert producers[quantise.get_input(0).name].type == trt.LayerType.SLICE
    assert pair.get_output(0).dtype == trt.DataType.HALF
    (reader,) = [each for each in layers if each.num_inputs and each.get_input(0).name == pair.get_output(0).name]
    assert reader.type == trt.LayerType.CONVOLUTION
    old = before[next(name for name in before if name == quantise.name.removesuffix(".quantize.moved") + ".int8")]
    assert quantise.get_input(1).name == old.get_input(1).name


def test_a_network_that_fails_with_moved_pairs_too_is_one_error(int8, tmp_path, monkeypatch):
    class Broken(trt.Builder):
        def build_serialized_network(self, network: Any, config: Any) -> Any:
            return None

    monkeypatch.setattr(trt, "Builder", Broken)

    with pytest.raises(BuildError, match="could not build"):
        build_engine(int8, tmp_path / "m.plan", PLAIN, runtime="tensorrt_rtx")
    assert list(tmp_path.iterdir()) == []
