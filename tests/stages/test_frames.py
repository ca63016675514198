"""Frames as cameras give them, where there is no GPU to take them as they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgepose import Frame
from edgepose.errors import EdgeposeError, FrameError
from tests.makers import smooth_image


def nv12_of(rgb: np.ndarray, pitch: int) -> np.ndarray:
    """An even-sized picture as (H + H / 2, pitch) NV12, by OpenCV."""
    height, width = rgb.shape[:2]
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).ravel()
    luma, u, v = np.split(planes, [height * width, height * width * 5 // 4])
    pixels = np.full((height + height // 2, pitch), 77, np.uint8)
    pixels[:height, :width] = luma.reshape(height, width)
    pixels[height:, :width] = np.stack([u, v], axis=1).reshape(height // 2, width)
    return pixels


def test_packed_frames_become_rgb():
    picture = smooth_image(20, 30)

    np.testing.assert_array_equal(Frame(picture).to_rgb(), picture)
    np.testing.assert_array_equal(Frame(picture[..., ::-1], "bgr").to_rgb(), picture)


@pytest.mark.parametrize("pitch", [48, 64])
def test_nv12_frames_become_rgb(pitch):
    picture = smooth_image(64, 48)

    rgb = Frame(nv12_of(picture, pitch), "nv12", (64, 48)).to_rgb()

    i420 = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
    np.testing.assert_array_equal(rgb, cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420))


@pytest.mark.parametrize(
    ("yuv", "red", "green", "blue"),  # 8-bit levels of the pure colours, by the standards' own matrices
    [
        ("bt601", (81, 90, 240), (145, 54, 34), (41, 240, 110)),
        ("bt601-full", (76, 85, 255), (150, 44, 21), (29, 255, 107)),
        ("bt709", (63, 102, 240), (173, 42, 26), (32, 240, 118)),
        ("bt709-full", (54, 99, 255), (182, 30, 12), (18, 255, 116)),
    ],
)
def test_pure_colours_come_out_of_each_standards_levels(yuv, red, green, blue):
    for levels, colour in ((red, (255, 0, 0)), (green, (0, 255, 0)), (blue, (0, 0, 255))):
        pixels = np.full((6, 4), levels[0], np.uint8)
        pixels[4:, ::2], pixels[4:, 1::2] = levels[1:]

        rgb = Frame(pixels, "nv12", yuv=yuv).to_rgb()

        assert np.abs(rgb.astype(int) - colour).max() <= 3  # a level is off by half of one, times 1.16, and 2.11 of u


@pytest.mark.parametrize("yuv", ["bt601", "bt601-full", "bt709", "bt709-full"])
def test_white_is_white_and_black_is_black(yuv):
    for level, grey in ((0, 0), (255, 255)):  # in video range beyond white and black
        pixels = np.full((6, 4), level, np.uint8)
        pixels[4:] = 128

        assert (Frame(pixels, "nv12", yuv=yuv).to_rgb() == grey).all()


def test_an_unknown_standard_is_one_line():
    with pytest.raises(FrameError, match=r"yuv must be one of bt601, .*, got 'bt2020'"):
        Frame(np.zeros((6, 4), np.uint8), "nv12", yuv="bt2020")


def test_an_nv12_frame_of_odd_size_is_its_even_frames_part():
    pixels = nv12_of(smooth_image(64, 48), 48)
    odd = np.delete(pixels, 63, axis=0)  # without the luma's last row

    rgb = Frame(odd, "nv12", (63, 47)).to_rgb()

    np.testing.assert_array_equal(rgb, Frame(pixels, "nv12").to_rgb()[:63, :47])


def test_what_is_no_picture_is_an_edgepose_error_and_a_value_error():
    for error in (EdgeposeError, ValueError):
        with pytest.raises(error, match="uint8"):
            Frame(np.zeros((4, 4, 3), np.float32))
    assert issubclass(FrameError, EdgeposeError)
