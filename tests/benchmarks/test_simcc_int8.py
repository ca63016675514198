"""The study of INT8 in SimCC heads: which layers are the head, one tensor rounded, and how shifts are counted."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from edgepose.benchmarks.studies.simcc_int8 import (
    head_layers,
    session_of,
    shifts,
    spread,
    with_rounded_layer,
    with_rounded_tensor,
)


def two_products(first: np.ndarray, second: np.ndarray):
    """x -> inner = x first -> y = inner second."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "a"], ["inner"]), helper.make_node("MatMul", ["inner", "b"], ["y"])],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(first)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", second.shape[1]])],
        [numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


TOY = two_products(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))


def test_the_head_is_what_has_weights_and_is_not_the_trunk():
    assert head_layers(TOY, []) == ["inner", "y"]
    assert head_layers(TOY, ["inner"]) == ["y"]


def test_one_tensor_is_rounded_to_steps_and_the_others_are_not():
    x = np.array([[0.3, 100.0], [-0.7, 500.0]], np.float32)

    (y,) = session_of(with_rounded_tensor(TOY, "inner", 127.0)).run(["y"], {"x": x})

    assert y.tolist() == [[0.0, 100.0], [-1.0, 127.0]]  # a step of 1, and nothing above the range


def test_a_layer_is_rounded_column_by_column_with_what_it_reads():
    model = two_products(np.eye(2, dtype=np.float32), np.array([[127, 0], [0.4, 0.5]], np.float32))

    (y,) = session_of(with_rounded_layer(model, "y", 127.0)).run(["y"], {"x": np.array([[1.2, 10]], np.float32)})

    assert y.tolist() == [[127.0, pytest.approx(5, rel=1e-3)]]  # 0.4 beside 127 is nothing, 0.5 is; 1.2 is read as 1


def test_shifts_count_the_key_points_that_fp32_is_sure_of():
    exact = [np.array([[[1.0, 1, 0.9], [5, 5, 0.1]]]), np.zeros((0, 2, 3))]
    found = [np.array([[[4.0, 5, 0.0], [9, 9, 0.9]]]), np.zeros((0, 2, 3))]

    assert shifts(found, exact).tolist() == [5.0]
    assert shifts([], []).tolist() == []


def test_the_spread_of_a_tensor_is_within_a_crop_and_between_crops():
    crops = [np.array([[size, 0]], np.float32) for size in (1.0, 1.0, 10.0)]

    within, between = spread(TOY, ["inner"], crops)["inner"]

    assert within == pytest.approx(2**0.5)  # one of two values: its root mean square is the value over the root of 2
    assert between == pytest.approx(9.1)  # the 95th percentile of 1, 1, 10 is 9.1
