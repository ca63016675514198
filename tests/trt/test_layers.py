"""Layers of a plan, from what TensorRT 10 and 11 write of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgepose.errors import ModelFileError
from edgepose.model.passport import Passport
from edgepose.trt import layers as engine_layers
from edgepose.trt.layers import Layer, parse_layers, read_layers, shares_of
from tests.makers import make_engine, make_spec


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

    assert layer == Layer("a", "CaskConvolution", "INT8", ("INT8",), "INT8", ("FP32",), "a_kernel", 6400)


def test_shares_are_of_multiply_adds_and_name_what_fell_back():
    layers = [
        conv("a + relu", "Int8", "Int8", "Int8", 300),
        conv("b", "Float", "Float", "Float"),
        {"Name": "Reformatting CopyNode for Input Tensor 0", "LayerType": "Reformat", "Outputs": []},
        {"Name": "c.quantize", "LayerType": "Quantize", "Outputs": [{"Format/Datatype": "Int8"}]},
    ]

    shares = shares_of(parse_layers(json.dumps({"Layers": layers})))

    assert shares.shares == {"INT8": 0.75, "FP32": 0.25}
    assert (shares.in_float32, shares.reformats, shares.unfused, shares.layers) == (("b",), 1, 1, 4)
    assert shares.text().startswith("multiply-adds 75% INT8, 25% FP32; 4 layers; 1 reformat")
    assert shares_of([]).text().startswith("no layer tells")


def test_a_plan_built_with_names_only_has_layers_without_precision():
    assert parse_layers('{"Layers": ["conv1", "conv2"]}') == [Layer("conv1", "", ""), Layer("conv2", "", "")]
