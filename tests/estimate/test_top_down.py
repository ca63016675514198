from __future__ import annotations

import numpy as np
import pytest

from edgepose import Frame, estimate_many, estimate_poses, load_backend
from tests.makers import dots_image, smooth_image, write_toy_model


@pytest.fixture
def backend(tmp_path):
    pytest.importorskip("openvino")
    return load_backend(write_toy_model(tmp_path / "m.onnx"))


def test_finds_key_points_where_they_were_drawn_in_image_pixels(backend):
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[100:164, 200:248] = dots_image((8, 20), (28, 40))

    poses = estimate_poses(backend, picture, np.array([[200, 100, 248, 164]]))

    np.testing.assert_allclose(poses.xy, [[[208, 120], [228, 140]]], atol=1e-3)
    np.testing.assert_allclose(poses.scores, [[1, 1]], atol=1e-5)


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), [], np.zeros((0, 4), np.float64)])
def test_nobody_gives_no_poses(backend, boxes):
    poses = estimate_poses(backend, smooth_image(), boxes)

    assert len(poses) == 0
    assert poses.xy.shape == (0, 2, 2)


def test_an_unusable_box_keeps_its_row_without_a_pose(backend):
    boxes = np.array([[0, 0, 48, 64], [5, 5, 5, 5], [np.nan, 0, 1, 1], [10, 0, 58, 64]])

    poses = estimate_poses(backend, smooth_image(), boxes)

    assert np.isfinite(poses.xy[[0, 3]]).all()
    assert np.isnan(poses.xy[[1, 2]]).all()
    assert (poses.scores[[1, 2]] == 0).all()


def test_a_box_outside_the_image_gives_points_without_score(backend):
    poses = estimate_poses(backend, smooth_image(), np.array([[1000, 1000, 1100, 1100]]))

    assert (poses.scores == 0).all()


@pytest.mark.parametrize(
    ("image", "boxes"),
    [
        (np.zeros((9, 9), np.uint8), np.zeros((1, 4))),
        (np.zeros((9, 9, 4), np.uint8), np.zeros((1, 4))),
        (np.zeros((9, 9, 3), np.float32), np.zeros((1, 4))),
        (smooth_image(), np.zeros(4)),
        (smooth_image(), np.zeros((4, 5))),
    ],
)
def test_other_shapes_and_types_are_the_callers_mistake(backend, image, boxes):
    with pytest.raises(ValueError, match="must be"):
        estimate_poses(backend, image, boxes)


@pytest.mark.parametrize("flip_test", [False, True])
def test_many_images_give_what_each_gives_alone(backend, flip_test, monkeypatch):
    wide = np.pad(dots_image((8, 20), (28, 40)), ((0, 0), (0, 90), (0, 0)))
    images = [dots_image((8, 20), (28, 40)), smooth_image(), Frame(wide[..., ::-1], "bgr")]
    boxes = [np.array([[0, 0, 48, 64], [np.nan, 0, 1, 1]]), np.zeros((0, 4)), np.array([[0, 0, 48, 64]] * 2)]
    alone = [estimate_poses(backend, *each, flip_test=flip_test) for each in zip(images, boxes, strict=True)]
    batches, run = [], backend.run
    monkeypatch.setattr(backend, "run", lambda crops: batches.append(len(crops)) or run(crops))

    together = estimate_many(backend, images, boxes, flip_test=flip_test)

    assert batches == [6 if flip_test else 3]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.xy, other.xy, atol=1e-4)
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


def test_no_images_give_no_poses_and_lists_must_fit(backend):
    assert estimate_many(backend, [], []) == []
    with pytest.raises(ValueError, match=r"each image wants its own .*; images: 1, boxes: 0"):
        estimate_many(backend, [smooth_image()], [])
