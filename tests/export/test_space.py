from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgepose.errors import CheckpointError, ModelFileError
from edgepose.estimate.lift import open_lifter
from edgepose.export.checkpoints.state_dict import load_into, read_checkpoint
from edgepose.export.graph.run import run_onnx
from edgepose.export.networks.simple_baseline import SimpleBaseline
from edgepose.export.space import export_space_model, import_lifter, rename_interface, sample_windows, space_model
from edgepose.export.zoo.model import ChoiceError
from edgepose.export.zoo.space import find_space_model, space_models
from edgepose.model.heads.lift import Lift
from edgepose.model.passport import read_passport
from edgepose.model.spec import ModelSpec
from tests.export.golden import golden_state
from tests.shared_data import SHARED, needs_shared

STATISTICS = {
    "input_mean": [500.0] * 32,
    "input_std": [100.0] * 32,
    "output_mean": [0.0] * 48,
    "output_std": [0.5] * 48,
}


@needs_shared
def test_the_exported_file_computes_what_the_reference_implementation_computes(tmp_path):
    weights = tmp_path / "martinez.pth"
    torch.save(golden_state("martinez"), weights)
    with np.load(SHARED / "golden" / "martinez.npz") as stored:
        points = np.random.default_rng(0).standard_normal(tuple(stored["input_shape"])).astype(np.float32)
        expected = stored["xyz"]

    exported = export_space_model(find_space_model("simplebaseline3d"), tmp_path, weights=str(weights))

    xyz = run_onnx(onnx.load(exported.fp32), points.reshape(1, 1, 16, 2))[0]
    assert xyz.shape == (1, 16, 3)
    assert np.abs(xyz.ravel() - expected.ravel()).max() / np.abs(expected).max() < 1e-4


def test_the_embedded_lifter_is_exact_to_a_millimetre_in_fp16(tiny_lifter):
    fp32, fp16 = (read_passport(path) for path in (tiny_lifter.fp32, tiny_lifter.fp16))

    assert (fp32.precision, fp16.precision) == ("fp32", "fp16")
    assert fp32.spec == find_space_model("lifter_tiny").spec
    assert fp32.verified["fp32_mm"] < 0.01  # float32 metres: 1e-7 of them, a hundred times over
    assert fp16.verified["fp16_mm"] < 1
    assert fp16.made_from == {tiny_lifter.fp32.name: fp32.sha256}


def test_a_lifters_files_are_repeatable_to_the_byte(tiny_lifter, tmp_path):
    again = export_space_model(find_space_model("lifter_tiny"), tmp_path)

    assert again.fp32.read_bytes() == tiny_lifter.fp32.read_bytes()
    assert again.fp16.read_bytes() == tiny_lifter.fp16.read_bytes()


@pytest.mark.parametrize("model", space_models(), ids=lambda model: model.name)
def test_the_zoo_tells_the_size_of_each_network(model):
    with torch.device("meta"):
        network = model.build()

    (shape,) = model.spec.inputs.values()
    output = network(torch.zeros(2, *shape, device="meta"))

    assert tuple(output.shape[1:]) == next(iter(model.spec.outputs.values()))
    assert model.params == sum(weight.numel() for weight in network.parameters())
    assert ModelSpec.from_json(json.loads(json.dumps(model.spec.to_json()))) == model.spec


def test_a_published_posenets_keys_are_read(tmp_path):
    network = SimpleBaseline(18, 2 * 8, planes=(4, 4, 4, 4), deconv_filters=4)
    path = tmp_path / "snapshot_24.pth.tar"
    trunk = ("deconv_layers", "final_layer")
    state = {
        f"module.{'head' if key.startswith(trunk) else 'backbone'}.{key}": value
        for key, value in network.state_dict().items()
    }
    torch.save({"epoch": 24, "network": state, "optimizer": {}}, path)

    found, _ = read_checkpoint(path)

    load_into(network, found, path=path, label="PoseNet")  # or it raises


def test_a_lifter_without_its_statistics_is_not_run(tmp_path):
    exported = export_space_model(find_space_model("simplebaseline3d"), tmp_path, weights="random")

    with pytest.raises(ModelFileError, match="without the means and deviations"):
        open_lifter(exported.fp32)


def test_statistics_come_from_a_file(tmp_path):
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(STATISTICS))

    head = space_model("simplebaseline3d", path).spec.head

    assert head.statistics["input_mean"] == (500.0,) * 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_mean": [500.0] * 34}, "input_mean has 34 numbers, input_std 32"),
        ({"input_mean": [500.0] * 34, "input_std": [1.0] * 34}, "must be 32 numbers each, got 34"),
        ({"output_std": [0.0] * 48}, "output_std must be positive"),
        ({"more": []}, "statistics must be input_mean"),
    ],
)
def test_statistics_of_another_network_are_refused(tmp_path, change, message):
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps({**STATISTICS, **change}))

    with pytest.raises(ModelFileError, match=message):
        space_model("simplebaseline3d", path)


def test_other_networks_take_no_statistics(tmp_path):
    with pytest.raises(ChoiceError, match="lifter_tiny takes no statistics"):
        space_model("lifter_tiny", tmp_path / "statistics.json")


def test_weights_of_another_lifter_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(find_space_model("simplebaseline3d").build().state_dict(), path)

    with pytest.raises(CheckpointError, match="not a checkpoint of lifter_tiny"):
        export_space_model(find_space_model("lifter_tiny"), tmp_path, weights=str(path))


def test_a_lifter_without_an_address_asks_for_its_file(tmp_path):
    with pytest.raises(CheckpointError, match="give a checkpoint with --weights FILE"):
        export_space_model(find_space_model("videopose3d_27_causal"), tmp_path)


@pytest.fixture
def foreign(tiny_lifter, tmp_path) -> Path:
    """The embedded lifter under other names."""
    graph = onnx.load(tiny_lifter.fp32)
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"points": "input", "xyz": "output"}.get(name, name) for name in names]
    graph.graph.input[0].name, graph.graph.output[0].name = "input", "output"
    path = tmp_path / "foreign.onnx"
    onnx.save(graph, path)
    return path


def test_a_foreign_lifter_is_imported(foreign, tiny_lifter, tmp_path):
    spec = replace(find_space_model("lifter_tiny").spec, name="theirs")

    imported = import_lifter(foreign, spec, tmp_path)

    points = sample_windows(spec.head)
    ours, theirs = (run_onnx(onnx.load(path), points)[0] for path in (tiny_lifter.fp32, imported.fp32))
    assert np.array_equal(ours, theirs)
    assert read_passport(imported.fp16).spec == spec


def test_a_lift_model_for_another_frame_count_is_refused(foreign, tmp_path):
    spec = find_space_model("lifter_tiny").spec
    other = replace(spec, name="theirs", head=Lift(81, points="body15", units="person"))

    with pytest.raises(ModelFileError, match=r"its input input is \(n, 27, 15, 2\), the spec says \(n, 81, 15, 2\)"):
        import_lifter(foreign, other, tmp_path)

    assert not (tmp_path / "theirs.onnx").exists()


def test_a_lift_model_for_another_skeleton_is_refused(foreign):
    spec = find_space_model("videopose3d_27").spec

    with pytest.raises(ModelFileError, match=r"the spec says \(n, 27, 17, 2\)"):
        rename_interface(onnx.load(foreign), spec, foreign)
