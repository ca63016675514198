"""Networks of stages: a trunk, and stages that each read its features and the maps of the stage before."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.calibration.stages import int8_layers

MAPS, FIELDS, SIZE_HW = 3, 4, (8, 8)


def staged(stages: int, *, width: int = 8) -> onnx.ModelProto:
    """A trunk of two convolutions of stride 2 and one of width `width`, then stages of three 3x3 convolutions."""
    nodes, weights = [], []

    def conv(name: str, source: str, read: int, made: int, stride: int = 1) -> str:
        weights.append(numpy_helper.from_array(np.ones((made, read, 3, 3), np.float32), f"{name}.w"))
        nodes.append(helper.make_node("Conv", [source, f"{name}.w"], [name], pads=[1] * 4, strides=[stride] * 2))
        return name

    features = conv("trunk3", conv("trunk2", conv("trunk1", "images", 3, 4, 2), 4, 4, 2), 4, width, 2)
    features = conv("trunk4", features, width, width)
    source, channels = features, width
    for stage in range(1, stages + 1):
        body = conv(f"s{stage}.2", conv(f"s{stage}.1", source, channels, 5), 5, 6)
        made = [conv(f"s{stage}.maps", body, 6, MAPS), conv(f"s{stage}.fields", body, 6, FIELDS)]
        source, channels = f"joined{stage}", width + MAPS + FIELDS
        nodes.append(helper.make_node("Concat", [*made, features], [source], axis=1))
    nodes.pop()
    nodes.append(helper.make_node("Concat", made, ["heatmaps"], axis=1))
    graph = helper.make_graph(
        nodes, "staged",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [1, MAPS + FIELDS, *SIZE_HW])],
        weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_first_layers_a_small_last_stage_and_what_makes_maps_stay_in_float():
    layers = int8_layers(staged(5, width=64), (MAPS, FIELDS), SIZE_HW)

    # of each stage the last layer before the maps is left out as well, as the maps' own source
    assert layers == ["trunk3", "trunk4", "s1.1", "s2.1", "s3.1", "s4.1"]


def test_a_last_stage_that_is_much_of_the_network_is_made_int8():
    layers = int8_layers(staged(2, width=8), (MAPS, FIELDS), SIZE_HW)

    assert layers == ["trunk3", "trunk4", "s1.1", "s2.1"]


@pytest.mark.parametrize("stages", [1, 5])
def test_without_stages_only_the_head_stays_in_float(stages):
    layers = int8_layers(staged(stages, width=64), (), SIZE_HW)

    assert layers[:4] == ["trunk1", "trunk2", "trunk3", "trunk4"]
    assert len(layers) == 4 + 2 * stages + 2 * (stages - 1)
