"""Pictures that are on the GPU already, and key points that stay there, on a stand-in device: see tests/fake_device."""

from __future__ import annotations

import ctypes
import gc
import weakref

import numpy as np
import pytest

from edgepose import Frame, GpuFrame, estimate_many, estimate_poses
from edgepose.backends import load_backend
from edgepose.errors import FrameError
from edgepose.model.skeletons import Skeleton
from edgepose.stages.geometry import Regions
from tests.fake_device.gpu import Stream
from tests.fake_device.install import fake_device, write_toy_plan
from tests.makers import dots_image, dots_spec
from tests.nvcc import needs_nvcc
from tests.stages.test_frames import nv12_of

pytestmark = needs_nvcc
SPEC = dots_spec(skeleton=Skeleton("unpaired", ("red", "blue"), flip_pairs=()), flip_shift=0)
PICTURE = dots_image((8, 20), (28, 40))
FOUND = [[8, 20, 1], [28, 40, 1]]
WHOLE = np.array([[0, 0, 48, 64]], np.float32)
ONE = Regions.around(WHOLE, SPEC)


@pytest.fixture
def gpu():
    with fake_device() as gpu:
        gpu.stack().append("the caller's own context")
        yield gpu
        assert gpu.problems == []


@pytest.fixture
def backend(gpu, tmp_path):
    with load_backend(write_toy_plan(tmp_path / "m.plan", SPEC, max_batch=2)) as backend:
        yield backend


class OnGpu:
    """An array in the stand-in's memory, rows `pitch` bytes apart, with the CUDA array interface."""

    def __init__(self, gpu, array: np.ndarray, pitch: int = 0, **changes) -> None:
        row = array[0].nbytes
        pitch = pitch or row
        self.gpu, self.address = gpu, gpu.allocate(pitch * (len(array) - 1) + row, pinned=False)
        rows = np.frombuffer((ctypes.c_uint8 * (pitch * (len(array) - 1) + row)).from_address(self.address), np.uint8)
        inner = np.cumprod([1, *array.shape[:0:-1]])[-2::-1].tolist() if array.ndim > 1 else []
        self.array = np.lib.stride_tricks.as_strided(rows, array.shape, (pitch, *inner))
        self.array[...] = array
        interface = {
            "shape": array.shape,
            "typestr": "|u1",
            "data": (self.address, False),
            "strides": self.array.strides,
            "stream": None,
            "version": 3,
        }
        self.__cuda_array_interface__ = {**interface, **changes}

    def free(self) -> None:
        self.gpu.free(self.address)


class ByDlpack:
    """The same with DLPack alone."""

    def __init__(self, on_gpu: OnGpu, device: tuple[int, int] = (2, 0)) -> None:
        self.on_gpu, self.device, self.asked = on_gpu, device, []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None):
        self.asked.append(stream)
        return self.on_gpu.array.__dlpack__()


