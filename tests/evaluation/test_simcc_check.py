"""Plans of SimCC with kernels, from frame to key points, compared with the CPU on a stand-in device. No GPU here."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest

from edgepose.backends import load_backend
from edgepose.evaluation.plan_check import PlanCheck, check_plan
from edgepose.model.heads.simcc import SimCC
from tests.evaluation.test_plan_check import spoil_corner
from tests.fake_device.gpu import FakeGpu
from tests.fake_device.install import fake_device, write_plan_of
from tests.makers import smooth_image
from tests.nvcc import needs_nvcc
from tests.trt.test_every_kind import BOXES, SPECS, write_network_of

pytest.importorskip("onnxruntime")
pytestmark = needs_nvcc
SPEC = SPECS[0]
PICTURES = [(smooth_image(seed=seed), BOXES) for seed in range(2)]


def check(folder: Path, gpu: FakeGpu, **settings) -> PlanCheck:
    assert isinstance(SPEC.head, SimCC)
    onnx = write_network_of(folder / "m.onnx", SPEC)
    plan = write_plan_of(onnx, folder / "m.plan", SPEC, **{"max_batch": 3, **settings})
    with load_backend(onnx, backend="onnxruntime") as cpu, load_backend(plan) as opened:
        found = check_plan(cpu, opened, PICTURES, repeats=4)
    assert gpu.problems == []
    return found


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_batch": 1}, {"max_batch": 8}, dict.fromkeys(("crops", "simcc_x", "simcc_y"), "HALF")],
    ids=["three", "one", "eight", "fp16"],
)
def test_a_right_plan_agrees_in_every_form(tmp_path, settings):
    with fake_device() as gpu:
        found = check(tmp_path, gpu, **settings)

    assert [row for row in found.rows if not row.agrees] == []
    assert found.verdict.startswith("agrees with the CPU (")
    names = {row.name for row in found.rows}
    assert {"crops of NV12, BT709-FULL", "the CPU's vectors decoded", "key points of 1, flip test, CUDA graph"} <= names


def move_decoded(values: tuple) -> None:
    (ctypes.c_float * 2).from_address(values[6])[:] = [90, 90]


@pytest.mark.parametrize(
    ("spoilt", "settings", "told"),
    [
        ({"crop_f32": spoil_corner}, {}, "crop kernel: crops of RGB: .* grey levels at most"),
        ({"simcc_f32": move_decoded}, {}, "decoding kernel: the CPU's vectors decoded: .* input px at most"),
        ({}, {"scale": 1.25}, "network: simcc_x of 3 crops: differ by 2.5e-01 of their rms"),
        ({}, {"nan": True}, "network: simcc_x of 3 crops: differ by nan"),
    ],
    ids=["crop", "decode", "scale", "nan"],
)
def test_a_fault_is_found_and_named(tmp_path, spoilt, settings, told):
    with fake_device() as gpu:
        gpu.spoil.update(spoilt)
        found = check(tmp_path, gpu, **settings)

    assert re.search(f"^WRONG: {told}", found.verdict), found.verdict


def test_a_stale_graph_is_found(tmp_path):
    with fake_device() as gpu:
        gpu.stale_graphs = True
        found = check(tmp_path, gpu, max_batch=1)

    assert found.fault == "CUDA graph"
    assert np.isfinite([row.shift["max"] for row in found.rows if row.shift]).all()
