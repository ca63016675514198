"""The GPU's data path on a stand-in device: see tests/fake_device. Nothing here runs on a GPU."""

from __future__ import annotations

import gc
import json
import logging
import sys
import threading
from dataclasses import replace
from types import ModuleType

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgepose import estimate_poses
from edgepose.backends import Pipelined, load_backend
from edgepose.cli import main
from edgepose.cuda.nvcc import kernels_path
from edgepose.errors import BackendError, EngineMismatchError, FrameError, MissingPackageError, ModelFileError
from edgepose.estimate.top_down import estimate_frames
from edgepose.files import sha256_of
from edgepose.io.video import video_file
from edgepose.model.engine_info import KernelsFile
from edgepose.model.heads.heatmaps import Refine
from edgepose.model.passport import passport_path, read_passport, write_passport
from edgepose.model.skeletons import Skeleton
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions
from edgepose.timing import measured
from tests.fake_device.install import DOORS, fake_device, write_toy_plan
from tests.fake_device.trt import ExecutionContext, make_tensorrt
from tests.makers import dots_image, dots_spec, make_spec, write_toy_model
from tests.nvcc import needs_nvcc

pytestmark = needs_nvcc
UNPAIRED = Skeleton("unpaired", ("red", "blue"), flip_pairs=())  # the toy network does not know left from right
SPEC = dots_spec(skeleton=UNPAIRED, flip_shift=0)
PICTURE = dots_image((8, 20), (28, 40))
FOUND = [[8, 20, 1], [28, 40, 1]]  # in PICTURE
WHOLE = np.array([[0, 0, 48, 64]], np.float32)
ONE, NOBODY = Regions.around(WHOLE, SPEC), Regions.around(WHOLE[:0], SPEC)


@pytest.fixture
def gpu():
    with fake_device() as gpu:
        yield gpu
        assert gpu.problems == []


@pytest.fixture
def plan(gpu, tmp_path):
    return write_toy_plan(tmp_path / "m.plan", SPEC)


def regions_of(count: int) -> Regions:
    """Boxes that differ, so that people changed over are seen."""
    boxes = WHOLE.repeat(count, axis=0)
    boxes[:, 2:] += 2 * np.arange(count, dtype=np.float32)[:, None]
    return Regions.around(boxes, SPEC)


# the data path


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize(("max_batch", "count"), [(1, 2), (3, 2), (8, 0), (8, 1), (3, 7)])
def test_key_points_are_those_of_the_cpu(gpu, tmp_path, count, max_batch, flip_test):
    reference = load_backend(write_toy_model(tmp_path / "cpu.onnx", SPEC), backend="onnxruntime")
    regions = regions_of(count)

    with load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=max_batch)) as backend:
        for left in (8, 12, 16):  # launched and recorded, then replayed
            image = dots_image((left, 20), (28, 40))
            found = backend.keypoints(image, regions, flip_test=flip_test)
            np.testing.assert_allclose(found, reference.keypoints(image, regions, flip_test=flip_test), atol=0.01)


@pytest.mark.parametrize("flip_test", [False, True])
def test_an_fp16_engine_gets_and_gives_fp16(gpu, tmp_path, flip_test):
    plan = write_toy_plan(tmp_path / "m.plan", SPEC, crops="HALF", heatmaps="HALF")

    found = load_backend(plan).keypoints(PICTURE, ONE, flip_test=flip_test)

    np.testing.assert_allclose(found, [FOUND], atol=1e-3)
    assert {"crop_f16", "decode_f16"} <= set(gpu.launched)


@pytest.mark.parametrize("batch", [{"batch": 4}, {"min_batch": 4}], ids=["graph", "profile"])
def test_an_engine_of_a_fixed_batch_runs_that_whatever_comes(gpu, tmp_path, batch):
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=4, **batch))

    found = backend.keypoints(PICTURE, regions_of(3), flip_test=True)

    np.testing.assert_allclose(found[0], FOUND, atol=1e-3)
    assert [name for name in gpu.launched if name.startswith("network")] == ["network 4", "network 4"]


