from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgepose.model.spec import ALIGNMENTS, ModelSpec
from edgepose.stages.crop import cut_out, mirror
from edgepose.stages.geometry import Regions
from tests.makers import make_spec, smooth_image

BOXES = {
    "inside": (40, 20, 90, 100),
    "over the corner": (-30, -40, 50, 60),
    "around the image": (-50, -50, 300, 300),
    "tiny": (70.2, 50.1, 74.9, 55.5),
    "wide": (5, 60, 150, 70),
    "tall": (80, 2, 84, 118),
}


def grey_levels(crops: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Crops back as (N, H, W, 3) grey levels."""
    return crops.transpose(0, 2, 3, 1) * np.array(spec.image.std) + np.array(spec.image.mean)


def exact_bilinear(image: np.ndarray, matrix: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The definition, in float64: (H, W, 3), black outside."""
    xs = (np.arange(size_hw[1]) - matrix[0, 2]) / matrix[0, 0]
    ys = (np.arange(size_hw[0]) - matrix[1, 2]) / matrix[1, 1]
    columns = np.maximum(0, 1 - np.abs(xs[:, None] - np.arange(image.shape[1])))
    rows = np.maximum(0, 1 - np.abs(ys[:, None] - np.arange(image.shape[0])))
    return np.einsum("yi,xj,ijc->yxc", rows, columns, image, optimize=True)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_crops_are_bilinear(alignment, box):
    spec = make_spec(input_hw=(128, 96), heatmap_hw=(32, 24), alignment=alignment)
    image = smooth_image()
    regions = Regions.around(np.array([box]), spec)

    crops = cut_out(image, regions, spec)

    expected = exact_bilinear(image, regions.to_grid_matrices(spec.image.size_hw)[0], spec.image.size_hw)
    difference = np.abs(grey_levels(crops, spec)[0] - expected)
    assert difference.max() <= 0.5 + 255 / 64  # OpenCV 4 rounds positions to 1/32 px; steepest at the black border
    assert difference.mean() <= 0.3


def test_crops_are_what_warp_affine_gives():
    spec = make_spec()
    image = smooth_image()
    regions = Regions.around(np.array(list(BOXES.values())), spec)

    crops = cut_out(image, regions, spec)

    for matrix, levels in zip(regions.to_grid_matrices(spec.image.size_hw), grey_levels(crops, spec), strict=True):
        warped = cv2.warpAffine(image, matrix, spec.image.size_hw[::-1], flags=cv2.INTER_LINEAR)
        np.testing.assert_allclose(levels, warped, atol=1e-4)


def test_no_regions_no_crops():
    spec = make_spec()

    crops = cut_out(smooth_image(), Regions.around(np.empty((0, 4)), spec), spec)

    assert crops.shape == (0, 3, 64, 48)
    assert crops.dtype == np.float32


@pytest.mark.parametrize("box", [(-500, -500, -400, -400), (1e5, 10, 1e5 + 50, 60), (9e5, 9e5, 9.9e5, 9.9e5)])
def test_outside_the_image_all_is_black(box):
    spec = make_spec()

    crops = cut_out(smooth_image(), Regions.around(np.array([box]), spec), spec)

    assert (grey_levels(crops, spec).round(3) == 0).all()


def test_a_vast_box_shows_the_image_as_a_speck():
    spec = make_spec()
    white = np.full((100, 100, 3), 255, np.uint8)

    crops = cut_out(white, Regions.around(np.array([[-9e5, -9e5, 9e5, 9e5]]), spec), spec)

    assert (grey_levels(crops, spec)[0] > 1).any(axis=2).sum() <= 1


@pytest.mark.parametrize(("order", "expected"), [("rgb", (10, 20, 30)), ("bgr", (30, 20, 10))])
def test_colours_come_in_the_models_order_and_are_normalised_in_it(order, expected):
    spec = make_spec(color_order=order, mean=(1, 2, 3), std=(1, 2, 4))
    image = np.full((64, 48, 3), (10, 20, 30), np.uint8)

    crops = cut_out(image, Regions.around(np.array([[10, 10, 20, 20]]), spec), spec)

    assert crops[0, :, 32, 24].tolist() == [(expected[0] - 1) / 1, (expected[1] - 2) / 2, (expected[2] - 3) / 4]


@pytest.mark.parametrize(
    "view", [lambda image: image[:, ::-1], lambda image: image[::-2, 1::3], lambda image: image[..., ::-1]]
)
def test_takes_images_of_any_memory_order(view):
    spec = make_spec()
    image = view(smooth_image())
    regions = Regions.around(np.array([[10, 5, 40, 50]]), spec)

    crops = cut_out(image, regions, spec)

    np.testing.assert_array_equal(crops, cut_out(image.copy(), regions, spec))


def test_takes_an_image_of_one_pixel():
    spec = make_spec(box_padding=1)
    image = np.full((1, 1, 3), 200, np.uint8)

    crops = cut_out(image, Regions.around(np.array([[-1, -1, 1, 1]]), spec), spec)

    levels = grey_levels(crops, spec)[0, :, :, 0]
    assert levels.max() == pytest.approx(200, abs=2)
    assert levels[0, 0] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("turned", [False, True])
def test_huge_images_are_cut_where_small_ones_are(turned):
    spec = make_spec()
    piece = smooth_image(40, 300)
    image = np.zeros((40, 40000, 3), np.uint8)
    image[:, 39000:39300] = piece
    box = np.array([[39100, 5, 39130, 35]], float)
    if turned:
        image, piece, box = image.transpose(1, 0, 2), piece.transpose(1, 0, 2), box[:, [1, 0, 3, 2]]
    start = np.array([0, 39000, 0, 39000] if turned else [39000, 0, 39000, 0])

    crops = cut_out(image, Regions.around(box, spec), spec)

    expected = cut_out(piece, Regions.around(box - start, spec), spec)
    difference = np.abs(grey_levels(crops, spec) - grey_levels(expected, spec))
    assert difference.max() <= 2
    assert difference.mean() <= 0.3


def test_regions_too_large_for_warp_affine_are_thinned_out():
    spec = make_spec(box_padding=1)
    ramp = np.linspace(0, 255, 70000).astype(np.uint8)
    image = np.repeat(np.repeat(ramp[None, :, None], 20, axis=0), 3, axis=2)

    crops = cut_out(image, Regions.around(np.array([[0, 0, 70000, 20]]), spec), spec)

    across = grey_levels(crops, spec)[0, 32, :, 0]
    assert np.abs(across - np.arange(48) / 48 * 255).max() <= 2


def test_leaves_the_image_as_it_was():
    spec = make_spec()
    image = smooth_image()
    image.flags.writeable = False

    cut_out(image, Regions.around(np.array([[10, 5, 40, 50]]), spec), spec)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 5), np.uint8), ((5, 5, 4), np.uint8), ((5, 5, 3), np.uint16), ((0, 5, 3), np.uint8), ((5, 5, 3), np.float32)],
)
def test_refuses_what_is_not_an_rgb_image(shape, dtype):
    spec = make_spec()

    with pytest.raises(ValueError, match="image must be"):
        cut_out(np.zeros(shape, dtype), Regions.around(np.array([[0, 0, 2, 2]]), spec), spec)


def test_mirror_changes_left_and_right_over():
    crops = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)

    assert mirror(crops)[0, 0, 0].tolist() == [3, 2, 1, 0]
    np.testing.assert_array_equal(mirror(mirror(crops)), crops)
    assert mirror(crops[:0]).shape == (0, 2, 3, 4)
