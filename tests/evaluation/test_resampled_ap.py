from __future__ import annotations

import numpy as np
import pytest

from edgepose.evaluation.coco_ap import average_precision, box_average_precision, resampled_ap
from edgepose.io.annotations import AnnotatedImage

pytest.importorskip("pycocotools")

SIGMAS = (0.05, 0.05)
FOUND_IN = (True, False, True)  # the person of the middle image is found by nobody


def truth_of() -> list[AnnotatedImage]:
    """Three images of one person each, 100 x 100 px at (10, 20), key points in two of its corners."""
    points = np.array([[[10.0, 20.0, 2.0], [110.0, 120.0, 2.0]]])
    box, area, crowd = np.array([[10.0, 20.0, 100.0, 100.0]]), np.array([1e4]), np.zeros(1, bool)
    return [AnnotatedImage(i, f"{i}.jpg", None, box, area, crowd, points, np.full(1, np.nan)) for i in (1, 2, 3)]


def boxes_of() -> list[tuple[np.ndarray, np.ndarray]]:
    box = np.array([[10.0, 20.0, 110.0, 120.0]])
    return [(box[: int(found)], np.ones(int(found))) for found in FOUND_IN]


def poses_of() -> list[tuple[np.ndarray, np.ndarray]]:
    pose = np.array([[[10.0, 20.0], [110.0, 120.0]]])
    return [(pose[: int(found)], np.ones(int(found))) for found in FOUND_IN]


def test_all_images_once_give_the_ap_of_boxes_and_of_key_points():
    everything = [np.arange(3)]

    boxes = resampled_ap(truth_of(), boxes_of(), everything)
    points = resampled_ap(truth_of(), poses_of(), everything, SIGMAS)

    np.testing.assert_allclose(boxes, [box_average_precision(truth_of(), boxes_of())["AP"]])
    np.testing.assert_allclose(points, [average_precision(truth_of(), poses_of(), SIGMAS)["AP"]])
    assert 0 < boxes[0] < 1


def test_images_count_as_often_as_they_were_drawn():
    drawn = resampled_ap(truth_of(), boxes_of(), [np.array([0, 2, 2]), np.array([1, 1, 1])])

    np.testing.assert_allclose(drawn, [1, 0])  # with the middle image left out all are found; in it alone nobody
    assert len(resampled_ap(truth_of(), boxes_of(), [])) == 0