def test_other_outputs_of_an_engine_do_no_harm(gpu, tmp_path):
    plan = write_toy_plan(tmp_path / "m.plan", SPEC, more=True)

    np.testing.assert_allclose(load_backend(plan).keypoints(PICTURE, ONE), [FOUND], atol=1e-3)


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize(
    ("frame_memory", "before", "behind"),
    [("copied", ["upload"], []), ("mapped", [], []), ("managed", ["lend"], ["take back"])],
)
def test_a_frame_is_copied_once_or_lies_where_the_gpu_reads_it(plan, integrated, frame_memory, before, behind):
    with fake_device(integrated=integrated) as gpu:
        backend = load_backend(plan, cuda_graphs=False, frame_memory=frame_memory)
        backend.keypoints(PICTURE, ONE)
        gpu.launched.clear()

        found = backend.keypoints(PICTURE, ONE)

        assert gpu.problems == []
    assert gpu.launched == [*before, "upload", "crop_f32", *behind, "network 1", "decode_f32", "download"]
    np.testing.assert_allclose(found, [FOUND], atol=1e-3)


@pytest.mark.parametrize("frame_memory", ["copied", "mapped", "managed"])
def test_a_crowd_in_parts_and_a_larger_frame_come_through_each_kind_of_memory(gpu, tmp_path, frame_memory):
    plan = write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=2)
    backend = load_backend(plan, frame_memory=frame_memory)

    backend.submit(PICTURE, regions_of(5))
    backend.submit(np.pad(PICTURE, ((0, 300), (0, 300), (0, 0))), regions_of(3))

    np.testing.assert_array_equal(backend.result()[:3], backend.result())
    backend.close()
    assert gpu.live == {}


def test_a_frame_memory_that_is_none_is_the_callers_mistake(gpu, plan):
    with pytest.raises(ValueError, match="copied, mapped, managed, got 'pinned'"):
        load_backend(plan, frame_memory="pinned")


def test_bgr_nv12_and_strided_frames_need_no_conversion(gpu, plan):
    backend = load_backend(plan)
    i420 = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2YUV_I420)
    nv12 = np.zeros((96, 64), np.uint8)  # a pitch of 64 bytes
    nv12[:64, :48] = i420[:64]
    nv12[64:, :48:2], nv12[64:, 1:48:2] = (plane.reshape(32, 24) for plane in np.split(i420[64:].ravel(), 2))

    for frame in (
        Frame(PICTURE[..., ::-1], "bgr"),
        Frame(nv12, "nv12", (64, 48)),
        np.repeat(PICTURE, 2, axis=1)[:, ::2],
    ):
        found = backend.keypoints(frame, ONE)
        np.testing.assert_allclose(found[..., :2], np.array([FOUND])[..., :2], atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PICTURE.astype(np.float32), "uint8"),
        (lambda: PICTURE[..., 0], r"\(H, W, 3\)"),
        (lambda: np.zeros((4, 4, 4), np.uint8), r"\(H, W, 3\)"),
        (lambda: PICTURE[:0], "at least one pixel"),
        (lambda: "photo.jpg", "uint8 array"),
        (lambda: Frame(PICTURE, "yuyv"), "rgb, bgr, nv12"),
        (lambda: Frame(PICTURE, "bgr", (9, 9)), "size_hw"),
        (lambda: Frame(np.zeros((95, 48), np.uint8), "nv12"), "NV12"),
        (lambda: Frame(np.zeros((96, 40), np.uint8), "nv12", (64, 48)), "NV12 frame of 64 x 48"),
    ],
)
def test_a_frame_that_is_none_is_the_callers_mistake(gpu, plan, make, message):
    backend = load_backend(plan)

    with pytest.raises(FrameError, match=message) as error:
        backend.keypoints(make(), ONE)

    assert "\n" not in str(error.value)
    np.testing.assert_allclose(backend.keypoints(PICTURE, ONE), [FOUND], atol=1e-3)  # it works on


def test_boxes_that_are_no_numbers_or_far_outside_harm_nobody_else(gpu, plan):
    backend = load_backend(plan)
    boxes = np.array([[np.nan, 0, 48, 64], [5e5, 5e5, 6e5, 6e5], WHOLE[0]], np.float32)

    poses = estimate_poses(backend, PICTURE, boxes)

    assert np.isnan(poses.xy[0]).all()
    assert (poses.scores[:2] == 0).all()
    np.testing.assert_allclose(poses.xy[2], np.array(FOUND)[:, :2], atol=1e-3)


def test_heat_maps_that_are_no_numbers_have_no_score(gpu, tmp_path):
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, nan=True))

    found = backend.keypoints(PICTURE, ONE)

    assert np.isfinite(found).all()
    assert (found[..., 2] == 0).all()


