"""Mixes of INT8 and FP16 layers, as `calibrate --budget` makes them, are built by TensorRT and mean one thing."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edgepose.backends import load_runtime
from edgepose.calibration.mixes import Ground, mixed, tensors_of_mixes
from edgepose.calibration.qdq import all_layers
from edgepose.cli import main
from edgepose.model.passport import read_passport, write_passport
from tests.backends.exactness import check_levels, in_fp32
from tests.calibration.graphs import mobile_network, pose_network, prepare, run, toy_crops, toy_spec, write_model
from tests.makers import smooth_image

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory) -> Path:
    """What a narrow budget leaves in INT8 of a toy network."""
    folder = tmp_path_factory.mktemp("mix")
    for seed in range(24):
        cv2.imwrite(str(folder / f"{seed}.png"), smooth_image(seed=seed))
    path = write_model(folder, mobile_network())
    write_passport(path, replace(read_passport(path), spec=toy_spec().changed(decoder="dark")))
    people = ("--images", str(folder / "*.png"), "--boxes", "whole", "--model", str(path))
    result = CliRunner().invoke(main, ["calibrate", *people, "--budget", "0.2px", "--method", "mse"])
    assert result.exit_code == 0, result.output
    return folder / "toy.int8.onnx"


def alternating(network: onnx.ModelProto, first: int) -> onnx.ModelProto:
    """Every other layer in INT8: a border between precisions before and behind each."""
    prepared = prepare(network)
    layers = all_layers(prepared)
    ranges = {name: 4.0 for name in tensors_of_mixes(prepared, layers)}
    return mixed(Ground(prepared, tuple(layers), ranges, {}), list(layers)[first::2])


def build(path: Path) -> int:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    from edgepose.trt.build import build_engine
    from edgepose.trt.options import BuildOptions

    options = BuildOptions(targets=("sm_86",), kernels=False)
    return build_engine(path, options=options, runtime=trt.__name__).plan.stat().st_size


def assert_means_one_thing(path: Path) -> None:
    """The CPU backend's exact arithmetic and ONNX Runtime without optimisations find the same heat maps."""
    crops = toy_crops()
    with closing(load_runtime(path, backend="openvino", exact=True)) as runtime:
        found = runtime.run({"crops": crops})["heatmaps"]
    (wanted,) = run(in_fp32(onnx.load(path)), crops)

    assert np.abs(found - wanted).mean() < 1e-4 * np.abs(wanted).max()  # a value between two levels may be rounded up
    assert check_levels(path, crops, exact=True) > 1_000


def test_what_a_budget_chose_has_layers_of_both_precisions(chosen):
    layers = read_passport(chosen).layers

    assert layers["int8"]
    assert layers["float"]


def test_what_a_budget_chose_is_built_by_nvidias_builder(chosen):
    assert build(chosen) > 0


def test_what_a_budget_chose_gives_the_numbers_that_its_file_means(chosen):
    assert_means_one_thing(chosen)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("network", [pose_network, mobile_network])
def test_a_border_at_every_layer_is_built_and_changes_no_number(network, first, tmp_path):
    path = write_model(tmp_path, alternating(network(), first), "toy.int8.onnx", precision="int8")

    assert_means_one_thing(path)
    assert build(path) > 0
