"""Layer times of a plan's profile in place of predictions. The profiles are made by hand, in trtexec's form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepose.calibration.costs import Device, layer_us, node_costs, predicted_us, time_shares
from edgepose.calibration.profiles import Profile, measured, read_profile
from edgepose.calibration.qdq import quantisable_layers
from edgepose.errors import InputError
from tests.calibration.graphs import pose_network, prepare

PREPARED = prepare(pose_network())
LAYERS = quantisable_layers(PREPARED)
COSTS = {cost.name: cost for cost in node_costs(PREPARED)}
NAME_OF = {node.output[0]: node.name for node in PREPARED.graph.node}
MATRIX = [name for name, cost in COSTS.items() if cost.matrix]
DEVICE = Device(int8_tops=20, fp16_tflops=10, bandwidth_gbs=100)


def profile_of(times_us: dict[str, float]) -> Profile:
    return Profile(Path("p.json"), tuple((NAME_OF.get(name, name), time) for name, time in times_us.items()))


def written(folder: Path, data: object) -> Path:
    path = folder / "p.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_a_profile_is_read_as_trtexec_writes_it(tmp_path):
    entry = {"name": "conv1 + relu1", "timeMs": 41.0, "averageMs": 0.5, "medianMs": 0.25, "percentage": 3.0}
    older = {"name": "conv2", "timeMs": 10.0, "averageMs": 0.125, "percentage": 1.0}

    assert read_profile(written(tmp_path, [{"count": 82}, entry, older])).kernels == (
        ("conv1 + relu1", 250.0),
        ("conv2", 125.0),
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "not JSON"),
        ({"Layers": ["conv1"]}, "no list of layers"),
        ([], "no list of layers"),
        ([{"count": 3}], "no list of layers"),
        ([{"name": "conv1"}], "an entry without a name and a time"),
        ([{"medianMs": 1.0}], "an entry without a name and a time"),
        ([{"name": "conv1", "medianMs": -1}], "an entry without a name and a time"),
        ([{"name": "conv1", "medianMs": True}], "an entry without a name and a time"),
        (["conv1"], "an entry without a name and a time"),
    ],
)
def test_what_is_no_profile_is_told_in_a_line(data, said, tmp_path):
    with pytest.raises(InputError, match=f"{said}.*; wanted: what trtexec") as told:
        read_profile(written(tmp_path, data))

    assert "\n" not in str(told.value)


def test_layers_take_what_was_measured_in_each_precision():
    fp16 = profile_of({name: 10.0 for name in MATRIX})
    int8 = profile_of({name: 4.0 for name in MATRIX})

    times = measured(PREPARED, LAYERS, DEVICE, (fp16, int8))

    assert {layer_us(COSTS[name], "fp16", times) for name in MATRIX} == {10.0}
    assert {layer_us(COSTS[name], "int8", times) for name in LAYERS} == {4.0}
    saved = predicted_us(list(COSTS.values()), (), times) - predicted_us(list(COSTS.values()), LAYERS, times)
    borders = 2  # the image comes in, and the max pooling is computed in FP16
    assert saved == pytest.approx(6 * len(LAYERS) - borders * DEVICE.launch_us)
    assert sum(time_shares(list(COSTS.values()), LAYERS, times).values()) == pytest.approx(1)


def test_kernels_that_name_no_layer_count_with_the_one_before_and_reformats_do_not():
    times_us = {"conversion": 1.0}
    for name in MATRIX:
        times_us |= {name: 10.0, f"quantise {name}": 2.0, f"Reformatting CopyNode for Output {name}": 5.0}

    times = measured(PREPARED, LAYERS, DEVICE, (profile_of(times_us), profile_of(times_us)))

    assert [times.fp16[name] for name in MATRIX] == [13.0] + [12.0] * (len(MATRIX) - 1)


def test_a_kernel_of_several_layers_is_shared_out_and_names_of_the_graph_compiler_are_known():
    one, two, *rest = MATRIX
    kernels = {f"{NAME_OF[one]} + relu + {NAME_OF[two]}": 10.0, **{f"{NAME_OF[name]}_myl0_7": 3.0 for name in rest}}

    times = measured(PREPARED, LAYERS, DEVICE, (profile_of(kernels), profile_of(kernels)))

    assert times.fp16[one] + times.fp16[two] == pytest.approx(10.0)
    assert [times.fp16[name] for name in rest] == [3.0] * len(rest)


def test_what_a_profile_leaves_out_is_predicted_and_scaled_as_the_rest_was():
    slower = {name: 7 * layer_us(COSTS[name], "fp16", DEVICE) for name in MATRIX}
    first, *others = MATRIX

    times = measured(
        PREPARED, LAYERS, DEVICE, (profile_of({name: slower[name] for name in others}), profile_of(slower))
    )

    assert times.fp16[first] == pytest.approx(slower[first])
    assert times.int8["heatmaps"] > layer_us(COSTS["heatmaps"], "int8", DEVICE)  # FP16 in that plan: not its time


def test_a_profile_of_another_network_is_refused():
    known = profile_of({name: 1.0 for name in MATRIX})
    other = Profile(Path("other.json"), (("backbone/conv1", 10.0),))

    with pytest.raises(InputError, match=rf"other.json names 0 of the network's {len(MATRIX)} layers"):
        measured(PREPARED, LAYERS, DEVICE, (known, other))