def test_a_second_pass_runs_with_its_own_decoder(gpu, tmp_path):
    spec = SPEC.changed(decoder="argmax", refine=Refine(share=0.5, decoder="dark"))
    reference = load_backend(write_toy_model(tmp_path / "cpu.onnx", spec), backend="onnxruntime")
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", spec))

    found, wanted = (estimate_poses(each, PICTURE, WHOLE) for each in (backend, reference))
    (ahead,) = estimate_frames(backend, [(PICTURE, WHOLE)])

    np.testing.assert_allclose(found.xy, wanted.xy, atol=0.01)
    np.testing.assert_array_equal(ahead.xy, found.xy)


def test_poses_come_from_frames_on_a_cpu_as_well(gpu, plan):
    bgr = Frame(PICTURE[..., ::-1], "bgr")

    for path in (plan, plan.with_suffix(".onnx")):
        found = estimate_poses(load_backend(path), bgr, WHOLE)
        np.testing.assert_allclose(found.xy[0], [[8, 20], [28, 40]], atol=1e-3)


def test_a_decoder_for_other_maps_is_the_callers_mistake(gpu, plan):
    with pytest.raises(ValueError, match="udp-combined"):
        load_backend(plan).keypoints(PICTURE, ONE, decoder="udp-combined")


# several frames


def frames_with_people():
    """Frames of three sizes and formats, one without people, and their regions."""
    bgr = Frame(np.ascontiguousarray(dots_image((12, 24), (30, 44))[..., ::-1]), "bgr")
    wide = np.pad(PICTURE, ((0, 0), (0, 100), (0, 0)))
    regions = [regions_of(2), NOBODY, regions_of(3), regions_of(1)]
    return [PICTURE, np.zeros((9, 9, 3), np.uint8), bgr, wide], regions


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("max_batch", [2, 8])
@pytest.mark.parametrize("frame_memory", ["copied", "managed"])
def test_people_of_several_frames_share_runs_and_keep_their_own(gpu, tmp_path, max_batch, flip_test, frame_memory):
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=max_batch), frame_memory=frame_memory)
    images, regions = frames_with_people()
    alone = [backend.keypoints(*each, flip_test=flip_test) for each in zip(images, regions, strict=True)]
    gpu.launched.clear()

    found = backend.keypoints_of(images, regions, flip_test=flip_test)

    assert [len(each) for each in found] == [2, 0, 3, 1]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert gpu.launched.count("crop_f32") == -(-6 // max_batch)


def test_no_frames_and_frames_without_people_cost_nothing(gpu, plan):
    backend = load_backend(plan)
    gpu.launched.clear()

    assert backend.keypoints_of([], []) == []
    assert [each.shape for each in backend.keypoints_of([PICTURE] * 2, [NOBODY] * 2)] == [(0, 2, 3)] * 2
    assert gpu.launched == []


def test_several_frames_wait_until_those_under_way_are_taken(gpu, plan):
    backend = load_backend(plan)
    backend.submit(PICTURE, ONE)

    with pytest.raises(ValueError, match="under way"):
        backend.keypoints_of([PICTURE], [ONE])

    np.testing.assert_allclose(backend.result(), [FOUND], atol=1e-3)


# CUDA graphs


def test_from_the_second_time_on_the_network_is_a_graph(gpu, plan):
    backend = load_backend(plan)
    backend.keypoints(PICTURE, ONE)
    gpu.launched.clear()

    backend.keypoints(np.zeros((200, 300, 3), np.uint8), ONE)  # of another size: what changes is not in the graph
    found = backend.keypoints(PICTURE, ONE)

    once = ["upload", "upload", "crop_f32", "graph", "network 1", "decode_f32", "download"]
    assert gpu.launched == 2 * once
    np.testing.assert_allclose(found, [FOUND], atol=1e-3)
    assert backend.cuda_graphs


def test_each_number_of_people_and_way_of_reading_has_a_graph_of_its_own(gpu, plan):
    backend = load_backend(plan)
    asked = [(1, {}), (2, {}), (1, {"flip_test": True}), (1, {"decoder": "dark"})]
    first = [backend.keypoints(PICTURE, regions_of(count), **options) for count, options in asked]
    assert len(gpu.graphs) == len(asked)
    gpu.launched.clear()

    again = [backend.keypoints(PICTURE, regions_of(count), **options) for count, options in reversed(asked)]

    assert gpu.launched.count("graph") == len(asked)
    for one, other in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("flip_test", [False, True])
def test_after_a_warm_up_no_count_of_people_waits_for_its_graph(gpu, tmp_path, flip_test):
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=3))
    backend.warm_up(flip_test=flip_test)
    made = set(gpu.graphs)
    gpu.launched.clear()

    for count in (1, 2, 3, 5):
        backend.keypoints(PICTURE, regions_of(count), flip_test=flip_test)

    assert set(gpu.graphs) == made
    assert len(made) == 3
    assert gpu.launched.count("graph") == 5  # five people are two parts


