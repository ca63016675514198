"""Plans of SimCC's vectors: from frames to key points on the stand-in device, as heat maps go."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.backends import load_backend
from edgepose.errors import BackendError
from edgepose.model.heads.simcc import SimCC
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import Input, ModelSpec, Region
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions
from edgepose.stages.one_person import decode_flipped_outputs, decode_outputs
from tests.fake_device.install import fake_device, write_plan_of
from tests.makers import smooth_image
from tests.nvcc import needs_nvcc
from tests.trt.test_every_kind import write_network_of

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = needs_nvcc

HANDS = Skeleton("hands", ("left", "right", "neck"), flip_pairs=((0, 1),))
SPEC = ModelSpec("simcc", Input((32, 24)), SimCC(), HANDS, Region())
BOXES = np.array(
    [[10, 20, 70, 110], [40, 5, 130, 100], [0, 0, 160, 120], [5, 5, 60, 90], [30, 30, 90, 118]], np.float32
)
REGIONS = Regions.around(BOXES, SPEC)


@pytest.fixture
def gpu():
    with fake_device() as gpu:
        yield gpu
        assert gpu.problems == []
        assert gpu.live == {}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_network_of(tmp_path / "m.onnx", SPEC)


def wanted_of(backend, image, regions: Regions, flip_test: bool) -> np.ndarray:
    """What numpy reads from what the network gives for the very crops that the GPU cuts."""
    most, found = backend.passport.plan.max_batch, []
    for start in range(0, len(regions), most):
        some = regions.rows(slice(start, start + most))
        crops = backend.crops(image, some)
        outputs = backend.run(crops)
        if flip_test:
            places, grid_hw = decode_flipped_outputs(outputs, backend.run(crops[..., ::-1].copy()), SPEC)
        else:
            places, grid_hw = decode_outputs(outputs, SPEC)
        places[..., :2] = some.to_image(places[..., :2], grid_hw)
        found.append(places)
    return np.concatenate(found)


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize(("max_batch", "count"), [(1, 2), (3, 2), (8, 1), (8, 5), (3, 5)])
def test_key_points_are_what_numpy_reads_from_the_same_crops(gpu, tmp_path, model, max_batch, count, flip_test):
    regions = REGIONS.rows(slice(0, count))
    with load_backend(write_plan_of(model, tmp_path / "m.plan", SPEC, max_batch=max_batch)) as backend:
        for seed in range(3):  # launched and recorded, then replayed
            image = smooth_image(seed=seed)
            gpu.launched.clear()
            found = backend.keypoints(image, regions, flip_test=flip_test)
            launched = list(gpu.launched)
            # factors of an FP32 table, applied in one multiply-add: a few units in the last place of 160 px
            np.testing.assert_allclose(found, wanted_of(backend, image, regions, flip_test), rtol=1e-6, atol=1e-4)
        assert "crop_f32" in launched
        assert launched.count("download") == -(-count // max_batch)  # key points alone come down


def test_from_the_second_time_on_it_is_a_graph(gpu, tmp_path, model):
    with load_backend(write_plan_of(model, tmp_path / "m.plan", SPEC)) as backend:
        first = backend.keypoints(smooth_image(), REGIONS)
        assert "simcc_f32" in gpu.launched
        gpu.launched.clear()

        second = backend.keypoints(smooth_image(), REGIONS)

        assert backend.cuda_graphs
        assert "graph" in gpu.launched
        np.testing.assert_array_equal(first, second)


def test_crops_are_those_of_the_cpu_whatever_the_frames_format(gpu, tmp_path, model):
    image = smooth_image()
    luma_u_v = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    height, width = image.shape[:2]
    chroma = luma_u_v[height * width :].reshape(2, -1).T.reshape(-1)
    nv12 = Frame(np.concatenate([luma_u_v[: height * width], chroma]).reshape(-1, width), "nv12")
    with load_backend(write_plan_of(model, tmp_path / "m.plan", SPEC)) as backend:
        for frame in (image, Frame(np.ascontiguousarray(image[..., ::-1]), "bgr"), nv12):
            found = backend.keypoints(frame, REGIONS)
            np.testing.assert_allclose(found, wanted_of(backend, frame, REGIONS, False), rtol=1e-6, atol=1e-4)


def test_fp16_goes_in_and_comes_out(gpu, tmp_path, model):
    types = dict.fromkeys(("crops", *SPEC.outputs), "HALF")
    with load_backend(write_plan_of(model, tmp_path / "m.plan", SPEC, **types)) as backend:
        found = backend.keypoints(smooth_image(), REGIONS)

        assert {"crop_f16", "simcc_f16"} <= set(gpu.launched)
        np.testing.assert_allclose(found, wanted_of(backend, smooth_image(), REGIONS, False), rtol=1e-6, atol=1e-4)


def test_people_of_several_frames_share_runs(gpu, tmp_path, model):
    images = [smooth_image(seed=seed) for seed in range(2)]
    parts = [REGIONS.rows(slice(0, 2)), REGIONS.rows(slice(2, 5))]
    with load_backend(write_plan_of(model, tmp_path / "m.plan", SPEC)) as backend:
        found = backend.keypoints_of(images, parts)

        for keypoints, image, regions in zip(found, images, parts, strict=True):
            np.testing.assert_allclose(keypoints, backend.keypoints(image, regions), rtol=1e-6, atol=1e-4)


def test_nobody_costs_nothing(gpu, tmp_path, model):
    with load_backend(write_plan_of(model, tmp_path / "m.plan", SPEC)) as backend:
        gpu.launched.clear()

        assert backend.keypoints(smooth_image(), REGIONS.rows(slice(0, 0))).shape == (0, 3, 3)
        assert gpu.launched == []


def test_a_decoder_of_heat_maps_is_the_callers_mistake(gpu, tmp_path, model):
    message = "a network for simcc cannot be decoded with dark"
    plan = write_plan_of(model, tmp_path / "m.plan", SPEC)
    with load_backend(plan) as backend, pytest.raises(ValueError, match=message):
        backend.keypoints(smooth_image(), REGIONS, decoder="dark")


def test_vectors_of_two_types_are_refused_in_a_line(gpu, tmp_path, model):
    plan = write_plan_of(model, tmp_path / "m.plan", SPEC, simcc_y="HALF")

    with pytest.raises(BackendError, match=r"m\.plan: simcc_x are float32 and simcc_y float16, and the kernel takes"):
        load_backend(plan)


def test_a_frame_memory_wants_kernels(gpu, tmp_path, model):
    plan = write_plan_of(model, tmp_path / "m.plan", SPEC, engine={"kernels": None})

    with pytest.raises(BackendError, match=r"m\.plan was built without kernels, and the CPU reads its frames"):
        load_backend(plan, frame_memory="mapped")
