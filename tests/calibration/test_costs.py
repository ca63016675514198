from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.calibration.costs import DEVICES, Device, int8_share, node_costs, predicted_us, read_device
from edgepose.calibration.qdq import quantisable_layers
from edgepose.errors import InputError
from tests.calibration.graphs import mobile_network, pose_network, prepare

SLOW = Device(int8_tops=2e-6, fp16_tflops=1e-6, bandwidth_gbs=1e6, launch_us=1e-9)  # operations are all that counts


def test_multiply_adds_are_those_of_the_filters():
    costs = {cost.name: cost.macs for cost in node_costs(prepare(pose_network()))}

    assert costs["stem_bn"] == 32 * 24 * 8 * 3 * 49  # each of 32 x 24 outputs of 8 channels sums a 3 x 7 x 7 filter
    assert costs["heatmaps"] == 16 * 12 * 2 * 8
    assert costs["stem_relu"] == costs["pool"] == 0


def test_a_depthwise_filter_reads_one_channel():
    costs = {cost.name: cost.macs for cost in node_costs(prepare(mobile_network()))}

    assert costs["depthwise"] == 16 * 12 * 16 * 9


def test_the_share_is_of_all_multiply_adds():
    prepared = prepare(pose_network())
    costs, layers = node_costs(prepared), quantisable_layers(prepared)
    by_name = {cost.name: cost.macs for cost in costs}

    assert int8_share(costs, ()) == 0
    assert int8_share(costs, [cost.name for cost in costs]) == 1
    assert int8_share(costs, layers) == 1 - by_name["heatmaps"] / sum(by_name.values())
    assert int8_share([], layers) is None


def test_where_operations_count_int8_takes_half_the_time():
    prepared = prepare(pose_network())
    costs = node_costs(prepared)
    everything = [cost.name for cost in costs]

    assert predicted_us(costs, everything, SLOW) == pytest.approx(predicted_us(costs, (), SLOW) / 2, rel=1e-3)


def test_a_border_between_precisions_costs_a_reformat():
    costs = node_costs(prepare(pose_network()))
    launches = Device(1e9, 1e9, 1e9, launch_us=1.0)  # every kernel takes a microsecond

    without = predicted_us(costs, (), launches)

    assert predicted_us(costs, ["stem_bn"], launches) == without + 1  # its input, which FP16 wrote
    assert predicted_us(costs, ["first_bn", "second_bn"], launches) == without + 1  # what one hands the other is INT8
    assert predicted_us(costs, ["first_bn", "down"], launches) == without + 2


def test_a_device_file_is_read(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"int8_tops": 8, "fp16_tflops": 4, "bandwidth_gbs": 50}))

    assert read_device(str(path)) == Device(8, 4, 50)
    assert read_device("orin-nano") == DEVICES["orin-nano"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "none of orin-nano"),
        ("{", "not JSON"),
        ("[1]", "list; a device file"),
        ('{"tops": 3}', "has tops"),
        ('{"int8_tops": 3}', "lacks entries"),
        ('{"int8_tops": 3, "fp16_tflops": 0, "bandwidth_gbs": 1}', "no number over 0"),
        ('{"int8_tops": "3", "fp16_tflops": 1, "bandwidth_gbs": 1}', "no number over 0"),
    ],
)
def test_a_wrong_device_is_refused(tmp_path, text, said):
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(InputError, match=said):
        read_device(str(path))


def test_a_product_with_a_row_of_weights_sums_it():
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    row = numpy_helper.from_array(np.arange(8, dtype=np.float32), "row")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "row"], ["y"])],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5, 8])],
        [made],
        [row],
    )

    (cost,) = node_costs(helper.make_model(graph))

    assert cost.macs == 5 * 8