def test_a_warm_up_of_a_large_engine_makes_the_first_counts_and_the_largest(gpu, tmp_path, monkeypatch):
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=9))
    monkeypatch.setattr(sys.modules["edgepose.trt.backend"], "WARMED", 2)

    backend.warm_up()

    assert len(gpu.graphs) == 3
    assert {"network 1", "network 2", "network 9"} <= set(gpu.launched)


def test_a_warm_up_makes_the_second_pass_as_well(gpu, tmp_path):
    spec = SPEC.changed(decoder="argmax", refine=Refine(share=0.5, decoder="dark"))
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", spec, max_batch=2))

    backend.warm_up()

    assert len(gpu.graphs) == 4


def test_graphs_can_be_switched_off_and_on(gpu, plan):
    backend = load_backend(plan, cuda_graphs=False)
    backend.keypoints(PICTURE, ONE)
    assert not gpu.graphs

    backend.cuda_graphs = True
    backend.keypoints(PICTURE, ONE)
    backend.keypoints(PICTURE, ONE)

    assert gpu.launched.count("graph") == 1


@pytest.mark.parametrize("why", ["network", "driver"])
def test_what_cannot_be_recorded_is_launched_and_said_once(gpu, tmp_path, caplog, why):
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, capturable=why != "network"))
    gpu.libcuda.refuse = 801 if why == "driver" else 0

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            np.testing.assert_allclose(backend.keypoints(PICTURE, ONE), [FOUND], atol=1e-3)

    (record,) = caplog.records
    assert "without CUDA graphs" in record.getMessage()
    assert not backend.cuda_graphs
    assert "graph" not in gpu.launched


def test_ctrl_c_while_a_graph_is_recorded_leaves_the_stream_usable(gpu, plan, monkeypatch):
    backend = load_backend(plan)
    run = "tests.fake_device.trt.ExecutionContext.execute_async_v3"
    real = ExecutionContext.execute_async_v3

    def interrupted(self, handle):
        if gpu.streams[handle].recorded is not None:
            raise KeyboardInterrupt
        return real(self, handle)

    monkeypatch.setattr(run, interrupted)
    with pytest.raises(KeyboardInterrupt):
        backend.keypoints(PICTURE, ONE)
    monkeypatch.setattr(run, real)

    np.testing.assert_allclose(backend.keypoints(PICTURE, ONE), [FOUND], atol=1e-3)
    backend.close()
    assert gpu.live == {}


def test_stages_are_measured_and_a_graph_is_not_taken_apart(gpu, plan):
    backend = load_backend(plan)
    with measured() as launched:
        backend.keypoints(PICTURE, ONE)

    with measured() as replayed:
        backend.keypoints(PICTURE, ONE)

    assert list(launched.seconds) == ["upload", "crop", "network", "decode", "download"]
    assert set(replayed.seconds) == {"upload", "crop", "network+decode", "download"}
    assert all(seconds > 0 for seconds in replayed.seconds.values())


# frames under way


def test_two_frames_are_under_way_and_come_back_in_order(gpu, plan):
    backend = load_backend(plan)
    backend.warm_up()  # a graph is not recorded before its first run has ended
    gpu.launched.clear()
    image = PICTURE.copy()
    backend.submit(image, ONE)
    image[:] = 0  # the frame was taken
    backend.submit(dots_image((12, 20), (28, 40)), regions_of(2))
    assert gpu.launched == []  # nobody has waited so far

    first, second = backend.result(), backend.result()

    np.testing.assert_allclose(first, [FOUND], atol=1e-3)
    np.testing.assert_allclose(second[0], [[12, 20, 1], [28, 40, 1]], atol=1e-3)
    assert second.shape == (2, 2, 3)


