"""Plans of fields and tags compared with the CPU, on a stand-in device or as arrays. Nothing here runs on a GPU."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgepose.backends import load_runtime
from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.evaluation.maps_check import check_maps
from edgepose.evaluation.plan_check import PlanCheck, Row
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.skeletons import COCO17, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec
from tests.fake_device.gpu import FakeGpu
from tests.fake_device.install import fake_device, write_plan_of
from tests.makers import smooth_image
from tests.nvcc import needs_nvcc
from tests.trt.test_every_kind import bottom_up_network

PICTURES = [(smooth_image(seed=seed), np.array([[0, 0, 160, 120]], np.float32)) for seed in range(2)]
HW = (92, 124)
INPUT = Input((184, 248), resize="letterbox")
SPECS = {"fields": ModelSpec("f", INPUT, Fields(HW), OPENPOSE18), "tags": ModelSpec("t", INPUT, Tags(HW), COCO17)}
HEADS = pytest.mark.parametrize("name", SPECS)


def check(folder: Path, name: str, gpu: FakeGpu, **settings) -> PlanCheck:
    onnx, spec = bottom_up_network(folder / "m.onnx", name)
    plan = write_plan_of(onnx, folder / "m.plan", spec, **{"max_batch": 3, **settings})
    runtime = load_runtime(plan)
    found = check_maps(load_runtime(onnx, backend="onnxruntime"), runtime, PICTURES, repeats=2)
    runtime.close()
    assert gpu.problems == []
    return found


@needs_nvcc
@pytest.mark.parametrize(
    ("name", "settings"),
    [("fields", {}), ("joined", {"max_batch": 1}), ("tags", {}), ("fields", {"engine": {"kernels": None}})],
    ids=str,
)
def test_a_right_plan_agrees(tmp_path, name, settings):
    with fake_device() as gpu:
        found = check(tmp_path, name, gpu, **settings)

    assert [row for row in found.rows if not row.agrees] == []
    assert ("the plan's maps grouped" in [row.name for row in found.rows]) == ("engine" not in settings)
    assert re.match(r"agrees with the CPU \(\d+ key points compared\)", found.verdict)


@needs_nvcc
@pytest.mark.parametrize(("name", "fault"), [("joined", "scale"), ("tags", "nan")])
def test_a_wrong_network_is_found_and_named(tmp_path, name, fault):
    with fake_device() as gpu:
        found = check(tmp_path, name, gpu, **{"scale": {"scale": 1.25}, "nan": {"nan": True}}[fault])

    told = {"scale": "2.5e-01", "nan": "nan"}[fault]
    assert re.search(f"^WRONG: network: heat maps of 3 pictures: differ by {told}", found.verdict), found.verdict


def no_limbs(values: tuple) -> None:
    ctypes.memset(values[2], 0, 8 * values[3])


def all_tags_different(values: tuple) -> None:
    answers = (ctypes.c_float * values[3]).from_address(values[2])
    answers[:] = [100.0 * i for i in range(values[3])]


@needs_nvcc
@pytest.mark.parametrize(
    ("name", "kernel", "spoil"), [("fields", "strengths_f32", no_limbs), ("tags", "read_f32", all_tags_different)]
)
def test_a_wrong_kernel_is_found_and_named(tmp_path, name, kernel, spoil):
    with fake_device() as gpu:
        gpu.spoil[kernel] = spoil
        found = check(tmp_path, name, gpu)

    assert found.fault == "decoding kernel"
    assert re.search(r"the plan's maps grouped: [1-9]\d* of \d+ lost, ", found.verdict), found.verdict


class Drawn:
    """A runtime that gives the same maps of every picture."""

    def __init__(self, name: str, maps: dict[str, np.ndarray], precision: str = "fp16") -> None:
        plan = SimpleNamespace(max_batch=1, computes=None)
        self.passport = SimpleNamespace(spec=SPECS[name], precision=precision, plan=plan)
        self.maps = maps

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.repeat(maps[None], len(arrays["images"]), axis=0) for name, maps in self.maps.items()}


def people(name: str, second: float = 1.0) -> dict[str, np.ndarray]:
    """Maps of two people, the second one's heat maps so high."""
    rng = np.random.default_rng(5)
    one = draw_people(1, HW, rng, height=60)
    one += (30, 46) - (one.min(axis=1, keepdims=True) + one.max(axis=1, keepdims=True)) / 2
    points = np.concatenate([one, one + np.array([62, 0])])
    parts = [draw_maps(points[i : i + 1], HW, rng, missing=0) for i in range(2)]
    drawn = np.concatenate([some for _, some in parts])
    first, other = (maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 0.4) for maps, _ in parts)  # 0.4: noise
    heatmaps = np.maximum(first, second * other)
    if name == "tags":
        points, drawn = points[:, COCO17_OF_18], drawn[:, COCO17_OF_18]
        return {"heatmaps": heatmaps[list(COCO17_OF_18)], "tags": draw_tags(points, drawn, HW, rng, apart=3)}
    background = np.zeros((1, *HW), np.float32)
    return {"heatmaps": np.concatenate([heatmaps, background]), "pafs": draw_fields(points, drawn, HW, rng)}


