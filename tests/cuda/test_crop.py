"""crop.cu, run on the CPU, against the numpy reference."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgepose.cuda.launch import crop_grid, placed
from edgepose.stages.crop import cut_out, mirror
from edgepose.stages.frames import FORMATS, YUVS, Frame
from edgepose.stages.geometry import Regions
from tests.cuda.on_cpu import before_a_guard_page, run_crop, run_crop_of
from tests.makers import make_spec, smooth_image

BOXES = np.array([[20, 10, 90, 110], [-30, -20, 40, 60], [100, 60, 200, 150], [500, 500, 600, 700], [3, 3, 4, 5]])


@pytest.mark.parametrize("alignment", ["corner", "udp", "darkpose", "half-pixel"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_crops_agree_to_one_grey_level(kernels, alignment, order):
    spec = make_spec(alignment=alignment, color_order=order)
    image, regions = smooth_image(), Regions.around(BOXES, spec)

    crops, mirrored = run_crop(kernels, image, image.shape[:2], "rgb", regions, spec)

    wanted = cut_out(image, regions, spec)
    levels = np.abs(crops - wanted) * np.array(spec.image.std, np.float32)[:, None, None]
    assert levels.max() <= (1 if int(cv2.__version__.split(".")[0]) >= 5 else 2)  # OpenCV 4 rounds positions as well
    np.testing.assert_array_equal(mirrored, mirror(crops))


def test_a_bgr_frame_with_padded_rows_gives_the_same_crops(kernels):
    spec = make_spec()
    image, regions = smooth_image(), Regions.around(BOXES, spec)
    padded = np.zeros((120, 512), np.uint8)
    padded[:, : 160 * 3] = image[..., ::-1].reshape(120, -1)

    crops, _ = run_crop(kernels, padded, (120, 160), "bgr", regions, spec)

    np.testing.assert_array_equal(crops, run_crop(kernels, image, (120, 160), "rgb", regions, spec)[0])


@pytest.mark.parametrize("frame_format", FORMATS)
def test_nothing_beyond_the_frame_is_read(kernels, frame_format):
    spec = make_spec()
    rows, row_bytes = (180, 160) if frame_format == "nv12" else (120, 480)
    frame = before_a_guard_page(np.full((rows, row_bytes), 128, np.uint8))
    regions = Regions.around(np.array([[150, 110, 160, 120], [140, 90, 400, 500]]), spec)

    crops, _ = run_crop(kernels, frame, (120, 160), frame_format, regions, spec)

    assert np.isfinite(crops).all()


@pytest.mark.parametrize("width", [1, 2, 3])
def test_nothing_beyond_a_narrow_frame_is_read(kernels, width):
    spec = make_spec()
    frame = before_a_guard_page(np.full((7, 3 * width), 128, np.uint8))
    regions = Regions.around(np.array([[0, 0, width, 7], [-1, 2, width, 12]]), spec)

    crops, _ = run_crop(kernels, frame, (7, width), "bgr", regions, spec)

    assert np.isfinite(crops).all()


def test_an_nv12_frame_may_have_rows_of_an_odd_length(kernels):
    spec = make_spec()
    frame = np.random.default_rng(5).integers(0, 256, (180, 160), np.uint8)
    odd = np.zeros((180, 163), np.uint8)
    odd[:, :160] = frame
    regions = Regions.around(BOXES, spec)

    crops, _ = run_crop(kernels, odd, (120, 160), "nv12", regions, spec)

    np.testing.assert_array_equal(crops, run_crop(kernels, frame, (120, 160), "nv12", regions, spec)[0])


@pytest.mark.parametrize("frame_format", FORMATS)
def test_many_people_get_the_crops_that_few_get(kernels, frame_format):
    spec = make_spec(input_hw=(37, 22))
    rows, row_bytes = (180, 160) if frame_format == "nv12" else (120, 480)
    frame = np.random.default_rng(6).integers(0, 256, (rows, row_bytes), np.uint8)
    boxes = np.concatenate([BOXES + shift for shift in range(0, 40, 10)])
    assert crop_grid(spec, len(boxes))[1][1] < crop_grid(spec, len(BOXES))[1][1]

    crops, mirrored = run_crop(kernels, frame, (120, 160), frame_format, Regions.around(boxes, spec), spec)

    for start in range(0, len(boxes), len(BOXES)):
        some = slice(start, start + len(BOXES))
        few = run_crop(kernels, frame, (120, 160), frame_format, Regions.around(boxes[some], spec), spec)
        np.testing.assert_array_equal(crops[some], few[0])
        np.testing.assert_array_equal(mirrored[some], few[1])


def test_regions_of_different_frames_are_cut_from_their_own(kernels):
    spec = make_spec()
    image, other = smooth_image(), np.ascontiguousarray(smooth_image()[::-1, :100])
    nv12 = np.random.default_rng(0).integers(0, 256, (90, 80), np.uint8)
    regions, frame_of = Regions.around(BOXES, spec), np.array([2, 0, 1, 1, 0], np.int32)
    frames = [
        placed(frame, frame.pixels.ctypes.data)
        for frame in (Frame(image), Frame(other, "bgr"), Frame(nv12, "nv12", yuv="bt709"))
    ]

    crops, _ = run_crop_of(kernels, frames, frame_of, regions, spec)

    alone = [
        run_crop(kernels, pixels, hw, name, regions, spec, yuv="bt709")[0]
        for pixels, hw, name in ((image, (120, 160), "rgb"), (other, (120, 100), "bgr"), (nv12, (60, 80), "nv12"))
    ]
    np.testing.assert_array_equal(crops, [alone[frame][person] for person, frame in enumerate(frame_of)])


def test_a_crop_of_odd_width_is_whole_too(kernels):
    spec = make_spec(input_hw=(31, 67))
    image, regions = smooth_image(), Regions.around(BOXES, spec)

    crops, mirrored = run_crop(kernels, image, image.shape[:2], "rgb", regions, spec)

    levels = np.abs(crops - cut_out(image, regions, spec)) * np.array(spec.image.std, np.float32)[:, None, None]
    assert levels.max() <= (1 if int(cv2.__version__.split(".")[0]) >= 5 else 2)
    np.testing.assert_array_equal(mirrored, mirror(crops))


@pytest.mark.parametrize("frame_hw", [(1, 1), (1, 9), (7, 1), (2, 2)])
def test_tiny_frames_agree(kernels, frame_hw):
    spec = make_spec()
    image = np.random.default_rng(3).integers(0, 256, (*frame_hw, 3), np.uint8)
    regions = Regions.around(np.array([[0, 0, frame_hw[1], frame_hw[0]], [-1, -2, 3, 4]]), spec)

    crops, _ = run_crop(kernels, image, frame_hw, "rgb", regions, spec)

    levels = np.abs(crops - cut_out(image, regions, spec)) * np.array(spec.image.std, np.float32)[:, None, None]
    assert levels.max() <= 5  # cv2 rounds positions to 1/32 px, and noise has steps of up to 255 a pixel


@pytest.mark.parametrize("frame_format", FORMATS)
def test_a_region_that_is_not_finite_or_far_outside_is_black(kernels, monkeypatch, frame_format):
    spec = make_spec()
    frame = np.full((180, 480), 200, np.uint8)
    factors = np.array([[1, 1, np.nan, 0], [np.inf, 1, 0, 0], [1, 1, 0, -np.inf], [1, 1, 3e38, 0], [1, 1, 160, 0]])
    monkeypatch.setattr("tests.cuda.on_cpu.to_image_factors", lambda *_: factors.astype(np.float32))

    crops, _ = run_crop(kernels, frame, (120, 160), frame_format, Regions.around(BOXES, spec), spec)

    black = (-np.array(spec.image.mean) / np.array(spec.image.std)).astype(np.float32)[:, None, None]
    np.testing.assert_array_equal(crops, np.broadcast_to(black, crops.shape))


@pytest.mark.parametrize("yuv", YUVS)
@pytest.mark.parametrize("frame_hw", [(9, 11), (8, 11), (9, 12)])
def test_an_nv12_frame_of_odd_size_has_its_chroma_rounded_up(kernels, frame_hw, yuv):
    spec = make_spec(input_hw=frame_hw)
    height, width = frame_hw
    generator = np.random.default_rng(4)
    pixels = generator.integers(0, 256, (height + (height + 1) // 2, width + 1), np.uint8)
    whole = Frame(pixels, "nv12", frame_hw, yuv).to_rgb()
    regions = Regions(np.array([[width / 2, height / 2]]), np.array([[width, height]]), "corner")  # pixel for pixel

    crops, _ = run_crop(kernels, pixels, frame_hw, "nv12", regions, spec, yuv=yuv)

    levels = crops * np.array(spec.image.std)[:, None, None] + np.array(spec.image.mean)[:, None, None]
    # to_rgb rounds to whole levels, and OpenCV's factors of BT.601 are rounded to a thousandth
    assert np.abs(levels[0] - whole.transpose(2, 0, 1)).max() <= 0.61


def test_fp16_crops_are_the_rounded_fp32_crops(kernels):
    spec = make_spec()
    image, regions = smooth_image(), Regions.around(BOXES, spec)

    crops, _ = run_crop(kernels, image, (120, 160), "rgb", regions, spec, np.float16)

    wanted = run_crop(kernels, image, (120, 160), "rgb", regions, spec)[0].astype(np.float16)
    np.testing.assert_array_equal(crops, wanted)


def test_an_nv12_frame_needs_no_conversion_pass(kernels):
    spec = make_spec()
    frame = np.random.default_rng(0).integers(0, 256, (180, 160), np.uint8)  # every value, legal or not
    frame = cv2.GaussianBlur(frame, (9, 9), 0)
    image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_NV12))
    regions = Regions.around(BOXES, spec)

    crops, _ = run_crop(kernels, frame, (120, 160), "nv12", regions, spec)

    levels = np.abs(crops - cut_out(image, regions, spec)) * np.array(spec.image.std, np.float32)[:, None, None]
    assert levels.max() <= 1.5  # the reference rounds twice: to RGB, then to the crop