def test_a_larger_frame_and_a_crowd_leave_the_frame_under_way_alone(gpu, tmp_path):
    backend = load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=2))
    for _ in range(2):
        backend.submit(PICTURE, ONE)
    backend.result()

    backend.submit(np.pad(PICTURE, ((0, 300), (0, 300), (0, 0))), regions_of(3))

    np.testing.assert_allclose(backend.result(), [FOUND], atol=1e-3)
    crowd = backend.result()
    np.testing.assert_allclose(crowd, backend.keypoints(PICTURE, regions_of(3)), atol=1e-3)


def test_wrong_turns_are_the_callers_mistake(gpu, plan):
    backend = load_backend(plan)
    with pytest.raises(ValueError, match="no frame is under way"):
        backend.result()
    backend.submit(PICTURE, ONE)
    with pytest.raises(ValueError, match="under way"):
        backend.keypoints(PICTURE, ONE)
    backend.submit(PICTURE, NOBODY)

    with pytest.raises(ValueError, match="2 frames are under way"):
        backend.submit(PICTURE, ONE)

    np.testing.assert_allclose(backend.result(), [FOUND], atol=1e-3)
    assert backend.result().shape == (0, 2, 3)


def test_a_video_is_read_one_frame_ahead(gpu, plan):
    backend = load_backend(plan)
    assert isinstance(backend, Pipelined)
    read = []

    def frames():
        for left in (8, 12, 16):
            read.append(left)
            yield dots_image((left, 20), (28, 40)), WHOLE

    found = [(len(read), poses.xy[0, 0, 0]) for poses in estimate_frames(backend, frames())]

    np.testing.assert_allclose(found, [(2, 8), (3, 12), (3, 16)], atol=1e-3)


def test_a_video_left_early_leaves_nothing_under_way(gpu, plan):
    backend = load_backend(plan)
    poses = estimate_frames(backend, [(PICTURE, WHOLE)] * 4)
    next(poses)

    poses.close()

    np.testing.assert_allclose(backend.keypoints(PICTURE, ONE), [FOUND], atol=1e-3)


def test_infer_on_a_video_says_what_was_measured(gpu, plan, tmp_path):
    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        for index in range(3):
            writer.write(dots_image((8 + 4 * index, 20), (28, 40)))
    arguments = [
        "infer",
        "--engine",
        plan,
        "--input",
        tmp_path / "clip.mp4",
        "--boxes",
        "whole",
        "--out",
        tmp_path / "out",
    ]

    results = [CliRunner().invoke(main, [*map(str, arguments), *more]) for more in ([], ["--no-cuda-graphs"])]

    assert [result.exit_code for result in results] == [0, 0]
    people = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    np.testing.assert_allclose([person["keypoints"][0] for person in people], [8, 12, 16], atol=1)  # a lossy video
    assert [person["frame"] for person in people] == [0, 1, 2]
    assert all(stage in results[0].stdout for stage in ("upload", "crop", "network+decode", "download", "draw"))
    assert "network+decode" not in results[1].stdout
    assert gpu.live == {}


# memory, threads, contexts


def test_nobody_costs_nothing(gpu, plan):
    backend = load_backend(plan)
    gpu.launched.clear()
    before = set(gpu.live)

    assert backend.keypoints(PICTURE, NOBODY).shape == (0, 2, 3)
    assert backend.heatmaps(np.zeros((0, 3, 64, 48), np.float32)).shape == (0, 2, 16, 12)

    assert gpu.launched == []
    assert set(gpu.live) == before


def test_memory_does_not_grow_with_frames(gpu, plan):
    backend = load_backend(plan)
    for _ in range(3):
        backend.keypoints(PICTURE, ONE)
    before = set(gpu.live), set(gpu.graphs)

    for _ in range(5):
        backend.keypoints(PICTURE, ONE)

    assert (set(gpu.live), set(gpu.graphs)) == before


@pytest.mark.parametrize("end", ["close", "with", "forget"])
def test_everything_is_given_back(gpu, plan, end):
    backend = load_backend(plan)
    backend.keypoints(PICTURE, ONE)
    backend.submit(PICTURE, ONE)  # never taken

    if end == "close":
        backend.close()
        backend.close()
        with pytest.raises(ValueError, match="closed"):
            backend.keypoints(PICTURE, ONE)
    elif end == "with":
        with backend:
            pass
    del backend
    gc.collect()

    assert gpu.live == {}
    assert gpu.graphs == {}


