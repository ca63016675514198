"""edgepose sensitivity, and the partial execution it stands on, on toy networks."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from edgepose.calibration import effects
from edgepose.calibration.mixes import Ground, quantise, tensors_of_mixes
from edgepose.calibration.partial import PartialRuns, Piece, changed_pieces, segment_starts
from edgepose.calibration.qdq import all_layers, quantisable_layers, quantised_inputs
from edgepose.calibration.seen import TensorValues
from edgepose.calibration.sensitivity import sensitivities
from edgepose.calibration.variants import Variants, filled
from edgepose.cli import main
from edgepose.model.passport import read_passport, write_passport
from tests.calibration.graphs import mobile_network, pose_network, prepare, run, toy_crops, toy_spec, write_model
from tests.makers import smooth_image

SPEC = toy_spec().changed(decoder="dark")  # of the other decoders a small error often moves nothing


def ground_of(network: onnx.ModelProto) -> Ground:
    prepared = prepare(network)
    ranges = {name: 4.0 for name in tensors_of_mixes(prepared, all_layers(prepared))}
    return Ground(prepared, tuple(quantisable_layers(prepared)), ranges, {})


def crops_for(count: int) -> list[np.ndarray]:
    return [crop[None] for crop in toy_crops(count)]


def pieces_of(ground: Ground, starts: Collection[str] = ()) -> dict[str, tuple[Piece, ...]]:
    variants = Variants(ground)
    graphs = {layer: variants.graph([layer]) for layer in ground.layers}
    return {name: changed_pieces(ground.model, graph, variants.constants, starts) for name, graph in graphs.items()}


def nodes_in(piece: Piece) -> list[onnx.NodeProto]:
    return list(onnx.ModelProto.FromString(piece.graph).graph.node)


@pytest.mark.parametrize("segments", [1, 3, 12])
@pytest.mark.parametrize("network", [pose_network, mobile_network])
def test_partial_runs_give_what_whole_variants_give(network, segments):
    ground = ground_of(network())
    variants = Variants(ground)
    graphs = {layer: variants.graph([layer]) for layer in ground.layers}
    starts = segment_starts(ground.model, ground.layers, segments)

    runs = PartialRuns(variants.graph(()), graphs, variants.constants, starts)

    for crop in crops_for(2):
        found = dict(runs.outputs(crop))
        for layer in ground.layers:
            np.testing.assert_allclose(found[layer]["heatmaps"], run(quantise(ground, [layer]), crop)[0], atol=1e-5)


def test_of_the_last_layer_little_is_computed_anew():
    found = pieces_of(ground_of(pose_network()))

    sizes = [sum(len(nodes_in(piece)) for piece in pieces) for pieces in found.values()]
    assert sizes[-1] == min(sizes) < sizes[0] / 2


def test_a_graph_that_did_not_change_has_no_pieces():
    variants = Variants(ground_of(pose_network()))

    assert not changed_pieces(variants.ground.model, variants.graph(()), variants.constants)


def test_what_follows_a_cut_is_the_same_piece_whichever_layer_before_it_changed():
    ground = ground_of(pose_network())

    found = pieces_of(ground, ["down"])

    assert found["first_bn"][-1] == found["second_bn"][-1]
    assert found["first_bn"][0] != found["second_bn"][0]


def test_a_pair_before_a_cut_is_computed_behind_it_with_the_layer_that_reads_it():
    found = pieces_of(ground_of(pose_network()), ["down"])

    (piece,) = found["down"]
    assert piece.reads == ("sum_relu",)
    assert [node.op_type for node in nodes_in(piece)][:3] == ["QuantizeLinear", "DequantizeLinear", "Conv"]


def test_a_graph_is_cut_before_layers_where_few_tensors_are_in_use():
    ground = ground_of(pose_network())

    starts = segment_starts(ground.model, ground.layers, segments=2)

    assert starts == {"down"}  # not within the residual block, where the skip is in use as well


@pytest.mark.parametrize("network", [pose_network, mobile_network])
def test_a_variant_is_the_graph_that_is_shipped_but_for_where_weights_are_rounded(network):
    ground = replace(ground_of(network()), means={"crops": np.array([0.5, -0.5, 0.1])})  # one bias is corrected
    crop = crops_for(1)[0]
    variants = Variants(ground)
    without = next(iter(quantised_inputs(ground.model, ground.layers)))

    made = filled(variants.graph(ground.layers, [without]), variants.constants)

    shipped = quantise(ground, ground.layers, [without])
    np.testing.assert_array_equal(run(made, crop)[0], run(shipped, crop)[0])
    onnx.checker.check_model(made)


def noise(exact: list[np.ndarray], found: list[np.ndarray]) -> float:
    error = sum(float(((one - other) ** 2).sum()) for one, other in zip(exact, found, strict=True))
    return error / sum(float(((one - one.mean((2, 3), keepdims=True)) ** 2).sum()) for one in exact)


@pytest.mark.parametrize("network", [pose_network, mobile_network])
def test_each_effect_is_that_of_the_whole_network_run_anew(network):
    ground, crops = ground_of(network()), crops_for(2)
    exact = [run(ground.model, crop)[0] for crop in crops]

    found = sensitivities(ground, crops, SPEC)

    assert list(found.layers) == list(ground.layers)
    assert list(found.tensors) == list(quantised_inputs(ground.model, ground.layers))
    for name, each in found.layers.items():
        rest = [other for other in ground.layers if other != name]
        for effect, layers in ((each.only, [name]), (each.all_but, rest)):
            variant = quantise(ground, layers)
            assert effect.noise == pytest.approx(noise(exact, [run(variant, crop)[0] for crop in crops]), rel=1e-2)
    for name, each in found.tensors.items():
        variant = quantise(ground, ground.layers, [name])
        again = noise(exact, [run(variant, crop)[0] for crop in crops])
        assert each.all_but.noise == pytest.approx(again, rel=1e-2)  # ties of rounding may fall either way


def test_the_layer_and_the_tensor_with_a_wrong_range_are_found():
    ground = ground_of(mobile_network())
    ground.ranges["depthwise_clip"] = 0.01  # nearly all is clipped

    found = sensitivities(ground, crops_for(3), SPEC)

    assert max(found.layers, key=lambda name: found.layers[name].only.noise) == "project"
    assert min(found.layers, key=lambda name: found.layers[name].all_but.noise) == "project"
    assert found.reads["project"] == "depthwise_clip"
    assert max(found.tensors, key=lambda name: found.tensors[name].only.noise) == "depthwise_clip"
    assert found.seen["depthwise_clip"].clipped > 0.4
    assert sum(found.seen["depthwise_clip"].histogram) == 3 * 16 * 16 * 12


def test_the_number_of_threads_does_not_change_what_is_found(monkeypatch):
    ground, crops = ground_of(pose_network()), crops_for(5)
    monkeypatch.setattr(effects, "THREADS", 4)
    together = sensitivities(ground, crops, SPEC)
    monkeypatch.setattr(effects, "THREADS", 1)

    assert sensitivities(ground, crops, SPEC) == together


@pytest.mark.parametrize(
    ("values", "clipped", "power"),
    [
        (np.zeros((1, 4)), 0.0, 0.0),
        (np.full((1, 4), 127.0), 0.0, 0.0),
        (np.array([[0.0, 254.0]]), 0.5, 0.25),  # half of the larger value is cut off
    ],
)
def test_what_a_range_costs_is_counted(values, clipped, power):
    counted = TensorValues(127.0)  # a step of 1

    counted.add(values.astype(np.float32))

    seen = counted.seen()
    assert seen.clipped == clipped
    assert seen.noise == pytest.approx(power)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sensitivity")
    for seed in range(12):
        cv2.imwrite(str(folder / f"{seed}.png"), smooth_image(seed=seed))
    path = write_model(folder, mobile_network())
    write_passport(path, replace(read_passport(path), spec=SPEC))
    return folder


def ask(folder: Path, output: Path, *arguments: object) -> Result:
    people = ("--images", folder / "*.png", "--boxes", "whole", "--crops", 4)
    fixed = ("sensitivity", folder / "toy.onnx", *people, "-o", output)
    return CliRunner().invoke(main, [*map(str, (*fixed, *arguments))])


def test_the_command_writes_what_it_found_and_measures_nothing_twice(folder, tmp_path, monkeypatch):
    first = ask(folder, tmp_path)
    written = (tmp_path / "toy.sensitivity.json").read_bytes()
    monkeypatch.setattr("edgepose.calibration.study.sensitivities", None)  # to call it is an error

    second = ask(folder, tmp_path)

    assert first.exit_code == second.exit_code == 0, first.output + second.output
    assert second.output == first.output
    assert (tmp_path / "toy.sensitivity.json").read_bytes() == written
    data = json.loads(written)
    assert {layer["name"] for layer in data["layers"]} == set(quantisable_layers(prepare(mobile_network())))
    assert sum(layer["time_share"] for layer in data["layers"]) < 1  # the depthwise layers have some, too
    assert all(len(tensor["histogram"]) == 64 for tensor in data["tensors"])


@pytest.mark.parametrize("damage", ["{", "[]", '{"edgepose_sensitivity": 1}'])
def test_a_damaged_file_is_measured_anew(folder, tmp_path, damage):
    (tmp_path / "toy.sensitivity.json").write_text(damage)

    result = ask(folder, tmp_path)

    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "toy.sensitivity.json").read_text())["layers"]


def test_where_fp32_finds_no_key_point_it_says_that_shifts_are_not_known(folder, tmp_path):
    blind = mobile_network()
    for item in blind.graph.initializer:
        if item.name == "heatmaps.weight":
            item.CopyFrom(numpy_helper.from_array(np.full((2, 8, 1, 1), -1.0, np.float32), item.name))
    path = write_model(tmp_path, blind)

    people = ["--images", str(folder / "*.png"), "--boxes", "whole", "--crops", "2"]
    result = CliRunner().invoke(main, ["sensitivity", str(path), *people])

    assert result.exit_code == 0, result.output
    assert "no key point of FP32 has a score over 0.3" in result.output


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [(["--device", "nano"], 1, "none of orin-nano"), (["--crops", "0"], 2, "0 is not in the range")],
)
def test_what_cannot_be_measured_is_said_in_a_line(folder, tmp_path, arguments, status, said):
    result = ask(folder, tmp_path, *arguments)

    assert result.exit_code == status
    assert said in result.output
