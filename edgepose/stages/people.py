"""Outputs of networks that give boxes and key points in one -> the people of each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepose.model.heads.people import People
from edgepose.stages.nms import suppress

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Found:
    """The people of one image, best first; there may be none.

    Attributes:
        boxes_xyxy: (M, 4) float32, px of the network's input.
        box_scores: (M,) float32.
        keypoints: (M, K, 3) float32: x, y in px of the network's input, score.
    """

    boxes_xyxy: np.ndarray
    box_scores: np.ndarray
    keypoints: np.ndarray


def decode_people(outputs: Arrays, head: People, num_keypoints: int, input_hw: tuple[int, int]) -> list[Found]:
    """Find the people of each image of a batch.

    Where a layout has no box, it is the smallest around the key points; where key points have no score of their own,
    they have the person's. A candidate with a score, box or key point that is not finite is nobody.

    Args:
        outputs: as the head's layout says, float32 or float16.
        num_keypoints: K.
        input_hw: of the network's input.

    Returns:
        One `Found` an image.

    Raises:
        ValueError: an output is missing or of another shape.
    """
    boxes, scores, keypoints = candidates(outputs, head, num_keypoints, input_hw)
    return [_best(*one, head) for one in zip(boxes, scores, keypoints, strict=True)]


def decode_one_person(outputs: Arrays, head: People, num_keypoints: int, input_hw: tuple[int, int]) -> np.ndarray:
    """The key points of the one person of each crop, of a layout that looks at one.

    Returns:
        (N, K, 3) float32: x, y in px of the network's input, score. Where the network says that nobody is there, or
        gives what is not finite, all scores are 0.
    """
    _, scores, keypoints = candidates(outputs, head, num_keypoints, input_hw)
    found = keypoints[:, 0].copy()
    there = np.isfinite(found).all(axis=(1, 2)) & (scores[:, 0] >= head.min_score)  # False for NaN
    found[~there, :, 2] = 0
    return np.nan_to_num(found, posinf=0, neginf=0)


def candidates(
    outputs: Arrays, head: People, num_keypoints: int, input_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, A, 4) boxes, (N, A) scores and (N, A, K, 3) key points, float32, before any choice; see `decode_people`."""
    arrays = {name: np.asarray(outputs[name], np.float32) for name in _checked(outputs, head, num_keypoints)}
    boxes, scores, keypoints = _READERS[head.layout](arrays, head, num_keypoints, np.array(input_hw, np.float32))
    return boxes, scores, keypoints.astype(np.float32, copy=False)


def _best(boxes: np.ndarray, scores: np.ndarray, keypoints: np.ndarray, head: People) -> Found:
    """One image's candidates (A, 4), (A,), (A, K, 3) -> the people."""
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(keypoints).all(axis=(1, 2))
    likely = np.flatnonzero(finite & (scores >= head.min_score) & (scores < np.inf))  # False for NaN
    if head.nms_iou is None:
        kept = likely[np.argsort(-scores[likely], kind="stable")]
    else:
        kept = likely[suppress(boxes[likely], scores[likely], head.nms_iou)]
    return Found(boxes[kept], scores[kept], keypoints[kept])


_Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes (N, A, 4), scores (N, A), key points (N, A, K, 3)


def _yolo(arrays: Arrays, head: People, count: int, input_hw: np.ndarray) -> _Candidates:
    rows = arrays["output"].transpose(0, 2, 1)
    scores = rows[..., 4 + head.person]
    keypoints = _with_scores(rows[..., 4 + head.classes :], scores, count)
    return _corners(rows[..., :4]), scores, keypoints


def _end_to_end(arrays: Arrays, head: People, count: int, input_hw: np.ndarray) -> _Candidates:
    rows = arrays["output"]
    scores = np.where(np.round(rows[..., 5]) == head.person, rows[..., 4], 0)
    return rows[..., :4], scores, _with_scores(rows[..., 6:], scores, count)


def _dets(arrays: Arrays, head: People, count: int, input_hw: np.ndarray) -> _Candidates:
    return arrays["dets"][..., :4], arrays["dets"][..., 4], arrays["keypoints"]


def _queries(arrays: Arrays, head: People, count: int, input_hw: np.ndarray) -> _Candidates:
    scores = _sigmoid(arrays["logits"][..., head.person])
    if head.values == 8:
        keypoints, scores = _with_precision(arrays["keypoints"], scores)
    else:
        keypoints = _with_scores(arrays["keypoints"], scores, count)
    keypoints[..., :2] *= input_hw[::-1]
    if not head.boxes:
        return _around(keypoints), scores, keypoints
    return _corners(arrays["boxes"] * np.tile(input_hw[::-1], 2)), scores, keypoints