def test_four_threads_have_their_own_instances(gpu, plan):
    found: dict[int, np.ndarray] = {}

    def work(left: int) -> None:
        with load_backend(plan) as backend:
            runs = [backend.keypoints(dots_image((left, 20), (28, 40)), ONE) for _ in range(3)]
        found[left] = runs[-1]

    threads = [threading.Thread(target=work, args=(left,)) for left in (4, 8, 12, 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {left: round(float(keypoints[0, 0, 0])) for left, keypoints in found.items()} == {n: n for n in found}
    assert len(found) == 4
    assert gpu.live == {}
    assert gpu.driver.Device.retained == 1  # one primary context for all


def test_an_instance_may_go_to_another_thread(gpu, plan):
    backend = load_backend(plan)
    found = []

    thread = threading.Thread(target=lambda: found.append(backend.keypoints(PICTURE, ONE)) or backend.close())
    thread.start()
    thread.join()

    np.testing.assert_allclose(found, [[FOUND]], atol=1e-3)
    assert gpu.live == {}


def test_the_callers_own_context_is_current_again_after_each_call(gpu, plan):
    own = object()
    gpu.stack().append(own)

    backend = load_backend(plan)
    assert gpu.stack() == [own]
    backend.keypoints(PICTURE, ONE)
    with pytest.raises(ValueError, match="uint8"):
        backend.keypoints(PICTURE * 1.0, ONE)
    backend.close()

    assert gpu.stack() == [own]


# failures


def test_a_lost_device_is_one_line_and_the_instances_last_call(gpu, plan):
    backend = load_backend(plan)
    backend.keypoints(PICTURE, ONE)
    backend.submit(PICTURE, ONE)
    gpu.lost = "unspecified launch failure"

    with pytest.raises(BackendError, match=r"unspecified launch failure.*open the model again") as error:
        backend.result()
    with pytest.raises(BackendError, match="failed before"):
        backend.keypoints(PICTURE, ONE)
    with pytest.raises(BackendError, match=r"the GPU failed on .*unspecified launch failure"):
        load_backend(plan)
    backend.close()
    backend.close()
    del backend
    gc.collect()

    assert "\n" not in str(error.value)
    assert gpu.problems == []  # nothing is freed there: pycuda would complain about each of its things


@pytest.mark.parametrize("left", [100, 30_000])  # for the engine, for the buffers
def test_too_little_memory_at_load_is_one_line_and_leaves_nothing(gpu, plan, left):
    gpu.memory_left = left

    with pytest.raises(BackendError, match="memory does not hold") as error:
        load_backend(plan)

    assert "\n" not in str(error.value)
    assert gpu.live == {}


@pytest.mark.parametrize(("max_batch", "cure"), [(8, "fewer people at a time: .* --max-batch 4$"), (1, "programs$")])
def test_too_little_memory_is_cured_by_a_smaller_batch_if_there_is_one(gpu, tmp_path, max_batch, cure):
    plan = write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=max_batch)
    gpu.memory_left = 30_000

    with pytest.raises(BackendError, match=cure):
        load_backend(plan)


@pytest.mark.parametrize("integrated", [False, True])
def test_a_frame_that_memory_does_not_hold_costs_that_frame_only(plan, integrated):
    with fake_device(integrated=integrated) as gpu:
        backend = load_backend(plan)
        backend.keypoints(PICTURE, ONE)
        gpu.memory_left = 50_000

        for _ in range(2):
            with pytest.raises(BackendError, match="memory does not hold"):
                backend.keypoints(np.zeros((2000, 2000, 3), np.uint8), ONE)

        np.testing.assert_allclose(backend.keypoints(PICTURE, ONE), [FOUND], atol=1e-3)
        assert gpu.problems == []


def test_tensorrt_refusing_a_run_is_one_line(gpu, plan, monkeypatch):
    backend = load_backend(plan)
    refuse = "tests.fake_device.trt.ExecutionContext.execute_async_v3"
    monkeypatch.setattr(refuse, lambda self, stream: self._refuse("Cask convolution execution"))

    with pytest.raises(BackendError, match=r"TensorRT failed on .*m.plan with 1 crops: Cask convolution execution"):
        backend.keypoints(PICTURE, ONE)


BUILD = r"edgepose build m.onnx -o \S*m.plan --max-batch 8"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"tensorrt": "10.7.0"}, rf"built with tensorrt 10.7.0, this is tensorrt 10.3.0: .*{BUILD}$"),
        ({"tensorrt": "11.0.0", "version_compatible": True}, rf"11.0.0, this is .*{BUILD} --version-compatible$"),
        ({"tensorrt": "10.7.0", "version_compatible": True}, "10.7.0, this is"),  # built with a later one
        ({"targets": ["sm_86"]}, rf"Fake Orin \(sm_86\), this is Fake Orin \(sm_87\): .*{BUILD}$"),
        ({"gpu": "Orin NX", "dla": 1}, rf"Orin NX \(sm_87\), this is Fake Orin \(sm_87\): .*{BUILD} --dla 1$"),
        ({"kernels": None}, "--no-kernels"),
    ],
)
def test_a_plan_of_another_device_says_what_it_is_and_what_to_run(gpu, tmp_path, engine, message):
    plan = write_toy_plan(tmp_path / "m.plan", SPEC, engine=engine)

    with pytest.raises(EngineMismatchError, match=message) as error:
        load_backend(plan)

    assert "\n" not in str(error.value)
    assert gpu.live == {}


