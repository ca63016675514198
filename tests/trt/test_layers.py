"""Layers of a plan, from what TensorRT 10 and 11 write of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepose.errors import ModelFileError
from edgepose.model.passport import Passport
from edgepose.trt import layers as engine_layers
from edgepose.trt.layers import Layer, computes_of, parse_layers, parse_log, read_layers
from edgepose.trt.meant import Meant, MeantLayer
from tests.makers import make_engine, make_spec

DUMP = Path(__file__).parent / "dumps" / "rtx_1.7.1_sm86_resnet50_int8.txt"  # some layers of SimpleBaseline-R50


class FakeTensorRt:
    """As much of TensorRT as reads a plan, which holds what its inspector says; an empty one it cannot read."""

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = range(3)

    runtime: Any = None

    class LayerInformationFormat:
        JSON = 1

    class Runtime:
        engine_host_code_allowed = False
        DLA_core = -1

        def __init__(self, logger: Any) -> None:
            self.logger = logger
            FakeTensorRt.runtime = self

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            if plan == b"null":
                raise TypeError("factory function returned nullptr")
            if not plan:
                self.logger.log(FakeTensorRt.ILogger.ERROR, "Version tag does not match")
                return None
            self.plan = plan
            return self

        def create_engine_inspector(self) -> Any:
            return self

        def get_engine_information(self, _: int) -> str:
            return self.plan.decode().strip()


def layers_of(plan: bytes, tmp_path, monkeypatch, **engine: Any) -> list[Layer]:
    monkeypatch.setattr(engine_layers, "load_runner", lambda *_: FakeTensorRt)
    monkeypatch.setattr(engine_layers, "check_engine", lambda *_: None)
    monkeypatch.setattr(engine_layers, "find_gpu", lambda: "Orin")
    path = tmp_path / "m.plan"
    path.write_bytes(plan)
    return read_layers(path, Passport(make_spec(), "int8", "", "random", engine=make_engine(**engine)))


def test_layers_of_a_version_compatible_plan_and_of_one_for_a_dla_are_read(tmp_path, monkeypatch):
    plan = b'{"Layers": ["conv1"]}'

    assert layers_of(plan, tmp_path, monkeypatch) == [Layer("conv1", "", "")]
    assert (FakeTensorRt.runtime.engine_host_code_allowed, FakeTensorRt.runtime.DLA_core) == (False, -1)
    layers_of(plan, tmp_path, monkeypatch, version_compatible=True, dla=1)
    assert (FakeTensorRt.runtime.engine_host_code_allowed, FakeTensorRt.runtime.DLA_core) == (True, 1)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (b"", r"cannot read .*m\.plan \(Version tag does not match"),
        (b"null", r"cannot read .*m\.plan \(it gave no reason"),
        (b" ", r"tells nothing of .*m\.plan"),
    ],
)
def test_a_plan_that_tensorrt_cannot_read_is_one_error(tmp_path, monkeypatch, plan, message):
    with pytest.raises(ModelFileError, match=message):
        layers_of(plan, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("said", "precision"),
    [
        ({"Format/Datatype": "Row major linear FP32"}, "FP32"),
        ({"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "FP16"),
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "INT8"),
        ({"DataType": "Half", "Format": "Row major linear FP16 format (kLINEAR)"}, "FP16"),  # TensorRT 11
        ({"DataType": "Float"}, "FP32"),
        ({"DataType": "Int8"}, "INT8"),
        ({}, ""),
    ],
)
def test_a_precision_is_read_in_every_spelling(said, precision):
    layer = {"Name": "conv1", "LayerType": "CaskConvolution", "Outputs": [{"Name": "y", "Dimensions": [1], **said}]}

    (found,) = parse_layers(json.dumps({"Layers": [layer]}))
    assert (found.name, found.kind, found.precision) == ("conv1", "CaskConvolution", precision)


def conv(name: str, given: str, weights: str, made: str, count: int = 100, key: str = "Format/Datatype") -> dict:
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Dimensions": [8, 3, 8, 8], key: given}],
        "Outputs": [{"Name": "y", "Dimensions": [8, 4, 8, 8], key: made}],
        "Weights": {"Type": weights, "Count": count},
        "TacticName": "a_kernel",
    }


@pytest.mark.parametrize("key", ["Format/Datatype", "DataType", "Datatype"])
def test_an_int8_convolution_that_writes_fp32_is_int8(key):
    (layer,) = parse_layers(json.dumps({"Layers": [conv("a", "Int8", "Int8", "Float", key=key)]}))

    assert layer == Layer("a", "CaskConvolution", "INT8", ("INT8",), "INT8", ("FP32",), "a_kernel", 6400, ("a",))


def meant(*layers: tuple[str, str, int]) -> Meant:
    return Meant(tuple(MeantLayer(*layer) for layer in layers), frozenset({"c.quantize"}))


def test_what_the_onnx_has_in_int8_is_held_against_what_the_plan_computes_in():
    layers = [
        conv("a + relu", "Int8", "Int8", "Int8"),
        conv("b", "Float", "Float", "Float"),
        conv("d", "Half", "Half", "Half"),
        conv("d [profile 1]", "Float", "Float", "Float"),  # of a second profile: the first one counts
        {"Name": "Reformatting CopyNode for Input Tensor 0", "LayerType": "Reformat", "Outputs": []},
        {"Name": "c.quantize", "LayerType": "Quantize", "Outputs": [{"Format/Datatype": "Int8"}]},
    ]

    computes = computes_of(
        parse_layers(json.dumps({"Layers": layers})),
        meant(("a", "INT8", 600), ("b", "INT8", 200), ("d", "FP16", 200)),
    )

    assert computes.shares == {"INT8": 0.6, "FP32": 0.2, "FP16": 0.2}
    assert computes.meant == {"INT8": 0.75, "FP16": 1.0}
    assert (computes.fell_back, computes.fallen, computes.kept) == (("b",), 1, False)
    assert (computes.layers, computes.reformats, computes.unfused) == (5, 1, 1)
    assert computes.text() == (
        "multiply-adds 60% INT8, 20% FP32, 20% FP16; 75% of what the ONNX has in INT8; 100% of what the ONNX has in "
        "FP16; 5 layers, 1 reformat, 1 quantise on their own; wider than the ONNX says: b"
    )


def compiled(name: str, onnx: str, kind: str = "Int8", profile: str = "") -> dict:
    """A layer as TensorRT's graph compiler names it."""
    layer = conv(f"{name}{profile}", kind, kind, kind)
    return {**layer, "Metadata": f"[ONNX Layer: {onnx}]\x1e[ONNX Layer: relu]"}