def split_planes(nv12: np.ndarray, height: int, *, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    chroma = nv12[height:]
    return nv12[:height], chroma.reshape(len(chroma), -1, 2) if paired else chroma


FRAMES = {
    "rgb": lambda gpu: OnGpu(gpu, PICTURE),
    "pitched rgb": lambda gpu: GpuFrame(OnGpu(gpu, PICTURE, pitch=256)),
    "pitched bgr": lambda gpu: GpuFrame(OnGpu(gpu, PICTURE[..., ::-1], pitch=256), "bgr"),
    "without strides": lambda gpu: OnGpu(gpu, PICTURE, strides=None),
    "rgb by DLPack": lambda gpu: ByDlpack(OnGpu(gpu, PICTURE)),
    "pitched rgb by DLPack": lambda gpu: ByDlpack(OnGpu(gpu, PICTURE, pitch=256)),
    "managed by DLPack": lambda gpu: ByDlpack(OnGpu(gpu, PICTURE), (13, 0)),
    "nv12": lambda gpu: GpuFrame(OnGpu(gpu, nv12_of(PICTURE, 48)), "nv12"),
    "pitched nv12": lambda gpu: GpuFrame(OnGpu(gpu, nv12_of(PICTURE, 64)), "nv12", (64, 48)),
    "nv12 in two planes": lambda gpu: GpuFrame(
        [OnGpu(gpu, plane, pitch=64) for plane in split_planes(nv12_of(PICTURE, 48), 64, paired=False)], "nv12"
    ),
    "nv12 with pairs of chroma": lambda gpu: GpuFrame(
        tuple(OnGpu(gpu, plane, pitch=96) for plane in split_planes(nv12_of(PICTURE, 48), 64, paired=True)), "nv12"
    ),
    "nv12 of one channel": lambda gpu: GpuFrame(
        OnGpu(gpu, nv12_of(PICTURE, 48), shape=(96, 48, 1), strides=(48, 1, 7)), "nv12"
    ),
    "nv12 of one channel by DLPack": lambda gpu: GpuFrame(
        ByDlpack(OnGpu(gpu, nv12_of(PICTURE, 48)[..., None], pitch=64)), "nv12"
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_on_the_gpu_is_read_where_it_lies(gpu, backend, name):
    frame = FRAMES[name](gpu)

    found = estimate_poses(backend, frame, WHOLE)
    gpu.launched.clear()
    again = backend.keypoints(frame, ONE)

    np.testing.assert_allclose(found.xy, np.array([FOUND])[..., :2], atol=1e-2)
    np.testing.assert_array_equal(again[..., :2], found.xy)
    assert gpu.launched[:2] == ["upload", "crop_f32"]  # the tables, and no pixels


@pytest.mark.parametrize("said_by", ["interface", "old interface", "caller"])
def test_the_producers_stream_is_waited_for(gpu, backend, said_by):
    producer = Stream(gpu, 1)
    black = OnGpu(gpu, np.zeros_like(PICTURE))
    if said_by == "old interface":  # which says nothing of streams: the default one
        gpu.streams[1] = producer
        black.__cuda_array_interface__["version"] = 2
    elif said_by == "interface":
        black.__cuda_array_interface__["stream"] = producer.handle
    frame = GpuFrame(black, stream=producer.handle if said_by == "caller" else None)
    producer.put("fill", lambda: np.copyto(black.array, PICTURE))

    found = backend.keypoints(frame, ONE)

    np.testing.assert_allclose(found, [FOUND], atol=1e-3)
    assert gpu.launched.index("fill") < gpu.launched.index("crop_f32")
    assert gpu.events == {}


def test_a_producer_with_dlpack_is_told_which_stream_will_read(gpu, backend):
    frame = ByDlpack(OnGpu(gpu, PICTURE))

    backend.keypoints(frame, ONE)

    assert frame.asked == [-1, backend._pipeline.stages.stream.handle]


def test_the_frame_is_let_go_when_its_result_is_taken(gpu, backend):
    frame = OnGpu(gpu, PICTURE)
    seen = weakref.ref(frame)
    backend.submit(frame, ONE)
    del frame
    gc.collect()
    assert seen() is not None

    backend.result()
    gc.collect()

    assert seen() is None


def test_frames_of_the_cpu_and_of_the_gpu_go_together(gpu, backend):
    shifted = dots_image((12, 24), (32, 44))
    images = [PICTURE, OnGpu(gpu, shifted, pitch=512), Frame(PICTURE[..., ::-1], "bgr")]

    found = estimate_many(backend, images, [WHOLE, WHOLE, WHOLE])

    np.testing.assert_allclose(found[1].xy[0], [[12, 24], [32, 44]], atol=1e-3)
    for other in (found[0], found[2]):
        np.testing.assert_allclose(other.xy[0], np.array(FOUND)[:, :2], atol=1e-3)


def freed(gpu):
    frame = OnGpu(gpu, PICTURE)
    frame.free()
    return frame


def elsewhere(gpu):
    frame = OnGpu(gpu, PICTURE)
    gpu.ordinals[frame.address] = 1
    return frame


class Refusing(ByDlpack):
    """A producer that raises when it is asked: for what it lies on, or for its memory."""

    def __init__(self, gpu, error: Exception, *, of: str) -> None:
        super().__init__(OnGpu(gpu, PICTURE))
        self.error, self.of = error, of

    def __dlpack_device__(self):
        if self.of == "device":
            raise self.error
        return super().__dlpack_device__()

    def __dlpack__(self, *, stream=None):
        raise self.error


class Freed:
    """What it was made of is gone, and its property says so."""

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("the owner\nwas freed")


class NoCapsule(ByDlpack):
    def __dlpack__(self, *, stream=None):
        return 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda gpu: Freed(), "does not share it by __cuda_array_interface__: the owner was freed"),
        (lambda gpu: Refusing(gpu, BufferError("requires grad,\n use detach()"), of="memory"), "grad, use detach"),
        (lambda gpu: Refusing(gpu, ValueError("freed"), of="memory"), "does not share it by DLPack: freed"),
        (lambda gpu: Refusing(gpu, AssertionError(), of="device"), "does not share it by DLPack: AssertionError"),
        (lambda gpu: NoCapsule(OnGpu(gpu, PICTURE)), "by DLPack: .*invalid PyCapsule"),
        (lambda gpu: OnGpu(gpu, PICTURE, shape="abc"), "by __cuda_array_interface__: invalid literal"),
        (lambda gpu: OnGpu(gpu, PICTURE, data=None), "by __cuda_array_interface__: 'NoneType'"),
        (lambda gpu: OnGpu(gpu, PICTURE, stream="default"), "must be a handle, an int, got <class 'str'>"),
        (lambda gpu: GpuFrame(OnGpu(gpu, PICTURE), stream=object()), "of PyTorch stream.cuda_stream"),
        (lambda gpu: GpuFrame(OnGpu(gpu, PICTURE), stream=0x99), "the stream 0x99, which .* is gone"),
        (lambda gpu: GpuFrame([], "nv12"), "one plane or two, got none"),
        (lambda gpu: GpuFrame(OnGpu(gpu, PICTURE), size_hw=(64, 48, 3)), "must be height and width"),
        (lambda gpu: OnGpu(gpu, PICTURE, typestr="<f4"), "must be uint8, got <f4"),
        (lambda gpu: OnGpu(gpu, PICTURE, strides=(144, 3, 2)), r"one piece each, got strides \(144, 3, 2\)"),
        (lambda gpu: OnGpu(gpu, PICTURE, strides=(-144, 3, 1)), "one piece each"),
        (lambda gpu: OnGpu(gpu, PICTURE[..., 0].copy()), r"must be \(H, W, 3\)"),
        (lambda gpu: OnGpu(gpu, PICTURE, shape=(64, 48, 4), strides=None), r"must be \(H, W, 3\)"),
        (lambda gpu: OnGpu(gpu, PICTURE, data=(0, False)), "was it freed"),
        (lambda gpu: OnGpu(gpu, PICTURE, mask=object()), "masked"),
        (lambda gpu: OnGpu(gpu, PICTURE, shape=(6400, 48, 3), strides=None), "reach beyond its memory"),
        (freed, "none of CUDA's: was it freed"),
        (elsewhere, "lies on GPU 1, edgepose works on GPU 0"),
        (lambda gpu: ByDlpack(OnGpu(gpu, PICTURE), (1, 0)), "image must be a uint8 array|image must be"),
        (lambda gpu: GpuFrame(PICTURE), "must have DLPack or __cuda_array_interface__"),
        (lambda gpu: OnGpu(gpu, PICTURE, stream=0x77), "the stream 0x77, which the frame's producer names, is gone"),
        (lambda gpu: GpuFrame(OnGpu(gpu, PICTURE), "nv12"), "an NV12 frame on the GPU must be"),
        (lambda gpu: GpuFrame(OnGpu(gpu, nv12_of(PICTURE, 48)), "nv12", (70, 48)), "for 70 x 48"),
        (lambda gpu: GpuFrame(OnGpu(gpu, PICTURE), "yuyv"), "format must be one of"),
        (lambda gpu: GpuFrame(OnGpu(gpu, PICTURE), yuv="bt2020"), "yuv must be one of"),
    ],
)
def test_a_frame_that_cannot_be_read_is_one_line(gpu, backend, make, message):
    with pytest.raises(FrameError, match=message) as error:
        backend.keypoints(make(gpu), ONE)

    assert "\n" not in str(error.value)
    np.testing.assert_allclose(backend.keypoints(PICTURE, ONE), [FOUND], atol=1e-3)  # it works on


