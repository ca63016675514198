"""The acceptance run's checks of a frame's way to the GPU, on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.benchmarks.gpu import frame_checks
from tests.fake_device.install import fake_device, write_toy_plan
from tests.makers import dots_image
from tests.nvcc import needs_nvcc

pytestmark = needs_nvcc


@pytest.fixture
def gpu(monkeypatch):
    with fake_device() as gpu:
        picture = dots_image((8, 20), (28, 40)), np.array([[0, 0, 48, 64]], np.float32)
        monkeypatch.setattr(frame_checks, "make_frame", lambda count: picture)
        yield gpu


def test_each_kind_of_memory_is_timed_and_gives_equal_key_points(gpu, tmp_path):
    write_toy_plan(tmp_path / "m.plan")

    finding = frame_checks.check_frame_memory(tmp_path, 1, rounds=2)

    assert finding.ok
    for kind in ("copied", "mapped", "managed"):
        assert f"{kind} upload " in finding.found
    assert gpu.problems == []


def test_a_kind_of_memory_that_gives_others_is_found(gpu, tmp_path, monkeypatch):
    write_toy_plan(tmp_path / "m.plan")
    load = frame_checks.load_backend

    def load_wrong(plan, *, frame_memory):
        backend = load(plan, frame_memory=frame_memory)
        if frame_memory == "mapped":
            right = backend.keypoints
            backend.keypoints = lambda *args: right(*args) + 1  # type: ignore[method-assign]
        return backend

    monkeypatch.setattr(frame_checks, "load_backend", load_wrong)

    assert not frame_checks.check_frame_memory(tmp_path, 1, rounds=1).ok


def test_frames_in_one_run_are_compared_with_each_alone(gpu, tmp_path, monkeypatch):
    write_toy_plan(tmp_path / "m.plan")
    picture = dots_image((8, 20), (28, 40)), np.array([[0, 0, 48, 64]] * 5, np.float32)
    monkeypatch.setattr(frame_checks, "make_frame", lambda count: picture)

    assert frame_checks.check_several_frames(tmp_path, rounds=1).ok
    assert gpu.problems == []


def test_frames_taken_for_each_other_are_found(gpu, tmp_path, monkeypatch):
    write_toy_plan(tmp_path / "m.plan")
    picture = dots_image((8, 20), (28, 40)), np.array([[0, 0, 48, 64]] * 5, np.float32)
    monkeypatch.setattr(frame_checks, "make_frame", lambda count: picture)
    load = frame_checks.load_backend

    def load_wrong(plan):
        backend = load(plan)
        right = backend.keypoints_of
        backend.keypoints_of = lambda images, regions: right(images[::-1], regions)  # type: ignore[method-assign]
        return backend

    monkeypatch.setattr(frame_checks, "load_backend", load_wrong)

    assert not frame_checks.check_several_frames(tmp_path, rounds=1).ok


def test_a_frame_on_the_gpu_is_compared_with_one_of_the_cpu(gpu, tmp_path, monkeypatch):
    write_toy_plan(tmp_path / "m.plan")

    assert frame_checks.check_frame_on_gpu(tmp_path, rounds=1).ok
    assert gpu.live == {}
    assert gpu.problems == []

    monkeypatch.setattr("edgepose.benchmarks.gpu.frame_checks._OnGpu.__init__", wrong_address)
    assert not frame_checks.check_frame_on_gpu(tmp_path, rounds=1).ok


def wrong_address(frame, image, address):
    """Three pixels further, and so less high."""
    interface = {"shape": (len(image) - 1, *image.shape[1:]), "typestr": "|u1", "data": (address + 9, False)}
    frame.__cuda_array_interface__ = {**interface, "strides": None, "stream": None, "version": 3}