def test_the_graph_compilers_subgraphs_are_no_profiles():
    layers = [compiled("a_myl0_1", "a"), compiled("b_myl2_1", "b"), compiled("c_myl202_6", "c")]

    computes = computes_of(
        parse_layers(json.dumps({"Layers": layers})), meant(("a", "INT8", 1), ("b", "INT8", 1), ("c", "INT8", 2))
    )

    assert (computes.shares, computes.kept, computes.layers) == ({"INT8": 1.0}, True, 3)


def test_a_subgraph_of_another_profile_is_left_out_whole():
    second = compiled("a [profile 1]_myl1_1", "a", "Float")
    by_tensor = {**compiled("b_myl2_0", "b", "Float"), "Inputs": [{"Name": "x [profile 1]"}]}
    layers = [
        compiled("a_myl0_1", "a"),
        compiled("b_myl0_2", "b"),
        second,
        compiled("b_myl1_2", "b", "Float"),
        by_tensor,
    ]

    computes = computes_of(parse_layers(json.dumps({"Layers": layers})), meant(("a", "INT8", 1), ("b", "INT8", 1)))

    assert (computes.shares, computes.layers) == ({"INT8": 1.0}, 2)


@pytest.mark.parametrize(
    "information", ["{", "[]", "3", '{"Layers": 3}', '{"Layers": [3]}', '{"Layers": [{"Inputs": 1}]}']
)
def test_layers_in_a_form_that_is_not_known_are_one_error(information):
    with pytest.raises(ModelFileError, match="in a form that edgepose does not know"):
        parse_layers(information)


def test_a_raw_separator_between_names_is_read():
    (layer,) = parse_layers('{"Layers": [{"Name": "a", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]"}]}')

    assert layer.onnx_names == ("a", "b")


def test_a_layer_that_the_plan_does_not_name_is_unknown_and_not_kept():
    computes = computes_of(
        parse_layers(json.dumps({"Layers": [conv("a", "Int8", "Int8", "Int8")]})),
        meant(("a", "INT8", 50), ("x", "INT8", 50)),
    )

    assert (computes.shares, computes.meant, computes.fallen) == (
        {"INT8": 0.5, "unknown": 0.5},
        {"INT8": 0.5},
        0,
    )


def test_without_layers_or_their_types_nothing_is_claimed():
    for layers in ([], parse_layers('{"Layers": ["a"]}')):
        computes = computes_of(layers, meant(("a", "INT8", 50)))

        assert (computes.shares, computes.meant, computes.kept) == ({}, {}, True)
        assert computes.text().startswith("no layer tells its precision")


def test_the_log_of_tensorrt_for_rtx_is_read_with_its_onnx_names():
    layers = parse_log(DUMP.read_text())

    assert [layer.kind for layer in layers[1:5]] == ["kgen", "correlation", "kgen", "maxpool"]
    first, head = layers[2], layers[-2]
    assert (first.name, first.precision, first.inputs, first.outputs) == (
        "/conv1/Conv_myl0_2",
        "INT8",
        ("INT8",),
        ("FP32",),
    )
    assert first.onnx_names == ("/conv1/Conv", "crops.dequantize", "/conv1/Conv_output_0.weight.dequantize")
    assert first.multiply_adds == 64 * 4 * 7 * 7 * 128 * 96  # the fourth channel is TensorRT's
    assert (head.onnx_names, head.precision, head.multiply_adds) == (("/final_layer/Conv",), "FP16", 17 * 256 * 64 * 48)


def test_a_kernel_that_only_adds_a_bias_is_not_what_a_convolution_computes_in():
    layers = parse_log(DUMP.read_text())
    wanted = Meant(
        (MeantLayer("/conv1/Conv", "INT8", 90), MeantLayer("/final_layer/Conv", "FP16", 10)),
        frozenset({"/Relu_output_0.quantize"}),
    )

    computes = computes_of(layers, wanted)

    assert computes.shares == {"INT8": 0.9, "FP16": 0.1}
    assert computes.meant == {"INT8": 1.0, "FP16": 1.0}
    assert computes.unfused == 1


def test_a_plan_built_with_names_only_has_layers_without_precision():
    assert parse_layers('{"Layers": ["conv1", "conv2"]}') == [Layer("conv1", "", ""), Layer("conv2", "", "")]
