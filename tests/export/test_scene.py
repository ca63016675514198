from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("openvino")

from edgepose.estimate.detect import find_people, load_detector
from edgepose.export.drawn.scene import SCENE_HW, draw_scene
from edgepose.stages.similarity import box_iou


def test_the_same_seed_draws_the_same_people_and_another_others():
    image, boxes = draw_scene(3, 5)

    again, _ = draw_scene(3, 5)
    other, _ = draw_scene(3, 6)

    assert image.shape == (*SCENE_HW, 3)
    np.testing.assert_array_equal(image, again)
    assert (image != other).any()
    assert boxes.shape == (3, 4)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= SCENE_HW[::-1]).all()


def test_the_embedded_detector_finds_most_of_them():
    image, boxes = draw_scene(4, 1)

    found, _ = find_people(load_detector(threads=1), image, min_score=0.3)

    assert (box_iou(boxes, found).max(axis=1, initial=0) > 0.5).sum() >= 2
