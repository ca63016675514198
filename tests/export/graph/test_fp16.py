from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.errors import ExportError
from edgepose.export.graph.fp16 import to_fp16

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def make_model(nodes, weights, *, channels=2, out_hw=(8, 8), opset=19):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("crops", FLOAT, ["n", channels, 8, 8])],
        [helper.make_tensor_value_info("heatmaps", FLOAT, ["n", channels, *out_hw])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def conv(source, target, weight="w"):
    return helper.make_node("Conv", [source, weight], [target], name=target, kernel_shape=[1, 1])


def run(model, crops):
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"crops": crops})[0]


def weight_types(model):
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


CROPS = np.random.default_rng(0).standard_normal((3, 2, 8, 8)).astype(np.float32)
WEIGHT = np.array([[0.5, 0.25], [-1.0, 2.0]], np.float32).reshape(2, 2, 1, 1)


def test_weights_become_half_and_the_interface_stays_float():
    model = make_model([conv("crops", "x"), helper.make_node("Relu", ["x"], ["heatmaps"])], {"w": WEIGHT})

    half = to_fp16(model)

    assert weight_types(half) == {"w": HALF}
    assert [half.graph.input[0].type.tensor_type.elem_type, half.graph.output[0].type.tensor_type.elem_type] == [
        FLOAT
    ] * 2
    assert [node.op_type for node in half.graph.node] == ["Cast", "Conv", "Relu", "Cast"]
    np.testing.assert_allclose(run(half, CROPS), run(model, CROPS), atol=4 * 2**-10)  # values up to 4, FP16 has 10 bits


def test_int8_tensors_and_zero_points_of_a_qdq_graph_stay():
    weights = {
        "s": np.float32(0.05),
        "z": np.int8(0),
        "w8": np.array([[10, 5], [-20, 40]], np.int8).reshape(2, 2, 1, 1),
        "ws": np.array([0.05, 0.05], np.float32),
        "wz": np.zeros(2, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["crops", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"]),
        helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=0),
        conv("dq", "heatmaps"),
    ]

    half = to_fp16(make_model(nodes, weights))

    assert weight_types(half) == {
        "s": HALF,
        "z": TensorProto.INT8,
        "w8": TensorProto.INT8,
        "ws": HALF,
        "wz": TensorProto.INT8,
    }
    assert Counter(node.op_type for node in half.graph.node)["Cast"] == 2  # at the graph's input and output only


def test_before_opset_19_quantisation_is_computed_in_single_precision():
    nodes = [
        conv("crops", "x"),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"]),
        helper.make_node("Relu", ["dq"], ["heatmaps"]),
    ]
    model = make_model(nodes, {"w": WEIGHT, "s": np.float32(0.05), "z": np.int8(0)}, opset=17)

    half = to_fp16(model)

    assert weight_types(half)["s"] == FLOAT
    np.testing.assert_allclose(run(half, CROPS), run(model, CROPS), atol=0.06)  # one step of 0.05, and a rounding


def test_the_scales_of_resize_stay_float():
    nodes = [helper.make_node("Resize", ["crops", "", "scales"], ["heatmaps"], mode="nearest")]

    half = to_fp16(make_model(nodes, {"scales": np.array([1, 1, 2, 2], np.float32)}, out_hw=(16, 16)))

    assert weight_types(half) == {"scales": FLOAT}
    assert [node.op_type for node in half.graph.node] == ["Cast", "Resize", "Cast"]


@pytest.mark.parametrize(
    ("op_type", "weights", "attributes"),
    [
        ("Clip", {"a": np.float32(-3.4e38), "b": np.float32(3.4e38)}, {}),
        ("BatchNormalization", {name: np.array([0.5, 2.0], np.float32) for name in "abcd"}, {}),
        ("Add", {"a": np.float32(0.25)}, {}),
        ("Concat", {}, {"axis": 1}),
    ],
)
def test_common_operators_keep_their_meaning(op_type, weights, attributes):
    inputs = ["crops", *weights] if weights else ["crops", "crops"]
    nodes = [helper.make_node(op_type, inputs, ["x"], **attributes), conv("x", "heatmaps")]
    channels = 4 if op_type == "Concat" else 2
    kernel = np.eye(2, channels, dtype=np.float32).reshape(2, channels, 1, 1)
    model = make_model(nodes, {**weights, "w": kernel})

    half = to_fp16(model)

    np.testing.assert_allclose(run(half, CROPS), run(model, CROPS), atol=0.01)
    assert set(weight_types(half).values()) == {HALF}


def test_a_weight_of_two_precisions_is_stored_in_both():
    nodes = [conv("crops", "first"), conv("first", "heatmaps")]

    half = to_fp16(make_model(nodes, {"w": WEIGHT}), keep_fp32=["heatmaps"])

    assert sorted(weight_types(half).values()) == [FLOAT, HALF]
    assert [node.op_type for node in half.graph.node] == ["Cast", "Conv", "Cast", "Conv"]


def test_an_output_that_is_read_inside_is_still_given_out():
    nodes = [conv("crops", "heatmaps"), helper.make_node("Relu", ["heatmaps"], ["unused"])]

    half = to_fp16(make_model(nodes, {"w": WEIGHT}))

    np.testing.assert_allclose(run(half, CROPS), run(make_model(nodes, {"w": WEIGHT}), CROPS), atol=0.01)


def test_a_weight_beyond_half_range_is_named():
    model = make_model([conv("crops", "heatmaps", "layer9.weight")], {"layer9.weight": WEIGHT * 1e5})

    with pytest.raises(ExportError, match=r"layer9\.weight .* reaches 2e\+05; FP16 ends at 65504"):
        to_fp16(model)


def test_a_scale_that_vanishes_is_named():
    nodes = [
        helper.make_node("QuantizeLinear", ["crops", "tiny", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "tiny", "z"], ["heatmaps"]),
    ]

    with pytest.raises(ExportError, match="scale tiny has an entry of 1e-09"):
        to_fp16(make_model(nodes, {"tiny": np.float32(1e-9), "z": np.int8(0)}))


def test_the_given_model_is_not_changed():
    model = make_model([conv("crops", "heatmaps")], {"w": WEIGHT})
    before = model.SerializeToString(deterministic=True)

    to_fp16(model)

    assert model.SerializeToString(deterministic=True) == before
