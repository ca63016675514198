"""RTMW3D from its checkpoint's keys, or another project's ONNX, to positions in space."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from click.testing import CliRunner

from edgepose.backends import load_backend
from edgepose.cli import main
from edgepose.estimate.top_down import estimate_poses
from edgepose.export.checkpoints.fingerprint import recognize
from edgepose.export.graph.simplify import simplify
from edgepose.export.networks.rtmpose import RTMW
from edgepose.export.to_onnx import to_onnx
from edgepose.export.zoo.find import models
from edgepose.files import sha256_of
from edgepose.model.heads.simcc import SimCC
from edgepose.model.passport import Passport, write_passport
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import Input, ModelSpec, Region
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


def test_a_small_one_is_exported_and_taken_by_nvidias_parser_and_builder(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    spec = ModelSpec("small", Input((64, 64)), SimCC(depth_bins=96), COCO17, Region())
    torch.manual_seed(0)
    network = RTMW(17, (64, 64), 0.375, 0.167, depth_bins=96).eval()
    path = tmp_path / "small.onnx"
    onnx.save(simplify(to_onnx(network, spec)), path)
    write_passport(path, Passport(spec, "fp32", sha256_of(path), "random"))

    result = CliRunner().invoke(main, ["build", str(path), "--runtime", "tensorrt_rtx", "--target", "sm_86"])

    assert result.exit_code == 0, result.output
    assert recognize(network.state_dict()).name == "rtmw3d_t"
    with load_backend(path) as backend:
        assert estimate_poses(backend, smooth_image(), BOXES).xyz.shape == (3, 17, 3)
