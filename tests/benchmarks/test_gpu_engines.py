"""The acceptance run's checks of engines, on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgepose.benchmarks.gpu import engine_checks, load_checks, models, verify_checks
from edgepose.benchmarks.gpu.engine_checks import (
    check_agreement,
    compare_backends,
    latency_checks,
    plan_path,
)
from edgepose.benchmarks.gpu.load_checks import built_plan, check_endurance, check_threads
from edgepose.benchmarks.gpu.models import BOXES, FRAME, find_models, read_frame
from edgepose.benchmarks.gpu.rows import SKIPPED, SkippedError, run_check
from edgepose.errors import BuildError
from edgepose.evaluation.agreement import clear_peaks
from edgepose.files import sha256_of
from edgepose.machine.gpu import Gpu
from edgepose.model.passport import Passport, write_passport
from tests.fake_device.install import fake_device, write_toy_plan
from tests.makers import dots_image, dots_spec, make_spec, write_toy_model
from tests.nvcc import needs_nvcc

IMAGE = dots_image((8, 20), (28, 40))
BOX = np.array([[0, 0, 48, 64]], np.float32)


@pytest.fixture
def gpu():
    with fake_device() as gpu:
        gpu.libcuda.cuMemGetInfo_v2 = lambda free, total: 0  # nothing of nothing is used
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(load_checks, "MAX_BATCH", 2)
            yield gpu


@needs_nvcc
def test_an_engine_that_computes_the_same_passes_and_another_does_not(gpu, tmp_path):
    plan = write_toy_plan(tmp_path / "m.plan")
    other = write_toy_model(tmp_path / "other.onnx", dots_spec(color_order="bgr"))

    finding = check_agreement(tmp_path / "m.onnx", plan, IMAGE, BOX)

    assert finding.ok
    assert "2 of 2 key points are clear peaks, the farthest moved 0.000" in finding.found
    assert not check_agreement(other, plan, IMAGE, BOX).ok
    assert gpu.problems == []


def fake_backend(heatmaps, xy, precision="fp16"):
    passport = Passport(make_spec(), precision, "0" * 64, "toy")
    keypoints = np.concatenate([np.asarray(xy, np.float32), np.ones((1, 2, 1), np.float32)], axis=2)
    return SimpleNamespace(
        passport=passport, spec=passport.spec, heatmaps=lambda crops: heatmaps, keypoints=lambda *_: keypoints
    )


def test_heat_maps_and_clear_key_points_are_both_looked_at():
    maps = np.zeros((1, 2, 16, 12), np.float32)
    maps[:, :, 5, 6] = 1
    cpu, xy = fake_backend(maps, [[[10, 10], [20, 20]]]), [[[10, 10], [20, 20]]]

    assert compare_backends(cpu, fake_backend(maps, xy), IMAGE, BOX).ok
    assert not compare_backends(cpu, fake_backend(maps * 1.1, xy), IMAGE, BOX).ok
    assert not compare_backends(cpu, fake_backend(maps, [[[10, 10], [27, 20]]]), IMAGE, BOX).ok
    assert not compare_backends(cpu, fake_backend(maps * np.nan, xy), IMAGE, BOX).ok


def test_heat_maps_may_differ_as_far_as_rounding_alone_moves_the_cpus(monkeypatch):
    maps = np.zeros((1, 2, 16, 12), np.float32)
    maps[:, :, 5, 6] = 1
    xy, runs = [[[10, 10], [20, 20]]], iter([maps, maps * 1.05])
    sensitive = fake_backend(maps, xy)
    sensitive.heatmaps = lambda crops: next(runs)

    finding = compare_backends(sensitive, fake_backend(maps * 1.1, xy), IMAGE, BOX)

    assert finding.ok
    assert finding.wanted.startswith("0.15,")


def test_a_peak_is_clear_of_its_neighbourhood_only():
    maps = np.zeros((1, 3, 16, 12), np.float32)
    maps[:, :, 5, 6] = 1
    maps[0, 1, 6, 8] = 0.99  # near
    maps[0, 2, 5, 9] = 0.99

    assert clear_peaks(maps, 0.1).tolist() == [[True, True, False]]
    assert clear_peaks(maps, 1.5).any() == np.False_


@needs_nvcc
def test_threads_with_instances_of_their_own_agree(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(load_checks, "FRAMES_EACH", 2)
    write_toy_plan(tmp_path / "m.plan")

    finding = check_threads(tmp_path)

    assert finding.ok
    assert "0 of 8 frames differ" in finding.found


@needs_nvcc
def test_a_thread_that_fails_fails_the_check(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(load_checks, "FRAMES_EACH", 2)
    write_toy_plan(tmp_path / "m.plan")
    load, calls = load_checks.load_backend, []

    def load_once(plan):
        calls.append(plan)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return load(plan)

    monkeypatch.setattr(load_checks, "load_backend", load_once)

    with pytest.raises(RuntimeError, match="out of memory"):
        check_threads(tmp_path)


@needs_nvcc
def test_memory_that_grows_over_the_frames_is_found(gpu, tmp_path, monkeypatch):
    write_toy_plan(tmp_path / "m.plan")
    used = iter([(100 << 20, 0), (101 << 20, 0), (100 << 20, 0), (130 << 20, 0), (100 << 20, 0), (100 << 20, 9 << 20)])
    monkeypatch.setattr(load_checks, "memory_in_use", lambda: next(used))

    assert check_endurance(tmp_path, 60, frames=10).ok
    assert not check_endurance(tmp_path, 60, frames=10).ok  # the host's
    assert not check_endurance(tmp_path, 60, frames=10).ok  # the GPU's


@needs_nvcc
def test_frames_that_time_did_not_suffice_for_are_no_success(gpu, tmp_path):
    write_toy_plan(tmp_path / "m.plan")

    with pytest.raises(TimeoutError, match=r"only 1 of 20 frames .* --patience"):
        check_endurance(tmp_path, 0, frames=20)


@needs_nvcc
def test_memory_of_the_process_and_of_the_gpu_is_read(gpu):
    def info(free, total):
        free._obj.value, total._obj.value = 30, 100
        return 0

    gpu.libcuda.cuMemGetInfo_v2 = info

    host, device = load_checks.memory_in_use()

    assert host > 1 << 20
    assert device == 70


@needs_nvcc
def test_an_integrated_gpus_memory_is_the_hosts():
    with fake_device(integrated=True):
        host, device = load_checks.memory_in_use()

    assert host > 1 << 20
    assert device == 0


@needs_nvcc
def test_latency_is_told_stage_by_stage_with_and_without_a_graph(gpu, tmp_path, monkeypatch):
    plan = write_toy_plan(tmp_path / "m.plan")

    rows = [run_check("fp32", name, check) for name, check in latency_checks(plan, 2, 0.01)]

    assert [row.result for row in rows] == ["ok", "ok"]
    assert "network+decode" in rows[0].found
    for stage in ("upload", "crop", "network", "decode", "download", "host"):
        assert f"{stage} " in rows[1].found
    assert rows[1].check == "m.plan, 2 people, without CUDA graph"


@needs_nvcc
def test_a_network_that_no_graph_can_hold_is_skipped_by_name(gpu, tmp_path):
    plan = write_toy_plan(tmp_path / "m.plan", capturable=False)

    with_graph, without = [run_check("fp32", name, check) for name, check in latency_checks(plan, 1, 0.01)]

    assert (with_graph.result, without.result) == (SKIPPED, "ok")
    assert "cannot be recorded" in with_graph.found


def test_a_gpu_that_tensorrt_for_rtx_does_not_know_is_skipped_by_name(monkeypatch):
    rtx = SimpleNamespace(__name__="tensorrt_rtx", __version__="1.7", ComputeCapability=SimpleNamespace(SM80=0, SM86=1))
    monkeypatch.setattr(engine_checks, "load_builder", lambda: rtx)
    monkeypatch.setattr(engine_checks, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(engine_checks, "find_gpu", lambda: Gpu("NVIDIA A100", (8, 0), 108, False, (13, 0)))

    engine_checks.require_builder()
    monkeypatch.setattr(engine_checks, "find_gpu", lambda: Gpu("NVIDIA H100", (9, 0), 132, False, (13, 0)))

    with pytest.raises(SkippedError, match=r"builds for SM80, SM86; this is NVIDIA H100 \(sm_90\)"):
        engine_checks.require_builder()


def test_a_machine_without_nvcc_is_skipped_by_name(monkeypatch):
    def no_nvcc():
        raise BuildError("nvcc was not found")

    monkeypatch.setattr(engine_checks, "load_builder", lambda: SimpleNamespace(__name__="tensorrt"))
    monkeypatch.setattr(engine_checks, "find_nvcc", no_nvcc)

    with pytest.raises(SkippedError, match="nvcc was not found"):
        engine_checks.require_builder()


def test_what_has_no_engine_is_skipped_by_name(tmp_path):
    write_toy_model(tmp_path / "m.onnx")
    (tmp_path / "work").mkdir()

    rows = [
        run_check("fp32", name, check)
        for name, check in engine_checks.engine_checks(tmp_path, tmp_path / "work", "fp32", 0.1)
    ]
    missing = [
        run_check("int8", name, check)
        for name, check in engine_checks.engine_checks(tmp_path, tmp_path / "work", "int8", 0.1)
    ]

    assert rows[0].check == "build m.onnx"
    assert {row.result for row in rows[1:]} == {SKIPPED}
    assert [(row.check, row.result) for row in missing] == [("INT8 engines", SKIPPED)]
    with pytest.raises(SkippedError, match="no engine was built"):
        built_plan(tmp_path / "work")


def test_the_plan_of_the_most_used_precision_is_run_long(tmp_path):
    for name, size in (("a.fp16.plan", 5), ("b.fp16.plan", 9), ("b.plan", 20), ("b.int8.plan", 4)):
        (tmp_path / name).write_bytes(bytes(size))

    assert built_plan(tmp_path).name == "b.fp16.plan"


def test_models_of_a_precision_come_smallest_first(tmp_path):
    write_toy_model(tmp_path / "half.onnx", precision="fp16")
    small, large = (write_toy_model(tmp_path / name) for name in ("z.onnx", "a.onnx"))
    data = large.read_bytes()
    large.write_bytes(data)

    assert find_models(tmp_path, "fp16") == [tmp_path / "half.onnx"]
    assert set(find_models(tmp_path, "fp32")) == {small, large}
    assert plan_path(tmp_path / "work", small) == tmp_path / "work" / "z.plan"


def test_the_frame_is_the_folders_or_a_drawn_one(tmp_path):
    image, boxes = read_frame(tmp_path)
    assert image.shape == (1080, 1920, 3)
    assert len(boxes) > 1
    np.save(tmp_path / FRAME, IMAGE)
    np.save(tmp_path / BOXES, BOX)

    image, boxes = read_frame(tmp_path)

    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(boxes, BOX)


@needs_nvcc
def test_a_verified_plan_is_a_row_and_a_wrong_one_and_one_that_was_not_built_are(gpu, tmp_path):
    pytest.importorskip("openvino")
    plan = write_toy_plan(tmp_path / "m.plan", max_batch=1)
    wrong = write_toy_plan(tmp_path / "w.plan", max_batch=1, scale=1.25)
    np.save(tmp_path / FRAME, IMAGE)
    np.save(tmp_path / BOXES, BOX)

    right = verify_checks.check_verdict(tmp_path / "m.onnx", plan, tmp_path, repeats=2)

    assert right.ok, right.found
    assert not verify_checks.check_verdict(tmp_path / "w.onnx", wrong, tmp_path, repeats=1).ok
    names = [name for name, _ in verify_checks.verify_checks(tmp_path, tmp_path)]
    assert sorted(names) == ["precision of m.plan", "precision of w.plan", "verify m.plan", "verify w.plan"]
    with pytest.raises(SkippedError, match="told no layers"):
        verify_checks.check_precision(plan)
    with pytest.raises(SkippedError, match="was not built"):
        verify_checks.check_precision(tmp_path / "none.plan")


def test_a_bundle_keeps_int8_of_a_large_network(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "LARGE_MIB", 0)
    for name, precision in (("m.onnx", "fp32"), ("m.fp16.onnx", "fp16"), ("m.int8.onnx", "int8")):
        onnx = write_toy_model(tmp_path / name, dots_spec())
        write_passport(onnx, Passport(dots_spec(), precision, sha256_of(onnx), "toy"))

    models.leave_out_large(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.int8.onnx", "m.int8.onnx.json"]