def test_a_plan_without_its_passport_says_so(gpu, plan):
    passport_path(plan).write_text("{")
    with pytest.raises(EngineMismatchError, match=r"not a readable passport.*edgepose build MODEL.onnx -o .*m.plan"):
        load_backend(plan)
    passport_path(plan).unlink()
    with pytest.raises(EngineMismatchError, match=r"has no passport .*edgepose build MODEL.onnx -o .*m.plan"):
        load_backend(plan)
    plan.unlink()
    with pytest.raises(ModelFileError, match="no such file"):
        load_backend(plan)


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_a_truncated_or_foreign_plan_is_one_line_even_if_its_passport_fits(gpu, plan, damage):
    passport, data = read_passport(plan), plan.read_bytes()
    plan.write_bytes({"truncated": data[:20], "empty": b"", "foreign": b"no plan" * 99}[damage])
    with pytest.raises(EngineMismatchError, match="it is empty" if damage == "empty" else "another file"):
        load_backend(plan)
    write_passport(plan, replace(passport, sha256=sha256_of(plan)))

    with pytest.raises(ModelFileError, match=rf"cannot read .*{BUILD}") as error:
        load_backend(plan)

    assert "\n" not in str(error.value)
    assert gpu.live == {}


def test_a_passport_of_an_onnx_is_no_engines(gpu, plan):
    write_passport(plan, replace(read_passport(plan), engine=None))

    with pytest.raises(EngineMismatchError, match="of an ONNX"):
        load_backend(plan)


@pytest.mark.parametrize("code", [b"\0" * 99, b"\xff" * 99])
def test_kernels_of_another_gpu_are_one_line(gpu, plan, code):
    kernels_path(plan).write_bytes(code)
    with pytest.raises(EngineMismatchError, match="is not what was compiled with"):
        load_backend(plan)
    passport = read_passport(plan)
    kernels = KernelsFile("", sha256_of(kernels_path(plan)))
    write_passport(plan, replace(passport, engine=replace(passport.plan, kernels=kernels)))

    with pytest.raises(BackendError, match=r"device kernel image is invalid; open") as error:
        load_backend(plan)

    assert "\n" not in str(error.value)
    assert gpu.live == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": make_spec(input_hw=(96, 64))}, "3, 64, 48, its passport says N, 3, 96, 64"),
        ({"crops": "INT32"}, "crops are INT32, FP32 or FP16 wanted"),
    ],
)
def test_an_engine_of_other_tensors_is_refused(gpu, tmp_path, changes, message):
    spec = changes.pop("spec", SPEC)
    plan = write_toy_plan(tmp_path / "m.plan", SPEC, **changes)
    write_passport(plan, replace(read_passport(plan), spec=spec))

    with pytest.raises(ModelFileError, match=message):
        load_backend(plan)

    assert gpu.live == {}


def test_a_version_compatible_plan_runs_in_a_later_tensorrt_and_in_the_small_ones(gpu, tmp_path, monkeypatch):
    plan = write_toy_plan(tmp_path / "m.plan", SPEC, engine={"version_compatible": True})
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(gpu, version="10.13.2.6"))
    np.testing.assert_allclose(load_backend(plan).keypoints(PICTURE, ONE), [FOUND], atol=1e-3)

    for name in ("tensorrt_lean", "tensorrt_dispatch"):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        monkeypatch.setitem(sys.modules, name, make_tensorrt(gpu, name, "10.7.0"))
        np.testing.assert_allclose(load_backend(plan).keypoints(PICTURE, ONE), [FOUND], atol=1e-3)
        monkeypatch.setitem(sys.modules, name, None)


