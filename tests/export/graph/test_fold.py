from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.calibration.qdq import quantisable_layers
from tests.calibration.graphs import GraphMaker, mobile_network, pose_network, prepare, run, toy_crops

ROUNDING = 5e-7  # relative: FP32 sums in another order


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def assert_same_values(model: onnx.ModelProto, prepared: onnx.ModelProto, crops: np.ndarray) -> None:
    wanted, found = run(model, crops)[0], run(prepared, crops)[0]
    assert wanted.shape == found.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=ROUNDING * 10 * np.abs(wanted).max())


@pytest.mark.parametrize("network", [pose_network, mobile_network])
def test_computes_the_same_with_neither_batchnorm_nor_deconvolution(network):
    model = network()

    prepared = prepare(model)

    assert not {"BatchNormalization", "ConvTranspose", "Constant"} & set(kinds(prepared))
    assert_same_values(model, prepared, toy_crops())


def test_leaves_its_input_as_it_was():
    model = pose_network()
    before = model.SerializeToString()

    prepare(model)

    assert model.SerializeToString() == before


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 6)])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 6, 1), (6, 4, 2), (5, 5, 5)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_deconvolution_becomes_a_convolution_of_the_same_values(size, inputs, outputs, groups, bias):
    g = GraphMaker()
    deconv = g.conv(
        "crops", "up", (inputs, outputs // groups, 4, 4), "ConvTranspose", strides=[2, 2], pads=[1] * 4, group=groups
    )
    if bias:
        g.nodes[-1].input.append(g.weight("up.bias", g.rng.normal(0, 1, outputs)))
    g.node("Relu", [deconv], "heatmaps")
    model = g.model(["n", inputs, *size], "heatmaps")
    crops = g.rng.normal(0, 1, (2, inputs, *size)).astype(np.float32)

    prepared = prepare(model)

    assert kinds(prepared) == ["Conv", "Relu", "DepthToSpace", "Slice"]  # the activation fuses with the convolution
    wanted, found = run(model, crops)[0], run(prepared, crops)[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=ROUNDING * np.abs(wanted).max())


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [1, 1], "pads": [1] * 4},
        {"strides": [2, 2], "pads": [0] * 4},
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]},
    ],
)
def test_leaves_other_deconvolutions_alone(attributes):
    g = GraphMaker()
    g.conv("crops", "heatmaps", (4, 4, 4, 4), "ConvTranspose", **attributes)
    model = g.model(["n", 4, 6, 5], "heatmaps")

    assert kinds(prepare(model)) == ["ConvTranspose"]


def test_a_batchnorm_stays_where_others_read_the_convolution():
    g = GraphMaker()
    conv = g.conv("crops", "conv", (4, 3, 3, 3), pads=[1] * 4)
    g.node("Add", [conv, g.batchnorm(conv, "norm", 4)], "heatmaps")
    model = g.model(["n", 3, 8, 8], "heatmaps")

    prepared = prepare(model)

    assert "BatchNormalization" in kinds(prepared)
    assert_same_values(model, prepared, np.ones((1, 3, 8, 8), np.float32))


def test_brings_older_graphs_to_the_first_opset_with_fp16_steps():
    model = pose_network(opset=13)

    prepared = prepare(model)

    assert prepared.opset_import[0].version == 19
    assert_same_values(model, prepared, toy_crops())


def test_weights_stored_in_half_precision_are_weights_like_others():
    model = mobile_network()
    casts = []
    for item in model.graph.initializer:
        if item.data_type == TensorProto.FLOAT:
            casts.append(helper.make_node("Cast", [f"{item.name}.half"], [item.name], to=TensorProto.FLOAT))
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), f"{item.name}.half"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)

    prepared = prepare(model)

    assert "Cast" not in kinds(prepared)
    assert quantisable_layers(prepared) == quantisable_layers(prepare(mobile_network()))
    assert_same_values(model, prepared, toy_crops())
