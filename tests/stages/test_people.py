from __future__ import annotations

import numpy as np
import pytest

from edgepose.model.heads.people import LAYOUTS, People
from edgepose.stages.people import candidates, decode_people

INPUT = (64, 96)
K = 3
BOX = np.array([10, 20, 50, 60], np.float32)
POINTS = np.array([[12, 22, 0.9], [30, 40, 0.8], [48, 58, 0.7]], np.float32)  # x, y, score
HEADS = {
    "yolo": People("yolo", classes=2, person=1, nms_iou=0.5),
    "yolo-xy": People("yolo", values=2),
    "end-to-end": People("end-to-end", classes=2, person=1),
    "dets": People("dets"),
    "queries": People("queries", classes=2),
    "queries-no-boxes": People("queries", values=2, boxes=False),
    "movenet-multi": People("movenet-multi"),
    "movenet-single": People("movenet-single"),
    "landmarks": People("landmarks", points=5),
}


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def candidate(name: str, score: float = 0.6) -> dict[str, np.ndarray]:
    """One candidate as each layout has it, without batch: POINTS in BOX."""
    head, wh = HEADS[name], np.array(INPUT[::-1])
    points = POINTS[:, : head.values]
    centre = np.concatenate([(BOX[:2] + BOX[2:]) / 2, BOX[2:] - BOX[:2]])
    shares = points / [*wh, 1][: head.values]
    yx = np.stack([POINTS[:, 1] / wh[1], POINTS[:, 0] / wh[0], POINTS[:, 2]], axis=1)
    if name.startswith("yolo"):
        scores = [0.99, score] if head.classes == 2 else [score]
        return {"output": np.concatenate([centre, scores, points.ravel()])[:, None]}
    if name == "end-to-end":
        return {"output": np.concatenate([BOX, [score, 1], points.ravel()])[None]}
    if name == "dets":
        return {"dets": np.append(BOX, score)[None], "keypoints": points[None]}
    if name.startswith("queries"):
        logits = np.array([[logit(score), 9][: head.classes]])
        return {"logits": logits, "keypoints": shares.reshape(1, -1), "boxes": (centre / [*wh, *wh])[None]}
    if name == "movenet-multi":
        box = BOX[[1, 0, 3, 2]] / [*INPUT, *INPUT]
        return {"output": np.concatenate([yx.ravel(), box, [score]])[None]}
    if name == "movenet-single":
        return {"output": yx[None]}
    of_points = np.stack([*POINTS[:, :2].T, np.zeros(K), np.full(K, 9.0), [logit(s) for s in POINTS[:, 2]]], axis=1)
    return {"output": np.concatenate([of_points.ravel(), np.full(10, 7.0)]), "score": np.array([score])}


def batch(*images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.stack([image[name] for image in images]).astype(np.float32) for name in images[0]}


@pytest.mark.parametrize("name", HEADS)
def test_reads_the_person_that_was_written(name):
    found = decode_people(batch(candidate(name), candidate(name)), HEADS[name], K, INPUT)

    assert len(found) == 2
    for people in found:
        no_boxes = name in ("queries-no-boxes", "movenet-single", "landmarks")
        box = [12, 22, 48, 58] if no_boxes else BOX
        score = POINTS[:, 2].mean() if name == "movenet-single" else 0.6
        wanted = POINTS.copy()
        if HEADS[name].values == 2:
            wanted[:, 2] = 0.6
        np.testing.assert_allclose(people.boxes_xyxy, [box], atol=1e-4)
        np.testing.assert_allclose(people.box_scores, [score], atol=1e-6)
        np.testing.assert_allclose(people.keypoints, wanted[None], atol=1e-4)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "movenet-single"])
def test_candidates_of_a_low_score_are_nobody(name):
    (people,) = decode_people(batch(candidate(name, score=0.2)), HEADS[name], K, INPUT)

    assert people.boxes_xyxy.shape == (0, 4)
    assert people.box_scores.shape == (0,)
    assert people.keypoints.shape == (0, K, 3)


@pytest.mark.parametrize("name", HEADS)
def test_no_images_give_no_people(name):
    none = {key: values[:0] for key, values in batch(candidate(name)).items()}

    assert decode_people(none, HEADS[name], K, INPUT) == []


