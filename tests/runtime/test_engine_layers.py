"""Layers of a plan, from what TensorRT 10 and 11 write of them."""

from __future__ import annotations

import json

import pytest

from edgepose.engine_layers import Layer, parse_layers


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
def test_a_layers_precision_is_that_of_its_output(said, precision):
    layer = {"Name": "conv1", "LayerType": "CaskConvolution", "Outputs": [{"Name": "y", "Dimensions": [1], **said}]}

    assert parse_layers(json.dumps({"Layers": [layer]})) == [Layer("conv1", "CaskConvolution", precision)]


def test_a_plan_built_with_names_only_has_layers_without_precision():
    assert parse_layers('{"Layers": ["conv1", "conv2"]}') == [Layer("conv1", "", ""), Layer("conv2", "", "")]
