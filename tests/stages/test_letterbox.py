from __future__ import annotations

import numpy as np
import pytest

from edgepose.stages.letterbox import Letterbox, lay_in

RESIZES = ("letterbox", "letterbox-center", "plain")
SIZES = [(480, 640), (640, 427), (1, 1), (320, 320), (3000, 17)]


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("image_hw", SIZES)
def test_to_image_is_the_inverse_of_to_input(resize: str, image_hw: tuple[int, int]):
    fit = Letterbox.fit(image_hw, (320, 416), resize)
    xy = np.random.default_rng(0).uniform(0, 1, (50, 2)) * image_hw[::-1]

    back = fit.to_image(fit.to_input(xy))

    assert np.abs(back - xy).max() < 1e-3 * max(1, max(image_hw) / 320)  # float32 of input px, scaled up


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("image_hw", SIZES)
def test_the_image_fits_into_the_input(resize: str, image_hw: tuple[int, int]):
    fit = Letterbox.fit(image_hw, (320, 416), resize)

    corners = fit.to_input(np.array([[0, 0], image_hw[::-1]]))

    assert (corners >= 0).all()
    assert (corners <= (416, 320)).all()
    assert lay_in(np.zeros((*image_hw, 3), np.uint8), fit, 114).shape == (320, 416, 3)


def test_boxes_come_back_to_what_was_drawn():
    image = np.zeros((200, 400, 3), np.uint8)
    image[40:120, 100:220] = 255
    for resize in RESIZES:
        fit = Letterbox.fit((200, 400), (160, 160), resize)
        pixels = lay_in(image, fit, 0)[..., 0] > 127
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]

        boxes = fit.boxes_to_image(np.array([found]))

        assert np.abs(boxes - (100, 40, 220, 120)).max() <= 0.5 * 400 / 160  # half a pixel of the input


def test_where_the_fill_lies():
    image = np.full((100, 200, 3), 7, np.uint8)

    corner, center = (lay_in(image, Letterbox.fit((100, 200), (64, 64), r), 114) for r in RESIZES[:2])

    assert (corner[:32] == 7).all()
    assert (corner[32:] == 114).all()
    assert (center[16:48] == 7).all()
    assert (np.delete(center, np.s_[16:48], axis=0) == 114).all()


def test_boxes_are_cut_off_at_the_images_edge_and_nobody_stays_nobody():
    fit = Letterbox.fit((100, 200), (64, 64), "letterbox")

    assert fit.boxes_to_image(np.array([[-5.0, -5.0, 70.0, 70.0]])).tolist() == [[0, 0, 200, 100]]
    assert fit.boxes_to_image(np.zeros((0, 4))).shape == (0, 4)
