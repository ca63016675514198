"""Plans compared with the CPU on a stand-in device, with faults put in on purpose. Nothing here runs on a GPU."""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest

from edgepose.backends import load_backend
from edgepose.cuda.launch import FRAME
from edgepose.errors import InputError
from edgepose.evaluation import plan_inputs
from edgepose.evaluation.plan_check import check_plan
from edgepose.evaluation.plan_inputs import crowd_of
from edgepose.model.computes import Computes
from edgepose.stages.frames import yuv_factors
from edgepose.trt.layers import computes_of, parse_layers
from edgepose.trt.meant import Meant, MeantLayer
from tests.fake_device.gpu import FakeGpu
from tests.fake_device.install import fake_device, write_toy_plan
from tests.makers import dots_image, dots_spec
from tests.nvcc import needs_nvcc

pytest.importorskip("onnxruntime")
pytestmark = needs_nvcc
SPEC = dots_spec()
BOXES = np.array([[0, 0, 48, 64], [2, 1, 50, 65]], np.float32)
PICTURES = [(dots_image((left, 20), (28, 40)), BOXES) for left in (8, 14)]


@contextmanager
def opened(folder, **settings) -> Iterator[tuple]:
    """The device, the CPU's backend and the plan's."""
    with fake_device() as gpu, ExitStack() as stack:
        plan = write_toy_plan(folder / "m.plan", SPEC, **{"max_batch": 1, **settings})
        cpu = stack.enter_context(load_backend(folder / "m.onnx", backend="onnxruntime"))
        yield gpu, cpu, stack.enter_context(load_backend(plan))


def spoil_corner(values: tuple) -> None:
    """The last pixel of the first crop is white, far beyond what any is."""
    address, height, width = values[5], *values[7:9]
    (ctypes.c_float * (3 * height * width)).from_address(address)[3 * height * width - 1] = 5


def move_decoded(values: tuple) -> None:
    (ctypes.c_float * 1).from_address(values[5])[0] += 9


@pytest.mark.parametrize("types", [{"max_batch": 4}, {"crops": "HALF", "heatmaps": "HALF"}], ids=["fp32", "fp16"])
def test_a_right_plan_agrees_in_every_form(tmp_path, types):
    with opened(tmp_path, **types) as (gpu, cpu, plan):
        check = check_plan(cpu, plan, PICTURES, repeats=2)

        assert [row for row in check.rows if not row.agrees] == []
        assert check.fault == ""
        assert check.verdict.startswith("agrees with the CPU (")
        names = [row.name for row in check.rows]
        assert {
            f"key points of {n}{form}"
            for n in ((1, 3, 4) if "max_batch" in types else (1,))
            for form in ("", ", flip test, CUDA graph")
        } <= set(names)
        nv12 = {f"crops of NV12, {yuv}" for yuv in ("BT601", "BT601-FULL", "BT709", "BT709-FULL")}
        assert {"crops of RGB", "crops of BGR"} | nv12 <= set(names)
        assert gpu.problems == []


def break_crop(gpu: FakeGpu) -> None:
    gpu.spoil["crop_f32"] = spoil_corner


def break_full_range_of_bt709(gpu: FakeGpu) -> None:
    """The crop kernel takes the levels of full-range BT.709 for those of video range."""
    floor, scale, *colours = yuv_factors("bt709")

    def misread(values: tuple) -> None:
        frame = np.frombuffer((ctypes.c_uint8 * FRAME.itemsize).from_address(values[0]), FRAME)
        if frame["luma_floor"] == 0 and np.allclose(frame["red_v"], yuv_factors("bt709-full")[2]):
            address, height, width = values[5], *values[7:9]
            crop = np.frombuffer((ctypes.c_float * (3 * height * width)).from_address(address), np.float32)
            crop *= np.float32(scale)

    assert (floor, len(colours)) == (16, 4)
    gpu.spoil["crop_f32"] = misread


def break_decode(gpu: FakeGpu) -> None:
    gpu.spoil["decode_f32"] = move_decoded


def break_graphs(gpu: FakeGpu) -> None:
    gpu.stale_graphs = True


@pytest.mark.parametrize(
    ("break_it", "settings", "fault", "told"),
    [
        (break_crop, {}, "crop kernel", "crops of RGB: .* grey levels at most; wanted 2.1"),
        (break_full_range_of_bt709, {}, "crop kernel", "crops of NV12, BT709-FULL: .* grey levels at most"),
        (break_decode, {}, "decoding kernel", "the CPU's heat maps decoded: .* px at most"),
        (break_graphs, {}, "CUDA graph", "key points of 1, CUDA graph: .* over 1 px"),
        (None, {"scale": 1.25}, "network", "heat maps of 1 crops: differ by 2.5e-01 of their rms"),
        (None, {"nan": True}, "network", "heat maps of 1 crops: differ by nan"),
    ],
    ids=["crop", "yuv", "decode", "graph", "scale", "nan"],
)
def test_a_fault_is_found_and_named(tmp_path, break_it, settings, fault, told):
    with opened(tmp_path, **settings) as (gpu, cpu, plan):
        if break_it is not None:
            break_it(gpu)

        check = check_plan(cpu, plan, PICTURES, repeats=2)

    assert check.fault == fault
    assert re.search(f"^WRONG: {fault}: {told}", check.verdict), check.verdict


