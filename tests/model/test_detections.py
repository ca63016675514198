from __future__ import annotations

from typing import Any

import pytest

from edgepose.model.heads.detections import LAYOUTS, Detections


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_names_its_outputs(layout: str):
    shapes = Detections(layout).output_shapes((416, 416))

    assert shapes
    assert all(size is None or size > 0 for shape in shapes.values() for size in shape)


def test_shapes_are_those_of_published_files():
    assert Detections("yolox").output_shapes((416, 416)) == {"output": (3549, 85)}
    assert Detections("bins", bins=11).output_shapes((416, 416))["boxes_8"] == (2704, 44)
    person = Detections("distances", classes=1, channels_last=True, joined=True)
    assert person.output_shapes((320, 320)) == {
        "level_8": (40, 40, 5),
        "level_16": (20, 20, 5),
        "level_32": (10, 10, 5),
    }
    assert Detections("yolo", candidates=8400).output_shapes((640, 640)) == {"output": (84, 8400)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layout": "ssd"}, "layout must be one of yolox, "),
        ({"classes": 0}, "classes must be a whole number from 1"),
        ({"person": 80}, "person must be a class from 0 to 79, got 80"),
        ({"strides": ()}, "strides must be whole numbers"),
        ({"activation": "relu"}, "activation must be one of none, sigmoid, softmax"),
        ({"min_score": float("nan")}, "min_score must be from 0 to 1"),
        ({"nms_iou": 0}, "nms_iou must be over 0"),
        ({"candidates": 0}, "candidates must be a whole number over 0"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, Any], told: str):
    with pytest.raises(ValueError, match=told):
        Detections(**{"layout": "yolox", **changes})
