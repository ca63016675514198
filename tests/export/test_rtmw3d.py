"""RTMW3D from its checkpoint's keys, or another project's ONNX, to positions in space."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgepose.backends import load_backend, load_runtime
from edgepose.cli import main
from edgepose.estimate.top_down import estimate_poses
from edgepose.export.checkpoints.fingerprint import recognize
from edgepose.export.graph.simplify import simplify
from edgepose.export.networks.rtmpose import RTMW
from edgepose.export.pair import Weights
from edgepose.export.pipeline import Exported, randomize, write_models
from edgepose.export.to_onnx import to_onnx
from edgepose.export.verify import Difference
from edgepose.export.zoo.find import models
from edgepose.io.images import write_image
from edgepose.model.computes import LEAST_SHARE
from edgepose.model.heads.simcc import SimCC
from edgepose.model.passport import read_passport
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import Input, ModelSpec, Region
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions
from tests.makers import smooth_image
from tests.trt.test_every_kind import BOXES, SPECS, write_network_of

SPEC = next(spec for spec in SPECS if spec.name == "simcc_in_space")


def imported(model: Path, spec: ModelSpec, folder: Path):
    (folder / "spec.json").write_text(json.dumps(replace(spec, name="theirs").to_json()))
    options = ["--spec", str(folder / "spec.json"), "-o", str(folder / "out")]
    return CliRunner().invoke(main, ["import", str(model), *options])


def test_the_zoo_has_both_published_sizes():
    found = {model.name: model.spec for model in models() if model.name.startswith("rtmw3d")}

    assert set(found) == {"rtmw3d_l", "rtmw3d_x"}
    assert {spec.outputs["simcc_z"] for spec in found.values()} == {(133, 576)}


def test_a_foreign_file_of_three_vectors_is_imported_and_gives_positions(tmp_path):
    model = write_network_of(tmp_path / "m.onnx", SPEC)

    result = imported(model, SPEC, tmp_path)

    assert result.exit_code == 0, result.output
    with load_backend(tmp_path / "out" / "theirs.onnx") as theirs, load_backend(model) as original:
        found, wanted = (estimate_poses(backend, smooth_image(), BOXES).xyz for backend in (theirs, original))
    assert abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (SimCC(), "no output simcc_z, which its simcc head wants; it has: simcc_x, simcc_y"),
        (SimCC(depth_bins=24), r"simcc_z.*24.*20"),
    ],
    ids=["missing", "length"],
)
def test_a_depth_that_is_missing_or_of_another_length_is_told(tmp_path, head, message):
    model = write_network_of(tmp_path / "m.onnx", replace(SPEC, head=head))

    result = imported(model, SPEC, tmp_path)

    assert result.exit_code == 1
    assert re.search(message, result.output), result.output
    assert not (tmp_path / "out" / "theirs.onnx").exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Exported:
    """RTMW3D with the trunk of RTMPose-t, crops of 64x64 and 96 bins of depth, random weights."""
    spec = ModelSpec("small", Input((64, 64)), SimCC(depth_bins=96), COCO17, Region())
    folder = tmp_path_factory.mktemp("small")
    network = small_network()
    randomize(network, spec)
    return write_models(simplify(to_onnx(network, spec)), spec, Weights("random"), Difference(0.0, 0.0, 0), folder)


def small_network() -> RTMW:
    torch.manual_seed(0)
    return RTMW(17, (64, 64), 0.375, 0.167, depth_bins=96).eval()


@pytest.fixture(scope="module")
def int8(small) -> Path:
    """What `calibrate` makes of it with its defaults."""
    for seed in range(4):
        write_image(small.fp32.with_name(f"{seed}.png"), smooth_image(seed=seed))
    people = ["--images", str(small.fp32.with_name("*.png")), "--boxes", "whole"]
    result = CliRunner().invoke(main, ["calibrate", *people, "--model", str(small.fp32)])
    assert result.exit_code == 0, result.output
    return small.fp32.with_name("small.int8.onnx")


def test_a_small_one_has_the_keys_of_its_family():
    assert recognize(small_network().state_dict()).name == "rtmw3d_t"


def test_int8_leaves_the_head_in_float_as_of_any_simcc_network(int8):
    layers = read_passport(int8).layers

    assert {"simcc_x", "simcc_y", "simcc_z"} <= set(layers["float"])
    assert not [name for name in layers["int8"] if re.search("simcc|mlp|gau|final_layer|depthwise", name)]
    assert len(layers["int8"]) > 60


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.02), ("int8", 0.2)])  # tests/test_families.py's
def test_each_precision_gives_all_three_vectors_about_as_fp32_does(small, int8, precision, tolerance):
    path = {"fp16": small.fp16, "int8": int8}[precision]
    regions = Regions.around(BOXES[-1:], small.spec)
    crops = np.concatenate([cut_out(smooth_image(seed=seed), regions, small.spec) for seed in range(4)])
    with closing(load_runtime(small.fp32)) as exact, closing(load_runtime(path)) as other:
        wanted, found = (runtime.run({"crops": crops}) for runtime in (exact, other))

    for name, shape in small.spec.outputs.items():
        assert found[name].shape == (len(crops), *shape)
        assert np.abs(found[name] - wanted[name]).mean() < tolerance * np.abs(wanted[name]).max()


def precisions(small: Exported, int8: Path) -> dict[str, Path]:
    return {"fp32": small.fp32, "fp16": small.fp16, "int8": int8}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_gives_positions_and_is_taken_by_nvidias_parser_and_builder(small, int8, precision):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    path = precisions(small, int8)[precision]
    options = ["--runtime", "tensorrt_rtx", "--target", "sm_86", "--no-kernels"]

    result = CliRunner().invoke(main, ["build", str(path), *options])

    assert result.exit_code == 0, result.output
    computes = read_passport(path.with_suffix(".plan")).plan.computes
    assert computes is not None
    assert min(computes.meant.values(), default=1) >= LEAST_SHARE
    assert (computes.shares.get("INT8", 0) > 0.7) == (precision == "int8")
    with load_backend(path) as backend:
        xyz = estimate_poses(backend, smooth_image(), BOXES).xyz
    assert xyz.shape == (3, 17, 3)
