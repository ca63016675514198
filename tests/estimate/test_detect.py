from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from edgepose.errors import ModelFileError
from edgepose.estimate.detect import as_input, find_people, find_people_in
from edgepose.model.spec import Input
from edgepose.stages.frames import Frame
from edgepose.stages.letterbox import Letterbox
from tests.estimate.fakes import ColourDetector, FixedPose, picture_of

ONE, OTHER = (10, 8, 30, 48), (50, 20, 80, 60)


def test_people_are_found_where_they_are_surest_first():
    boxes, scores = find_people(ColourDetector(), picture_of(OTHER, ONE))

    assert boxes.tolist() == [list(OTHER), list(ONE)]
    assert scores.tolist() == pytest.approx([0.9, 0.8])


def test_boxes_are_in_the_images_pixels():
    image = np.kron(picture_of(ONE), np.ones((10, 10, 1), np.uint8))  # ten times the network's input

    boxes, _ = find_people(ColourDetector(), image)

    assert np.abs(boxes[0] / 10 - ONE).max() <= 1  # a pixel of the input


def test_nobody_is_found_in_an_empty_picture_and_no_run_is_made_for_no_picture():
    detector = ColourDetector()

    boxes, scores = find_people(detector, picture_of())

    assert (boxes.shape, scores.shape) == ((0, 4), (0,))
    assert find_people_in(detector, []) == []
    assert detector.batches == [1]


def test_doubtful_people_are_left_out():
    boxes, _ = find_people(ColourDetector(), picture_of(ONE, OTHER), min_score=0.85)

    assert boxes.tolist() == [list(ONE)]


def test_several_images_of_any_size_share_one_run():
    detector = ColourDetector()
    images = [picture_of(ONE), picture_of(OTHER, ONE, height=128, width=192), picture_of()]

    found = find_people_in(detector, images)

    assert detector.batches == [3]
    assert [len(boxes) for boxes, _ in found] == [1, 2, 0]


def test_a_frame_of_another_format_is_seen_alike():
    image = picture_of(ONE)

    boxes, _ = find_people(ColourDetector(), Frame(np.ascontiguousarray(image[..., ::-1]), "bgr"))

    assert boxes.tolist() == [list(ONE)]


def test_a_pose_network_is_no_detector():
    with pytest.raises(ModelFileError, match=r"fixed finds no boxes of people \(its head is heatmaps\)"):
        find_people(cast(Any, FixedPose()), picture_of())


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_input_is_normalised_in_the_networks_order(order: str):
    image = np.full((4, 6, 3), (10, 20, 30), np.uint8)
    picture = Input((4, 8), order, (1.0, 2.0, 3.0), (2.0, 4.0, 8.0), "letterbox", fill=0)

    planes = as_input(image, Letterbox.of((4, 6), picture), picture)

    shown = (10, 20, 30) if order == "rgb" else (30, 20, 10)
    for plane, value, mean, std in zip(planes, shown, picture.mean, picture.std, strict=True):
        assert (plane[:, :6] == np.float32((value - mean) / std)).all()
        assert (plane[:, 6:] == np.float32(-mean / std)).all()