@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_finite_is_nobody(name):
    outputs = batch(candidate(name))
    largest = max(outputs, key=lambda key: outputs[key].size)
    outputs[largest].reshape(-1)[0] = np.nan  # a corner or a key point

    (people,) = decode_people(outputs, HEADS[name], K, INPUT)

    assert len(people.box_scores) == 0


def test_overlapping_boxes_are_suppressed_best_first():
    head = People("yolo", nms_iou=0.5)
    rows = [[30, 40, 20, 20, 0.5], [31, 40, 20, 20, 0.9], [70, 40, 20, 20, 0.7]]
    output = np.array([[*row, *POINTS.ravel()] for row in rows], np.float32).T[None]

    (people,) = decode_people({"output": output}, head, K, INPUT)

    assert people.box_scores.tolist() == pytest.approx([0.9, 0.7])


def test_a_network_that_suppressed_is_believed():
    dets = np.array([[[10, 20, 50, 60, 0.5], [10, 20, 50, 60, 0.9]]], np.float32)
    keypoints = np.stack([POINTS, POINTS])[None]

    (people,) = decode_people({"dets": dets, "keypoints": keypoints}, People("dets"), K, INPUT)

    assert people.box_scores.tolist() == pytest.approx([0.9, 0.5])  # both, best first


def test_other_classes_are_nobody():
    outputs = candidate("end-to-end")
    outputs["output"][0, 5] = 0

    (people,) = decode_people(batch(outputs), HEADS["end-to-end"], K, INPUT)

    assert len(people.box_scores) == 0


@pytest.mark.parametrize(
    ("outputs", "head", "message"),
    [
        ({"dets": np.zeros((1, 2, 5))}, People("dets"), "outputs dets, keypoints, got dets"),
        # a file of two classes, read as one of one: another number of channels
        ({"output": np.zeros((1, 6 + 9, 8))}, People("yolo"), r"\(N, 14, any\) for 3 key points, got \(1, 15, 8\)"),
        ({"output": np.zeros((1, 8, 6 + 51))}, People("end-to-end"), r"\(N, any, 15\)"),
        ({"output": np.zeros((1, 1, 17, 3))}, People("movenet-single"), r"\(N, 1, 3, 3\)"),
        ({"output": np.zeros((1, 14))}, People("yolo"), "got"),
    ],
)
def test_outputs_that_do_not_fit_the_head_are_refused(outputs, head, message):
    with pytest.raises(ValueError, match=message):
        decode_people(outputs, head, K, INPUT)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layout": "ssd"}, "one of yolo"),
        ({"classes": 0}, "classes"),
        ({"person": 1}, "from 0 to 0"),
        ({"values": 4}, "values"),
        ({"min_score": float("nan")}, "min_score"),
        ({"nms_iou": 0}, "nms_iou"),
        ({"candidates": 0}, "candidates"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        People(**{"layout": "yolo", **fields})


def test_every_layout_is_read():
    assert {head.layout for head in HEADS.values()} == set(LAYOUTS)


def test_an_uncertain_place_takes_from_the_score_of_a_person_as_rfdetr_has_it():
    head = People("queries", classes=2, values=8, min_score=0.0)
    values = np.zeros((1, 2, 1, 8), np.float32)
    values[0, :, 0, :3] = 0.25, 0.5, np.log(3)
    values[0, 1, 0, 4:7] = np.log(2), 3.0, 0.0  # covariance's trace: 1/4 + 1 + 9/4
    boxes = np.full((1, 2, 4), 0.5, np.float32)
    outputs = {"logits": np.zeros((1, 2, 2), np.float32), "keypoints": values, "boxes": boxes}

    _, scores, keypoints = candidates(outputs, head, 1, (40, 80))

    odds = 0.5 / np.array([2.0, 3.5]) ** 0.2  # the sigmoid of a logarithm x is e^x / (1 + e^x)
    np.testing.assert_allclose(scores, [odds / (1 + odds)], rtol=1e-6)
    np.testing.assert_allclose(keypoints, [[[[20, 20, 0.75]]] * 2], rtol=1e-6)