def test_a_cpu_says_that_the_frame_is_on_the_gpu(gpu, tmp_path):
    plan = write_toy_plan(tmp_path / "m.plan", SPEC)

    with pytest.raises(FrameError, match="lies on the GPU, where only a plan reads it"):
        estimate_poses(load_backend(plan.with_suffix(".onnx")), OnGpu(gpu, PICTURE), WHOLE)


# key points that stay there


def read(gpu, array) -> np.ndarray:
    """What a library would read of an array on the GPU, when its stream has come so far."""
    interface = array.__cuda_array_interface__
    assert (interface["typestr"], interface["version"], interface["strides"]) == ("<f4", 3, None)
    gpu.streams[interface["stream"]].finish()
    address, shape = interface["data"][0], interface["shape"]
    return np.frombuffer((ctypes.c_float * int(np.prod(shape))).from_address(address), np.float32).reshape(shape)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_key_points_stay_on_the_gpu(gpu, backend, count):
    regions = Regions.around(WHOLE.repeat(count, axis=0) + np.arange(count, dtype=np.float32)[:, None], SPEC)
    wanted = backend.keypoints(PICTURE, regions)
    gpu.launched.clear()

    found = backend.keypoints_on_gpu(PICTURE, regions)

    assert len(found) == count
    assert "download" not in gpu.launched
    np.testing.assert_array_equal(read(gpu, found), wanted)


