from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgepose.model.heads.heatmaps import DECODERS, HeatmapsWithOffsets
from edgepose.model.spec import ALIGNMENTS, ModelSpec
from edgepose.stages.decode import decode_heatmaps
from edgepose.stages.geometry import Regions, boxes_in_view, usable_boxes
from tests.makers import make_spec

BOXES = np.array(
    [
        (40, 20, 90, 100),
        (-30, -40, 50, 60),
        (70.2, 50.1, 79.9, 62.5),
        (5, 60, 450, 70),
        (80, 2, 84, 418),
        (1e5, -1e5, 1e5 + 300, -1e5 + 400),
    ],
    dtype=np.float64,
)
BODY = {"input_hw": (256, 192), "heatmap_hw": (64, 48)}
GRIDS = ((256, 192), (64, 48))


def published_center_and_size(box: np.ndarray, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centre and padded width and height, as published code computes them from one box."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    center = np.array([left + width / 2, top + height / 2])
    aspect = input_hw[1] / input_hw[0]
    if width > aspect * height:
        height = width / aspect
    else:
        width = height * aspect
    return center, np.array([width, height]) * 1.25


def three_point_matrix(center: np.ndarray, reach: float, grid_center: np.ndarray, grid_reach: float) -> np.ndarray:
    """The matrix that takes a centre, the point `reach` above it and the one at a right angle to both to a grid's."""
    source, target = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    for points, middle, up in ((source, center, reach), (target, grid_center, grid_reach)):
        points[0], points[1] = middle, middle - (0, up)
        points[2] = points[1] + (-up, 0)
    return cv2.getAffineTransform(source, target)


@pytest.mark.parametrize("grid_hw", GRIDS)
@pytest.mark.parametrize("box", BOXES[:5])
def test_corner_is_simple_baselines_affine(box, grid_hw):
    spec = make_spec(**BODY, alignment="corner")
    center, size = published_center_and_size(box, spec.image.size_hw)
    grid_wh = np.array(grid_hw[::-1], dtype=np.float64)
    expected = three_point_matrix(center, size[0] / 2, grid_wh / 2, grid_wh[0] / 2)

    matrices = Regions.around(box[None], spec).to_grid_matrices(grid_hw)

    np.testing.assert_allclose(matrices[0], expected, atol=2e-4)


@pytest.mark.parametrize("grid_hw", GRIDS)
@pytest.mark.parametrize("box", BOXES)
def test_udp_is_the_papers_matrix(box, grid_hw):
    spec = make_spec(**BODY, alignment="udp")
    (x, y), (width, height) = published_center_and_size(box, spec.image.size_hw)
    scale_x, scale_y = (grid_hw[1] - 1) / width, (grid_hw[0] - 1) / height
    expected = [[scale_x, 0, scale_x * (width / 2 - x)], [0, scale_y, scale_y * (height / 2 - y)]]

    matrices = Regions.around(box[None], spec).to_grid_matrices(grid_hw)

    np.testing.assert_allclose(matrices[0], expected, rtol=1e-9)


@pytest.mark.parametrize("grid_hw", GRIDS)
@pytest.mark.parametrize("box", BOXES[:5])
def test_darkpose_is_its_repositorys_affine(box, grid_hw):
    spec = make_spec(**BODY, alignment="darkpose")
    center, size = published_center_and_size(box, spec.image.size_hw)
    grid_wh = np.array(grid_hw[::-1], dtype=np.float64)
    expected = three_point_matrix(center - 0.5, (size[0] - 1) / 2, (grid_wh - 1) / 2, (grid_wh[0] - 1) / 2)

    matrices = Regions.around(box[None], spec).to_grid_matrices(grid_hw)

    np.testing.assert_allclose(matrices[0], expected, atol=2e-4)


def test_corner_grid_starts_at_the_regions_corner_and_udp_spans_it():
    box = np.array([[0, 0, 96, 128]])
    for alignment, last in (("corner", (94, 126)), ("udp", (96, 128))):
        spec = make_spec(**BODY, alignment=alignment, box_padding=1)

        ends = Regions.around(box, spec).to_image(np.array([[[0, 0], [47, 63]]]), (64, 48))

        np.testing.assert_allclose(ends[0], [(0, 0), last], atol=1e-5)


def test_half_pixel_grid_tiles_the_region_as_a_resized_part_of_the_image_does():
    box = np.array([[10, 20, 106, 148]])  # twice a heat map of 64x48
    spec = make_spec(**BODY, alignment="half-pixel", box_padding=1)

    ends = Regions.around(box, spec).to_image(np.array([[[0, 0], [47, 63]]]), (64, 48))

    np.testing.assert_allclose(ends[0], [(10.5, 20.5), (104.5, 146.5)], atol=1e-5)  # between pixels 10 and 11, ...


@pytest.mark.parametrize("grid_hw", [*GRIDS, (46, 46), (2, 2)])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_image_and_grid_are_inverse(alignment, grid_hw):
    regions = Regions.around(BOXES, make_spec(**BODY, alignment=alignment))
    xy = np.random.default_rng(0).uniform(-5, 70, (len(BOXES), 17, 2))

    back = regions.to_grid(regions.to_image(xy, grid_hw), grid_hw)

    step = (regions.size_wh / (np.array(grid_hw) - 1)).min(axis=1)
    float32_px = np.spacing(np.abs(BOXES).max(axis=1).astype(np.float32)) / step  # image px that float32 can tell apart
    assert (np.abs(back - xy).max(axis=(1, 2)) <= 1e-4 + 2 * float32_px).all()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_matrices_and_points_are_one_convention(alignment):
    regions = Regions.around(BOXES[:5], make_spec(**BODY, alignment=alignment))
    xy = np.random.default_rng(0).uniform(0, 100, (5, 17, 2))
    matrices = regions.to_grid_matrices((256, 192))

    by_matrix = np.einsum("nij,nkj->nki", matrices[:, :, :2], xy) + matrices[:, None, :, 2]

    np.testing.assert_allclose(regions.to_grid(xy, (256, 192)), by_matrix, rtol=1e-6, atol=1e-4)


def drawn(spec: ModelSpec, xy: np.ndarray) -> np.ndarray:
    """(N, C, h, w) heat maps of Gaussians (sigma 2) at (N, K, 2) heat-map px, with true offsets where it has them."""
    height, width = spec.heatmaps.size_hw
    dx = xy[..., 0, None, None] - np.arange(width)
    dy = xy[..., 1, None, None] - np.arange(height)[:, None]
    maps = np.exp(-(dx**2 + dy**2) / 8)
    if isinstance(spec.head, HeatmapsWithOffsets):
        unit = spec.heatmaps.offset_radius * max(height, width)
        maps = np.stack([maps, *np.broadcast_arrays(dx / unit, dy / unit)], axis=2)
    return maps.reshape(len(xy), spec.num_maps, height, width).astype(np.float32)


# Heat-map px by which a decoder misses the centre of a noiseless Gaussian: inside, and within 2 px of the border,
# where "quarter" and "dark" leave the peak's pixel as it is, the blur of "udp" pulls in the black outside, and that of
# its other kinds meets a mirror, in which offsets do not change sign.
OWN_ERROR = {
    "argmax": (0.5, 0.5),
    "quarter": (0.25, 0.5),
    "dark": (0.02, 0.5),
    "udp": (0.02, 0.9),
    "udp-combined": (1e-3, 1e-3),
    "udp-v0": (0.02, 1.5),
    "udp-original": (0.02, 1.5),
    "udp-combined-v0": (0.001, 1.6),
}


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_points_drawn_in_heatmaps_come_back_in_the_image(decoder, alignment):
    spec = make_spec(**BODY, decoder=decoder, alignment=alignment)
    boxes = BOXES[:5]
    regions = Regions.around(boxes, spec)
    corners = [(0, 0), (47, 0), (0, 63), (47, 63), (0.4, 30), (46.6, 30), (20, 0.6), (20, 62.4), (1.5, 1.5)]
    inside = np.random.default_rng(0).uniform((7, 7), (40, 56), (9, 2))
    for points, error in ((inside, OWN_ERROR[decoder][0]), (np.array(corners), OWN_ERROR[decoder][1])):
        pairs = np.resize(points, (len(boxes) * 2, 2)).reshape(len(boxes), 2, 2)
        truth = regions.to_image(pairs, spec.heatmaps.size_hw).astype(np.float64)

        keypoints = decode_heatmaps(drawn(spec, regions.to_grid(truth, spec.heatmaps.size_hw)), spec)

        found = regions.to_image(keypoints[..., :2], spec.heatmaps.size_hw)
        heatmap_px = np.abs(regions.to_image(pairs + 1, spec.heatmaps.size_hw) - truth)
        assert (np.abs(found - truth) <= (error + 1e-3) * heatmap_px).all()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("boxes", [np.empty((0, 4)), []])
def test_no_boxes_no_regions(alignment, boxes):
    regions = Regions.around(boxes, make_spec(alignment=alignment))

    assert len(regions) == 0
    assert regions.to_image(np.empty((0, 17, 2)), (16, 12)).shape == (0, 17, 2)
    assert regions.to_grid(np.empty((0, 17, 2)), (16, 12)).shape == (0, 17, 2)
    assert regions.to_grid_matrices((16, 12)).shape == (0, 2, 3)
    assert usable_boxes(boxes).shape == (0,)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_the_smallest_and_the_farthest_usable_box_stay_finite(alignment):
    boxes = np.array([[5, 5, 5.0011, 5.0011], [9.9e5, 9.9e5, 9.99e5, 9.99e5], [-9.9e5, -9.9e5, 9.9e5, 9.9e5]])
    assert usable_boxes(boxes).all()

    matrices = Regions.around(boxes, make_spec(alignment=alignment)).to_grid_matrices((64, 48))

    assert np.isfinite(matrices).all()
    assert (matrices[:, [0, 1], [0, 1]] > 0).all()  # not mirrored


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 10),
        (10, 10, 5, 20),
        (0, 0, 10, np.nan),
        (0, 0, np.inf, 10),
        (-np.inf, 0, np.inf, 10),
        (np.inf, 0, np.inf, 10),
        (0, 0, 2e6, 10),
        (0, 0, 1e-5, 1e-5),
        (100.3, 0, 100.301, 10),  # 0.00099 px wide as float32
        (0, 0, 1e300, 10),
    ],
)
def test_boxes_without_area_or_number_are_named(box):
    boxes = np.array([(0, 0, 10, 10), box])

    assert usable_boxes(boxes).tolist() == [True, False]
    with pytest.raises(ValueError, match=r"box 1 .* is not finite or has no area"):
        Regions.around(boxes, make_spec())


def test_boxes_in_view_are_usable_and_reach_into_the_image():
    seen = [(0, 0, 5, 5), (-9, -9, 1, 1), (39, 29, 60, 60)]
    unseen = [(40, 0, 60, 5), (0, 30, 5, 60), (-9, 0, 0, 5), (0, -9, 5, 0), (1, 1, 1, 5), (1, 1, np.nan, 5)]

    found = boxes_in_view(np.array(seen + unseen), (30, 40))

    assert found.tolist() == [True] * 3 + [False] * 6


@pytest.mark.parametrize("boxes", [np.ones((2, 2)), np.ones(4), np.ones((1, 5)), np.ones((1, 1, 4))])
def test_refuses_what_is_not_boxes(boxes):
    with pytest.raises(ValueError, match=r"boxes must be \(N, 4\)"):
        Regions.around(boxes, make_spec())
