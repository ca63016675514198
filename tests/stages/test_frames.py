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
