"""A detector's raw outputs -> boxes of people in the pixels of its input: the numpy reference, one layout a function.

What the outputs are is told in edgepose/model/heads/detections.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepose.model.heads.detections import Detections
from edgepose.stages.nms import suppress

Outputs = Mapping[str, np.ndarray]

LARGEST_LOGARITHM = 10.0  # of a box's side in cells; more overflows, and is nobody's size


def find_boxes(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The people of each of N pictures.

    Args:
        outputs: the network's, by name; the batch is their first axis. N may be 0.

    Returns:
        N pairs: (M, 4) float32 boxes, left, top, right, bottom in input px, and (M,) float32 scores, best first.
        A candidate that is not finite or has no area is nobody.
    """
    boxes, scores = candidates(outputs, head, input_hw)
    return [_best(b, s, head) for b, s in zip(boxes, scores, strict=True)]


def candidates(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(N, A, 4) float32 boxes in input px and (N, A) float32 scores of the person's class, before any choice."""
    wanted = head.output_shapes(input_hw)
    for name, shape in wanted.items():
        if name not in outputs:
            raise ValueError(f"the outputs must have {', '.join(wanted)}; found {', '.join(outputs)}")
        found = outputs[name].shape[1:]
        if len(found) != len(shape) or any(want not in (None, size) for want, size in zip(shape, found, strict=True)):
            raise ValueError(f"{name} must be (N, {_text(shape)}), got {outputs[name].shape}")
    outputs = {name: np.asarray(outputs[name]).astype(np.float32, copy=False) for name in wanted}
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged network's infinities are left out later
        boxes, scores = _LAYOUTS[head.layout](outputs, head, input_hw)
    return boxes.astype(np.float32, copy=False), scores.astype(np.float32, copy=False)


def _best(boxes: np.ndarray, scores: np.ndarray, head: Detections) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):
        fine = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        kept = np.flatnonzero(fine & (scores >= head.min_score))  # False for NaN
    boxes, scores = boxes[kept], scores[kept]
    kept = suppress(boxes, scores, 1.0 if head.nms_iou is None else head.nms_iou)  # 1: sorted alone
    return boxes[kept], scores[kept]


def _yolox(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    output = outputs["output"]
    points, strides = _cells(head, input_hw, center=False)
    middle = (output[..., :2] + points / strides) * strides
    half = np.exp(np.minimum(output[..., 2:4], LARGEST_LOGARITHM)) * strides / 2
    scores = _activated(output[..., 5:], head) * _sigmoid_if(output[..., 4], head)
    return np.concatenate([middle - half, middle + half], axis=-1), scores


def _bins(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    points, strides = _cells(head, input_hw, center=head.cell == "center")
    logits = np.concatenate([outputs[f"boxes_{stride}"] for stride in head.strides], axis=1)
    distribution = _softmax(logits.reshape(*logits.shape[:2], 4, head.bins))
    distances = distribution @ np.arange(head.bins, dtype=np.float32) * strides
    scores = np.concatenate([outputs[f"scores_{stride}"] for stride in head.strides], axis=1)
    return _around(points, distances), _activated(scores, head)


def _distances(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    points, strides = _cells(head, input_hw, center=head.cell == "center")

    def rows(name: str) -> np.ndarray:
        maps = [outputs[f"{name}_{stride}"] for stride in head.strides]
        if not head.channels_last:
            maps = [values.transpose(0, 2, 3, 1) for values in maps]
        return np.concatenate([v.reshape(len(v), v.shape[1] * v.shape[2], v.shape[3]) for v in maps], axis=1)

    if head.joined:
        both = rows("level")
        scores, distances = both[..., : head.classes], both[..., head.classes :]
    else:
        scores, distances = rows("scores"), rows("boxes")
    return _around(points, distances * (strides if head.unit == "stride" else 1)), _activated(scores, head)


def _boxes(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    scores = outputs["scores"]
    return outputs["boxes"], _activated(scores.transpose(0, 2, 1) if head.scores_first else scores, head)


def _dets(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    dets = outputs["dets"]
    return dets[..., :4], np.where(outputs["labels"] == head.person, dets[..., 4], 0)


def _end_to_end(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    output = outputs["output"]
    return output[..., :4], np.where(np.rint(output[..., 5]) == head.person, output[..., 4], 0)


def _yolo(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows = outputs["output"].transpose(0, 2, 1)
    return _from_middle(rows[..., :4]), _activated(rows[..., 4 : 4 + head.classes], head)


def _queries(outputs: Outputs, head: Detections, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    height, width = input_hw
    boxes = _from_middle(outputs["boxes"]) * np.array([width, height, width, height], np.float32)
    return boxes, _activated(outputs["logits"], head)


_LAYOUTS = {
    "yolox": _yolox,
    "bins": _bins,
    "distances": _distances,
    "boxes": _boxes,
    "dets": _dets,
    "end-to-end": _end_to_end,
    "yolo": _yolo,
    "queries": _queries,
}


def _cells(head: Detections, input_hw: tuple[int, int], *, center: bool) -> tuple[np.ndarray, np.ndarray]:
    """(A, 2) float32 points x, y in input px and (A, 1) strides: stride by stride, row by row."""
    points, strides = [], []
    for stride, (rows, columns) in head.grids(input_hw).items():
        y, x = np.mgrid[:rows, :columns].astype(np.float32)
        points.append((np.stack([x, y], axis=-1).reshape(-1, 2) + (0.5 if center else 0.0)) * stride)
        strides.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides)


def _around(points: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Points (A, 2) and distances to left, top, right, bottom (N, A, 4), px -> boxes (N, A, 4)."""
    return np.concatenate([points - distances[..., :2], points + distances[..., 2:]], axis=-1)


def _from_middle(boxes: np.ndarray) -> np.ndarray:
    """Centre x, y, width, height -> left, top, right, bottom."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def _activated(scores: np.ndarray, head: Detections) -> np.ndarray:
    """(N, A, C) -> (N, A), the person's."""
    if head.activation == "softmax":
        return _softmax(scores)[..., head.person]
    return _sigmoid_if(scores[..., head.person], head)


def _sigmoid_if(values: np.ndarray, head: Detections) -> np.ndarray:
    return 1 / (1 + np.exp(-values)) if head.activation == "sigmoid" else values


def _softmax(values: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _text(shape: tuple[int | None, ...]) -> str:
    return ", ".join("?" if size is None else str(size) for size in shape)