def _movenet_multi(arrays: Arrays, head: People, count: int, input_hw: np.ndarray) -> _Candidates:
    rows = arrays["output"]
    keypoints = _from_yx(rows[..., : 3 * count].reshape(*rows.shape[:2], count, 3), input_hw)
    boxes = rows[..., [-4, -5, -2, -3]] * np.tile(input_hw[::-1], 2)
    return boxes, rows[..., -1], keypoints


def _movenet_single(arrays: Arrays, head: People, count: int, input_hw: np.ndarray) -> _Candidates:
    keypoints = _from_yx(arrays["output"], input_hw)
    return _around(keypoints), keypoints[..., 2].mean(axis=2), keypoints


def _landmarks(arrays: Arrays, head: People, count: int, input_hw: np.ndarray) -> _Candidates:
    output = arrays["output"]
    values = output.reshape(len(output), 1, output.shape[1] // 5, 5)[:, :, :count]
    seen = np.minimum(_sigmoid(values[..., 3]), _sigmoid(values[..., 4]))  # visible, and inside the crop
    keypoints = np.concatenate([values[..., :2], seen[..., None]], axis=3)
    return _around(keypoints), arrays["score"], keypoints


_READERS = {
    "yolo": _yolo,
    "end-to-end": _end_to_end,
    "dets": _dets,
    "queries": _queries,
    "movenet-multi": _movenet_multi,
    "movenet-single": _movenet_single,
    "landmarks": _landmarks,
}


def _with_scores(values: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """(N, A, K V) values of the key points -> (N, A, K, 3); where V is 2, with the person's score."""
    keypoints = np.array(values.reshape(*values.shape[:2], count, values.shape[2] // count))
    if keypoints.shape[3] == 3:
        return keypoints
    return np.concatenate([keypoints, np.broadcast_to(scores[..., None, None], (*keypoints.shape[:3], 1))], axis=3)


def _with_precision(values: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, A, K, 8) of RF-DETR's key points -> (N, A, K, 3), and scores (N, A) with how sure the places are.

    As its `PostProcess` has it: a score is the sigmoid of its logarithm less a fifth of the logarithm of the mean trace
    of the key points' covariances, each weighed by whether it can be found.
    """
    found = _sigmoid(values[..., 2])
    log_l11, l21, log_l22 = (values[..., index].astype(np.float64) for index in (4, 5, 6))
    crossed = 2 * np.log(np.maximum(np.abs(l21), 1e-12)) - 2 * (log_l11 + log_l22)
    log_trace = np.logaddexp(np.logaddexp(-2 * log_l11, -2 * log_l22), crossed)
    weights = np.log(np.maximum(found, 1e-12)).astype(np.float64)
    mean = np.logaddexp.reduce(log_trace + weights, axis=2) - np.logaddexp.reduce(weights, axis=2)
    fused = _sigmoid(np.log(np.maximum(scores, 1e-30)) - 0.2 * mean)
    return np.concatenate([values[..., :2], found[..., None]], axis=3), fused.astype(np.float32)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Centre x, y, width, height -> left, top, right, bottom."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def _around(keypoints: np.ndarray) -> np.ndarray:
    """(N, A, K, 3) -> (N, A, 4): the smallest box around the points."""
    return np.concatenate([keypoints[..., :2].min(axis=2), keypoints[..., :2].max(axis=2)], axis=2)


def _from_yx(points: np.ndarray, input_hw: np.ndarray) -> np.ndarray:
    """(..., 3) of y, x as shares of the input, score -> x, y in px, score."""
    return np.stack([points[..., 1] * input_hw[1], points[..., 0] * input_hw[0], points[..., 2]], axis=-1)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -80, 80)))


def _checked(outputs: Arrays, head: People, num_keypoints: int) -> list[str]:
    """The names of the head's outputs, all of them there and of the right shape."""
    wanted = head.output_shapes(num_keypoints)
    if not set(wanted) <= set(outputs):
        raise ValueError(f"a {head.layout} head has the outputs {', '.join(wanted)}, got {', '.join(outputs)}")
    for name, shape in wanted.items():
        found = np.shape(outputs[name])
        if len(found) != len(shape) + 1 or any(a not in (None, b) for a, b in zip(shape, found[1:], strict=True)):
            text = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{name} must be (N, {text}) for {num_keypoints} key points, got {found}")
    return list(wanted)
