from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepose.model.heads.detections import Detections
from edgepose.stages.detect import candidates, find_boxes

INPUT_HW = (64, 96)
BOX = np.array([12.0, 20.0, 44.0, 52.0], np.float32)  # its centre, (28, 36), is that of no cell
BESIDE = BOX + np.array([40, 0, 40, 0], np.float32)
SCORE, PERSON, CLASSES = 0.75, 2, 3
STRIDES = (8, 16)
HEADS = {
    "yolox": Detections("yolox", CLASSES, PERSON, strides=STRIDES),
    "yolox, logits": Detections("yolox", CLASSES, PERSON, "sigmoid", strides=STRIDES),
    "bins": Detections("bins", CLASSES, PERSON, strides=STRIDES, bins=8, cell="center"),
    "bins of corners": Detections("bins", CLASSES, PERSON, strides=STRIDES, bins=8),
    "distances": Detections("distances", CLASSES, PERSON, "sigmoid", STRIDES, unit="px"),
    "distances, joined": Detections(
        "distances", CLASSES, PERSON, "sigmoid", STRIDES, channels_last=True, joined=True, cell="center"
    ),
    "boxes": Detections("boxes", CLASSES, PERSON),
    "boxes, scores first": Detections("boxes", CLASSES, PERSON, scores_first=True),
    "dets": Detections("dets", CLASSES, PERSON, nms_iou=None),
    "end-to-end": Detections("end-to-end", CLASSES, PERSON, nms_iou=None),
    "yolo": Detections("yolo", CLASSES, PERSON, extra=5),
    "queries": Detections("queries", CLASSES, PERSON, "sigmoid", nms_iou=None),
    "queries, softmax": Detections("queries", CLASSES, PERSON, "softmax", nms_iou=None),
}
MANY = 30  # candidates where the layout leaves them open


def empty(head: Detections, count: int) -> dict[str, np.ndarray]:
    """Outputs in which nobody is found."""
    shapes = head.output_shapes(INPUT_HW)
    outputs = {name: [size or MANY for size in shape] for name, shape in shapes.items()}
    low = -20.0 if head.activation == "sigmoid" else 0.0
    return {name: np.full((count, *shape), low, np.float32) for name, shape in outputs.items()}


def logit(score: float, head: Detections) -> Any:
    return np.log(score / (1 - score)) if head.activation == "sigmoid" else score


def with_person(head: Detections) -> dict[str, np.ndarray]:
    """Outputs of one picture in which one candidate is BOX with SCORE: each layout written down by its definition."""
    outputs = empty(head, 1)
    width, height = BOX[2:] - BOX[:2]
    middle = (BOX[:2] + BOX[2:]) / 2
    (_, columns), stride = head.grids(INPUT_HW)[8], 8
    row, column = 4, 3  # a cell of stride 8 in the box
    index = row * columns + column
    point = (np.array([column, row]) + (0.5 if head.cell == "center" else 0)) * stride
    reach = np.concatenate([point - BOX[:2], BOX[2:] - point])
    scores = np.zeros(CLASSES, np.float32) if head.activation == "none" else np.full(CLASSES, -20.0, np.float32)
    scores[PERSON] = logit(SCORE, head)
    if head.layout == "yolox":
        size = np.log([width / stride, height / stride])
        sure = 20.0 if head.activation == "sigmoid" else 1.0
        outputs["output"][0, index] = [*(middle / stride - (column, row)), *size, sure, *scores]
    elif head.layout == "bins":
        outputs["scores_8"][0, index] = scores
        outputs["boxes_8"][0, index] = expected_bins(reach / stride, head.bins)
    elif head.layout == "distances":
        value = np.concatenate([scores, reach / (stride if head.unit == "stride" else 1)])
        if head.joined:
            outputs["level_8"][0, row, column] = value
        else:
            outputs["scores_8"][0, :, row, column], outputs["boxes_8"][0, :, row, column] = scores, reach
    elif head.layout == "boxes":
        outputs["boxes"][0, 7] = BOX
        of_candidate = outputs["scores"][0].T if head.scores_first else outputs["scores"][0]
        of_candidate[7] = scores
    elif head.layout == "dets":
        outputs["dets"][0, 7], outputs["labels"][0, 7] = [*BOX, SCORE], PERSON
    elif head.layout == "end-to-end":
        outputs["output"][0, 7] = [*BOX, SCORE, PERSON]
    elif head.layout == "yolo":
        outputs["output"][0, :, 7] = [*middle, width, height, *scores, *[9.0] * head.extra]
    else:
        outputs["boxes"][0, 7] = np.array([*middle, width, height]) / [96, 64, 96, 64]
        if head.activation == "softmax":
            outputs["logits"][0] = [0, 20, 0]
            outputs["logits"][0, 7] = np.log([(1 - SCORE) / 2, (1 - SCORE) / 2, SCORE])
        else:
            outputs["logits"][0, 7] = scores
    return outputs


