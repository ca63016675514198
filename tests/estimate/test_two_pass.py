"""The second pass: where it looks, what it keeps, and that it sees what the first could not."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose import estimate_poses, load_backend
from edgepose.backends import BACKENDS
from edgepose.estimate.two_pass import closer_regions, find_keypoints, find_keypoints_of
from edgepose.model.heads.heatmaps import Refine
from edgepose.model.skeletons import Skeleton
from edgepose.stages.geometry import Regions
from tests.makers import dots_image, dots_spec, write_toy_model

UNPAIRED = Skeleton("unpaired", ("red", "blue"), flip_pairs=())  # the toy network does not know left from right
TWO_PASS = dots_spec(skeleton=UNPAIRED, flip_shift=0, decoder="argmax", refine=Refine(share=0.5, decoder="argmax"))
WHOLE = np.array([[0, 0, 192, 256]], np.float32)


@pytest.fixture(params=BACKENDS)
def backend(request, tmp_path):
    pytest.importorskip(request.param)
    return load_backend(write_toy_model(tmp_path / "m.onnx", TWO_PASS), backend=request.param)


def in_large(*dots: tuple[int, int]) -> np.ndarray:
    """Four times the size of the crop, so that a heat-map px is 16 image px in the first pass and 8 in the second."""
    return dots_image(*dots, height=256, width=192)


class Recorded:
    """A backend that remembers the regions and decoders it was asked for, and answers with what it is told."""

    def __init__(self, spec, answers):
        self.spec, self.answers, self.asked = spec, list(answers), []

    def keypoints(self, image, regions, *, flip_test=False, decoder=None):
        self.asked.append((regions, flip_test, decoder))
        return np.asarray(self.answers.pop(0), np.float32).reshape(len(regions), 2, 3)

    def keypoints_of(self, images, regions, **options):
        return [self.keypoints(*each, **options) for each in zip(images, regions, strict=True)]


@pytest.mark.parametrize("flip_test", [False, True])
def test_the_second_pass_is_nearer_than_the_first(backend, flip_test):
    image, truth = in_large((42, 90), (130, 170)), np.array([[[43.5, 91.5], [131.5, 171.5]]])
    regions = Regions.around(WHOLE, backend.spec)

    coarse = backend.keypoints(image, regions)[..., :2]
    fine = find_keypoints(backend, image, regions, flip_test=flip_test)[..., :2]

    errors = [np.linalg.norm(found - truth, axis=-1) for found in (coarse, fine)]
    assert (errors[1] < 8).all()
    assert errors[1].mean() < 0.7 * errors[0].mean()


def test_several_images_are_refined_as_each_is_alone(backend):
    images = [in_large((42, 90), (130, 170)), in_large((60, 100), (120, 160))]
    regions = [Regions.around(WHOLE.repeat(count, axis=0), backend.spec) for count in (2, 1)]

    together = find_keypoints_of(backend, images, regions)

    for found, image, each in zip(together, images, regions, strict=True):
        np.testing.assert_allclose(found, find_keypoints(backend, image, each), atol=1e-3)


def test_poses_are_refined(backend):
    image = in_large((42, 90), (130, 170))

    poses = estimate_poses(backend, image, WHOLE)

    np.testing.assert_array_equal(
        poses.xy, find_keypoints(backend, image, Regions.around(WHOLE, backend.spec))[..., :2]
    )


def test_nobody_costs_nothing(backend):
    found = find_keypoints(backend, in_large((0, 0), (9, 9)), Regions.around(np.zeros((0, 4)), backend.spec))

    assert found.shape == (0, 2, 3)


def test_one_pass_is_all_that_other_models_take():
    spec = TWO_PASS.changed(refine=None)
    backend = Recorded(spec, [[[1, 2, 0.5], [3, 4, 0.5]]])

    found = find_keypoints(backend, np.zeros((9, 9, 3), np.uint8), Regions.around(WHOLE, spec))

    assert found.tolist() == [[[1, 2, 0.5], [3, 4, 0.5]]]
    assert len(backend.asked) == 1


def test_each_located_key_point_gets_a_crop_of_its_own_and_keeps_its_row():
    spec = TWO_PASS.changed(refine=Refine(share=0.25, decoder="dark"))
    first = [[[10, 20, 0.5], [0, 0, -0.1]], [[30, 40, 0.6], [50, 60, 0.5]]]  # one is not located
    second = [[[11, 21, 0.41], [9, 9, 9]], [[36, 40, 0.2], [9, 9, 9]], [[9, 9, 9], [57, 60, 0.39]]]  # two are unsure
    backend = Recorded(spec, [first, second])
    regions = Regions.around(np.repeat(WHOLE, 2, axis=0), spec)

    found = find_keypoints(backend, np.zeros((9, 9, 3), np.uint8), regions, flip_test=True)

    close, flip_test, decoder = backend.asked[1]
    assert close.center_xy.tolist() == [[10, 20], [30, 40], [50, 60]]
    assert close.size_wh.tolist() == [[48, 64]] * 3
    assert (flip_test, decoder) == (True, "dark")
    share = 0.39 / (0.5 + 0.39)
    mixed = [50 + 7 * share, 60, 0.5 - 0.11 * share]
    expected = [[[11, 21, 0.41], [0, 0, -0.1]], [[31.5, 40, 0.5], mixed]]
    np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-6)


@pytest.mark.parametrize("alignment", ["corner", "udp", "darkpose", "half-pixel"])
def test_a_closer_region_is_cut_by_the_same_warp(alignment):
    spec = TWO_PASS.changed(alignment=alignment)
    regions = Regions.around(WHOLE, spec)

    close = closer_regions(regions, np.array([[[40.0, 50.0, 1.0]]]), np.array([0]), np.array([0]), 0.5)

    assert close.alignment == alignment
    whole_px, close_px = (1 / each.to_grid_matrices(spec.image.size_hw)[0, 0, 0] for each in (regions, close))
    assert close_px == pytest.approx(whole_px / 2, rel=0.02)


@pytest.mark.parametrize("score", [0.0, -0.5])
def test_where_the_second_pass_sees_nothing_the_first_one_stays(score):
    backend = Recorded(
        TWO_PASS, [[[[10, 20, 0.5], [30, 40, 0.6]]], [[[11, 21, score], [9, 9, 9]], [[9, 9, 9], [31, 41, score]]]]
    )

    found = find_keypoints(backend, np.zeros((9, 9, 3), np.uint8), Regions.around(WHOLE, TWO_PASS))

    np.testing.assert_allclose(found, np.array([[[10, 20, 0.5], [30, 40, 0.6]]], np.float32))


def test_what_is_found_far_from_a_closer_crops_centre_is_not_believed():
    spec = TWO_PASS.changed(refine=Refine(share=0.25, decoder="argmax"))  # closer crops are 48 px wide, 64 px high
    first = [[[50, 60, 0.5], [50, 60, 0.5]], [[50, 60, 0.5], [50, 60, 0.5]]]
    found = [[57.1, 60, 0.9], [57.3, 60, 0.9], [50, 50.5, 0.9], [50, 50.3, 0.9]]  # 0.15 of 48 is 7.2, of 64 9.6
    second = [[point, point] for point in found]

    kept = find_keypoints(
        Recorded(spec, [first, second]),
        np.zeros((9, 9, 3), np.uint8),
        Regions.around(np.repeat(WHOLE, 2, axis=0), spec),
    )

    expected = [[found[0], [50, 60, 0.5]], [found[2], [50, 60, 0.5]]]
    np.testing.assert_allclose(kept, np.array(expected, np.float32))