def row_of(wanted: dict, given: dict, name: str, precision: str = "fp16", row: str = "clear people") -> Row:
    cpu, plan = Drawn(name, wanted, precision), Drawn(name, given, precision)
    return next(each for each in check_maps(cpu, plan, PICTURES, repeats=1).rows if each.name == row)


@HEADS
def test_who_is_near_the_threshold_decides_nothing(name):
    found, not_found = people(name, 0.11), people(name, 0.09)

    for wanted, given in ((found, not_found), (not_found, found)):
        row = row_of(wanted, given, name)

        assert row.agrees
        assert row.found.startswith("0 of 2 lost, 0 others found")  # one in each picture


@HEADS
def test_a_clear_person_who_is_lost_or_gained_is_a_fault(name):
    both, one = people(name), people(name, 0.0)

    lost, gained = row_of(both, one, name), row_of(one, both, name)

    assert (lost.agrees, gained.agrees) == (False, False)
    assert lost.found.startswith("2 of 4 lost, 0 others found")
    assert gained.found.startswith("0 of 2 lost, 2 others found")


@HEADS
def test_clear_key_points_that_move_are_a_fault(name):
    maps = people(name)
    moved = {key: np.roll(each, 2, axis=2) for key, each in maps.items()}

    row = row_of(maps, moved, name, row="key points of clear people")

    assert not row.agrees
    assert row.shift is not None
    assert 1.5 < row.shift["mean"] < 2.5


def test_a_clear_key_point_that_goes_to_another_is_a_fault_where_many_do():
    maps = people("fields")
    other = {key: each.copy() for key, each in maps.items()}
    other["heatmaps"][:9] = 0  # half of everybody's

    row = row_of(maps, other, "fields")

    assert not row.agrees
    assert re.search(r"; [1-9]\d* of \d+ clear key points missing", row.found)


@pytest.mark.parametrize(("precision", "right"), [("int8", True), ("fp16", False)])
def test_int8_may_lose_one_of_several(precision, right):
    both, one = people("fields"), people("fields", 0.0)
    wanted, given = Drawn("fields", both, precision), Drawn("fields", both, precision)
    looks = iter([both, both, one])  # all pictures, then each alone

    def run(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given.maps = next(looks)
        return Drawn.run(given, arrays)

    given.run = run  # type: ignore[method-assign]

    found = check_maps(wanted, given, PICTURES, repeats=0)

    assert next(row for row in found.rows if row.name == "clear people").agrees == right


def test_a_key_point_that_was_filled_in_is_not_clear():
    maps = people("tags")
    maps["heatmaps"][9] *= 0.05  # too low for a peak
    moved = {key: each.copy() for key, each in maps.items()}
    moved["heatmaps"][9] = np.roll(maps["heatmaps"][9], 2, axis=1)

    row = row_of(maps, moved, "tags", row="key points of clear people")

    assert row.agrees
    assert row.found.startswith("mean 0.000")


def test_nobody_says_what_to_give():
    empty = {key: np.zeros_like(each) for key, each in people("fields").items()}
    empty["heatmaps"][-1] = 1
    empty["pafs"][0, 0, 0] = 1
    runtime = Drawn("fields", empty)

    found = check_maps(runtime, runtime, PICTURES, repeats=1)

    assert found.fault == ""
    assert "no key point was clear: give --images of people" in found.verdict


def test_results_that_change_from_run_to_run_are_found():
    maps = people("fields")
    plan, drift = Drawn("fields", maps), iter(np.linspace(0, 1e-4, 100))
    plan.run = lambda arrays: {  # type: ignore[method-assign]
        key: each + np.float32(next(drift)) for key, each in Drawn.run(plan, arrays).items()
    }

    found = check_maps(Drawn("fields", maps), plan, PICTURES, repeats=2)

    assert found.fault == "repetition"
