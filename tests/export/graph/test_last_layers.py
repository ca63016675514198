import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.export.graph.last_layers import ending_of


def ending(counting: np.ndarray) -> tuple[set[str], set[str]]:
    """Of a detector's end: the convolutions of its score and of 4 distributions, whose means are its box."""
    filters = {"trunk_w": (8, 3, 3, 3), "score_w": (1, 8, 1, 1), "bins_w": (32, 8, 1, 1)}
    constants = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in filters.items()]
    constants += [numpy_helper.from_array(counting, "counting"), numpy_helper.from_array(np.array([0, 4, 8]), "shape")]
    nodes = [
        helper.make_node("Conv", ["x", "trunk_w"], ["trunk"], "trunk"),
        helper.make_node("Conv", ["trunk", "score_w"], ["score"], "score"),
        helper.make_node("Sigmoid", ["score"], ["scores"], "sigmoid"),
        helper.make_node("Conv", ["trunk", "bins_w"], ["bins"], "bins"),
        helper.make_node("Reshape", ["bins", "shape"], ["rows"], "reshape"),
        helper.make_node("Softmax", ["rows"], ["shares"], "softmax"),
        helper.make_node("MatMul", ["shares", "counting"], ["boxes"], "mean"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "scores", "boxes")]
    found = ending_of(helper.make_model(helper.make_graph(nodes, "end", values[:1], values[1:], constants)))
    return set(found.layers), set(found.behind)


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_the_mean_of_a_distribution_is_no_layer_and_one_score_is(shape):
    layers, behind = ending(np.arange(8, dtype=np.float32).reshape(shape))

    assert layers == {"score", "bins"}
    assert behind == {"sigmoid", "mean", "softmax", "reshape"}


def test_a_product_with_other_weights_is_a_layer():
    layers, behind = ending(np.linspace(0, 1, 8, dtype=np.float32))

    assert layers == {"score", "boxes"}
    assert behind == {"sigmoid"}


def test_an_output_without_a_layer_before_it_has_none():
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]

    found = ending_of(onnx.helper.make_model(helper.make_graph(nodes, "none", value[:1], value[1:])))

    assert (found.layers, found.behind) == ([], ["relu"])