def test_an_engine_of_tensorrt_for_rtx_runs_there_on_every_gpu_of_its_architecture(gpu, tmp_path, monkeypatch):
    engine = {"runtime": "tensorrt_rtx", "tensorrt": "1.7.1.116", "gpu": "another sm_87"}
    plan = write_toy_plan(tmp_path / "m.plan", SPEC, engine=engine)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BackendError, match="pip install tensorrt-rtx-cu13"):
        load_backend(plan)

    monkeypatch.setitem(sys.modules, "tensorrt_rtx", make_tensorrt(gpu, "tensorrt_rtx", "1.7.1.116"))

    np.testing.assert_allclose(load_backend(plan).keypoints(PICTURE, ONE), [FOUND], atol=1e-3)


def rtx_plan(gpu, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", make_tensorrt(gpu, "tensorrt_rtx", "1.7.1.116"))
    engine = {"runtime": "tensorrt_rtx", "tensorrt": "1.7.1.116"}
    return write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=2, engine=engine)


@pytest.mark.parametrize("before", [None, b"", b"of another GPU"])
def test_what_tensorrt_for_rtx_compiled_is_kept_for_the_next_time(gpu, tmp_path, monkeypatch, before):
    plan = rtx_plan(gpu, tmp_path, monkeypatch)
    cache = tmp_path / "m.plan.cache"
    if before is not None:
        cache.write_bytes(before)
    with load_backend(plan) as backend:
        backend.warm_up()
        assert gpu.launched.count("compile") == 2
        written = cache.read_bytes()
    gpu.launched.clear()

    with load_backend(plan) as backend:
        backend.keypoints(PICTURE, ONE)

    assert "compile" not in gpu.launched
    assert cache.read_bytes() == written


def test_a_cache_that_cannot_be_written_costs_nothing(gpu, tmp_path, monkeypatch):
    plan = rtx_plan(gpu, tmp_path, monkeypatch)
    (tmp_path / "m.plan.cache").mkdir()

    with load_backend(plan) as backend:
        backend.warm_up()
        np.testing.assert_allclose(backend.keypoints(PICTURE, ONE), [FOUND], atol=1e-3)


def test_without_tensorrt_the_cure_is_told(gpu, plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    with pytest.raises(BackendError, match=r"tensorrt 10.3.0, which is not installed.*python3-libnvinfer"):
        load_backend(plan)


def test_a_tensorrt_that_does_not_load_is_not_called_absent(gpu, plan, monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(
        BackendError, match=r"tensorrt is installed but does not load \(ImportError: libnvinfer.*doctor"
    ):
        load_backend(plan)


def test_no_gpu_and_an_old_driver_are_one_line(gpu, plan):
    gpu.pycuda_cuda = (13, 0, 0)
    with pytest.raises(BackendError, match=r"compiled for CUDA 13.0, the driver knows CUDA up to 12.6"):
        load_backend(plan)
    gpu.gpu = None
    with pytest.raises(BackendError, match=r"m.plan runs on .*no NVIDIA GPU or driver.*run the ONNX"):
        load_backend(plan)


def test_pycuda_never_destroys_the_primary_context(gpu, plan):
    load_backend(plan).close()

    sys.modules["edgepose.cuda.memory"]._open_device.cache_clear()  # as the interpreter's end does
    gc.collect()

    assert gpu.problems == []


def test_without_pycuda_the_extra_is_named(gpu, plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, "pycuda.driver")

    with pytest.raises(MissingPackageError, match=r"pycuda is not installed.*edgepose\[jetson\]"):
        load_backend(plan)


def test_a_pycuda_of_another_driver_is_one_line(gpu, plan, monkeypatch):
    for name in DOORS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    broken = ModuleType("pycuda")
    broken.__path__ = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", broken)

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "pycuda.driver":
                raise ImportError("libcuda.so.1: cannot open shared object file\nNo such file or directory")

    monkeypatch.delitem(sys.modules, "pycuda.driver")
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])

    with pytest.raises(BackendError, match=r"pycuda cannot be loaded \(libcuda.so.1: cannot open") as error:
        load_backend(plan)

    assert "\n" not in str(error.value)