def test_nobody_is_an_empty_array(gpu, backend):
    found = backend.keypoints_on_gpu(PICTURE, ONE.rows(slice(0)))

    assert found.__cuda_array_interface__["shape"] == (0, 2, 3)


def test_nobody_waits_for_them_and_the_next_frames_leave_them_alone(gpu, backend):
    backend.warm_up()
    gpu.launched.clear()
    first = backend.keypoints_on_gpu(PICTURE, ONE)
    assert gpu.launched == []

    second = backend.keypoints_on_gpu(dots_image((12, 20), (28, 40)), ONE)
    backend.keypoints(np.zeros_like(PICTURE), ONE)

    np.testing.assert_allclose(read(gpu, first), [FOUND], atol=1e-3)
    np.testing.assert_allclose(read(gpu, second), [[[12, 20, 1], [28, 40, 1]]], atol=1e-3)


def test_decoding_given_outputs_leaves_them_alone(gpu, backend):
    backend.warm_up()
    outputs = backend.run(backend.crops(PICTURE, ONE))
    elsewhere = Regions.around(WHOLE + np.float32([9, 9, 30, 30]), SPEC)

    found = backend.keypoints_on_gpu(PICTURE, ONE)
    backend.decode(outputs, elsewhere)

    np.testing.assert_allclose(read(gpu, found), [FOUND], atol=1e-3)


def test_a_frame_on_the_gpu_is_kept_until_it_was_read(gpu, backend):
    backend.warm_up()
    frame = OnGpu(gpu, PICTURE)
    seen = weakref.ref(frame)

    found = backend.keypoints_on_gpu(frame, ONE)
    del frame
    gc.collect()
    assert seen() is not None
    np.testing.assert_allclose(read(gpu, found), [FOUND], atol=1e-3)
    backend.keypoints(PICTURE, ONE)
    gc.collect()

    assert seen() is None


def test_they_outlive_the_backend_and_are_given_back(gpu, tmp_path):
    with load_backend(write_toy_plan(tmp_path / "m.plan", SPEC)) as backend:
        found = backend.keypoints_on_gpu(PICTURE, ONE)

    np.testing.assert_allclose(read(gpu, found), [FOUND], atol=1e-3)
    del found
    gc.collect()

    assert gpu.live == {}