def expected_bins(distances: np.ndarray, bins: int) -> np.ndarray:
    """Logits whose distributions lie on the two whole numbers around each distance."""
    logits = np.full((4, bins), -30.0, np.float32)
    for side, distance in enumerate(distances):
        low = int(distance)
        for value, share in ((low, 1 - distance + low), (low + 1, distance - low)):
            if share > 0:
                logits[side, value] = np.log(share)
    return logits.ravel()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_finds_nobody_where_nobody_is(name: str, count: int):
    found = find_boxes(empty(HEADS[name], count), HEADS[name], INPUT_HW)

    assert len(found) == count
    assert all(boxes.shape == (0, 4) and scores.shape == (0,) for boxes, scores in found)


@pytest.mark.parametrize("name", HEADS)
def test_finds_the_box_that_was_written_down(name: str):
    outputs = with_person(HEADS[name])

    ((boxes, scores),) = find_boxes(outputs, HEADS[name], INPUT_HW)

    assert boxes.shape == (1, 4)
    assert np.abs(boxes[0] - BOX).max() < 1e-3  # float32 of logarithms and exponentials of numbers below 100
    assert scores == pytest.approx([SCORE], abs=1e-5)


@pytest.mark.parametrize("name", ["boxes", "end-to-end", "yolo", "dets", "queries"])
def test_another_class_is_nobody(name: str):
    outputs = with_person(HEADS[name])
    other = Detections(**{**vars(HEADS[name]), "person": 0})

    ((boxes, _),) = find_boxes(outputs, other, INPUT_HW)

    assert len(boxes) == 0


def test_of_overlapping_boxes_the_surest_stays():
    outputs = empty(HEADS["boxes"], 1)
    outputs["boxes"][0, :3] = [BOX, BOX + 1, BESIDE]
    outputs["scores"][0, :3, PERSON] = [0.5, 0.9, 0.7]

    ((boxes, scores),) = find_boxes(outputs, HEADS["boxes"], INPUT_HW)

    np.testing.assert_allclose(boxes, [BOX + 1, BESIDE])
    np.testing.assert_allclose(scores, [0.9, 0.7])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", HEADS)
def test_numbers_that_are_none_are_nobody(name: str, value: float):
    outputs = {key: np.full_like(values, value) for key, values in empty(HEADS[name], 2).items()}

    found = find_boxes(outputs, HEADS[name], INPUT_HW)

    assert all(np.isfinite(boxes).all() and np.isfinite(scores).all() for boxes, scores in found)


def test_tens_of_thousands_of_sure_boxes_end_as_a_thousand_at_most():
    head = Detections("boxes", 1, nms_iou=0.65)
    corner = np.random.default_rng(0).uniform(0, 1e5, (1, 20_000, 2)).astype(np.float32)
    outputs = {"boxes": np.concatenate([corner, corner + 10], axis=2), "scores": np.ones((1, 20_000, 1), np.float32)}

    ((boxes, _),) = find_boxes(outputs, head, INPUT_HW)

    assert len(boxes) <= 1000


def test_wrong_outputs_are_told():
    head = HEADS["boxes"]

    with pytest.raises(ValueError, match=r"must have boxes, scores; found heatmaps"):
        candidates({"heatmaps": np.zeros((1, 17, 64, 48))}, head, INPUT_HW)
    with pytest.raises(ValueError, match=r"scores must be \(N, \?, 3\), got \(1, 30, 80\)"):
        candidates({"boxes": np.zeros((1, 30, 4)), "scores": np.zeros((1, 30, 80))}, head, INPUT_HW)
