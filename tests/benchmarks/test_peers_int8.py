"""The comparison of INT8 with other tools, without the other tools."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import onnx
import pytest

from edgepose.benchmarks.peers import int8
from edgepose.benchmarks.peers.int8 import table
from edgepose.benchmarks.peers.int8_networks import NETWORKS
from edgepose.benchmarks.peers.int8_people import AsWritten, Row
from edgepose.benchmarks.peers.shares import int8_share
from edgepose.calibration import costs
from edgepose.calibration.mixes import Ground, mixed, quantise, tensors_of_mixes
from edgepose.calibration.qdq import all_layers, quantisable_layers
from edgepose.files import write_json
from edgepose.model.passport import read_passport
from tests.calibration.graphs import mobile_network, pose_network, prepare, toy_crops, write_model


def ground_of(network: onnx.ModelProto) -> Ground:
    prepared = prepare(network)
    ranges = {name: 4.0 for name in tensors_of_mixes(prepared, all_layers(prepared))}
    return Ground(prepared, tuple(quantisable_layers(prepared)), ranges, {})


@pytest.mark.parametrize("network", [pose_network, mobile_network])
@pytest.mark.parametrize("make", [quantise, mixed])
def test_the_share_read_from_a_graph_is_the_one_that_edgepose_states(network, make):
    ground = ground_of(network())

    found = int8_share(onnx.shape_inference.infer_shapes(make(ground, ground.layers)))

    assert found == pytest.approx(costs.int8_share(costs.node_costs(ground.model), ground.layers), abs=1e-9)


def test_of_a_float_graph_the_share_is_none_with_a_deconvolution_counted():
    assert int8_share(pose_network()) == 0


def test_a_graph_is_run_a_crop_at_a_time_and_nobody_is_no_fault(tmp_path):
    path = write_model(tmp_path, pose_network())
    runtime = AsWritten(onnx.load(path), path, read_passport(path).spec)

    assert runtime.run({"crops": toy_crops(3)})["heatmaps"].shape == (3, 2, 16, 12)
    assert runtime.run({"crops": np.zeros((0, 3, 64, 48), np.float32)})["heatmaps"].shape == (0, 2, 16, 12)
    assert [len(found) for found in runtime.kept] == [3, 0]


def test_the_table_has_a_row_for_what_is_known_and_names_the_rest(tmp_path):
    write_json(tmp_path / "edgepose_mse.json", asdict(Row(0.9, 0.5, 1.25, 0.125, 0.25, 7.0)))
    write_json(tmp_path / "nncf-default.json", {"failed": "no such package"})

    lines = table(NETWORKS["pptinypose"], tmp_path, "186 people")

    assert "| edgepose mse | 90.0% | 0.500 | 1.25 | 0.12 ± 0.25 | 7 |" in lines
    assert "Without a row: nncf-default: no such package." in lines
    assert sum(line.startswith("Without a row") for line in lines) == len(int8.WAYS) - 1


def test_without_a_figure_the_table_has_the_noise_and_no_peak_is_no_shift(tmp_path):
    write_json(tmp_path / "edgepose_mse.json", asdict(Row(0.99, None, None, None, None, 7.0, 37.46)))

    lines = table(NETWORKS["simplebaseline_resnet50"], tmp_path, "")

    assert "| | in INT8 | shift mean, px | p95, px | SQNR, dB | tool's time, s |" in lines[4]
    assert "| edgepose mse | 99.0% | - | - | 37.5 | 7 |" in lines