def test_a_stale_graph_is_found_with_one_picture_too(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_inputs, "KINDS", plan_inputs.KINDS[:1])  # whose colours move no key point
    with opened(tmp_path) as (gpu, cpu, plan):
        gpu.stale_graphs = True

        check = check_plan(cpu, plan, PICTURES[:1], repeats=1)

    assert check.fault == "CUDA graph"


def test_a_peak_that_a_grey_level_decides_is_no_fault(tmp_path):
    picture = dots_image((8, 40), (28, 40))
    picture[12:16, 28:32, 0] = 254  # a second red square, a level darker and earlier in memory

    def dim(values: tuple) -> None:  # as far as the kernel's own rounding may be off
        height, width = values[7:9]
        for address in filter(None, values[5:7]):
            red = np.frombuffer((ctypes.c_float * (height * width)).from_address(address), np.float32)
            np.minimum(red, np.float32(253.5 / 255), out=red)

    with opened(tmp_path) as (gpu, cpu, plan):
        gpu.spoil["crop_f32"] = dim
        moved = plan.keypoints(picture, crowd_of(BOXES, 1, 1, SPEC).regions)[0, 0]

        check = check_plan(cpu, plan, [(picture, BOXES)], repeats=1)

    assert moved[1] < 20  # the plan finds the darker one
    assert check.fault == ""


def test_results_that_change_from_run_to_run_are_found(tmp_path, monkeypatch):
    with opened(tmp_path) as (_, cpu, plan):
        drift = iter(np.linspace(0, 0.01, 1000))  # heat-map px: too little for a shift to be wrong
        keypoints = plan.keypoints
        monkeypatch.setattr(plan, "keypoints", lambda *args, **named: keypoints(*args, **named) + next(drift))

        check = check_plan(cpu, plan, PICTURES, repeats=3)

    assert check.fault == "repetition"


def test_a_plan_that_computes_fp32_where_int8_was_meant_is_found_with_its_layers(tmp_path):
    def computes(kind: str) -> Computes:
        tensor = {"Dimensions": [1, 2, 4, 4], "Format/Datatype": kind}
        layer = {"Name": "conv1", "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor]}
        layers = parse_layers(json.dumps({"Layers": [{**layer, "Weights": {"Type": kind, "Count": 18}}]}))
        return computes_of(layers, Meant((MeantLayer("conv1", "INT8", 288),)))

    with opened(tmp_path) as (_, cpu, plan):
        for kind, fault in (("Float", "precision"), ("Int8", "")):
            plan.passport = replace(plan.passport, engine=replace(plan.passport.plan, computes=computes(kind)))
            check = check_plan(cpu, plan, PICTURES, repeats=1)
            assert check.fault == fault
            assert ("wider than the ONNX says: conv1" in check.verdict) == bool(fault)


@pytest.mark.parametrize("count", [1, 2, 8, 100])
def test_the_cpu_looks_at_few_people_however_many_the_plan_takes_and_how_many_pictures_come(
    tmp_path, monkeypatch, count
):
    with opened(tmp_path) as (_, cpu, _):
        looked_at, heatmaps = [], cpu.heatmaps
        monkeypatch.setattr(cpu, "heatmaps", lambda crops: looked_at.append(len(crops)) or heatmaps(crops))
        answers = plan_inputs.answers_of(cpu, plan_inputs.usable_pictures(PICTURES[:1] * count), 40)

    kinds = len(plan_inputs.KINDS) - 1
    assert sum(looked_at) <= 2 * (max(plan_inputs.PEOPLE, count) + kinds)
    assert all(len(each.crowd.regions) == 40 for each in answers)
    assert len(answers) == max(count, 2) + kinds


def test_a_crowd_begins_anew_behind_its_last_different_person():
    crowd = plan_inputs.crowd_of(BOXES, 7, 3, SPEC)

    centres = crowd.regions.center_xy - crowd.regions.center_xy[0]
    np.testing.assert_allclose(centres[:, 0], [0, 2, 2.5, 0, 2, 2.5, 0])  # two boxes, and the first one farther right
    np.testing.assert_array_equal(crowd.who, [0, 1, 2, 0, 1, 2, 0])
    assert len(plan_inputs.crowd_of(BOXES, 2, 8, SPEC).some) == 2


@pytest.mark.parametrize("picture", [(PICTURES[0][0], BOXES[:0]), (np.zeros((1, 9, 3), np.uint8), BOXES)])
def test_pictures_without_a_box_or_without_room_are_one_line(tmp_path, picture):
    with opened(tmp_path) as (_, cpu, plan), pytest.raises(InputError, match="no picture shows a usable box"):
        check_plan(cpu, plan, [picture])


def test_a_picture_in_which_no_peak_is_clear_says_what_to_give(tmp_path):
    with opened(tmp_path) as (_, cpu, plan):
        check = check_plan(cpu, plan, [(np.full((64, 48, 3), 90, np.uint8), BOXES)], repeats=1)

    assert check.fault == ""
    assert "no key point was clear: give --images of people" in check.verdict
