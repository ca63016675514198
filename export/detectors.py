"""A person detector's ONNX from elsewhere -> edgepose's form, after checking that it is what its spec says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import ExportError
from edgepose.export.whole_images import PIXELS, SCORE, Arrays, ImportedImages, import_images, input_size
from edgepose.model.heads.detections import Detections
from edgepose.model.skeletons import NO_KEYPOINTS
from edgepose.model.spec import Input, ModelSpec
from edgepose.stages.detect import candidates

COMPARED = 50  # boxes of each picture: those of the highest scores

_BGR: dict[str, Any] = {
    "color_order": "bgr", "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395), "resize": "letterbox",
}  # fmt: skip
_PIXELS: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "resize": "letterbox"}
_SHARES: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)}
_COCO_PEOPLE_91 = 1  # DETR's classes are COCO's ids, of which 91 are counted

PRESETS: dict[str, tuple[dict[str, Any], Detections]] = {
    "rtmdet-nano": (
        _BGR,
        Detections("distances", 1, activation="sigmoid", unit="px", channels_last=True, joined=True),
    ),
    "rtmdet-raw": (_BGR, Detections("distances", 80, activation="sigmoid")),
    "rtmdet": (_BGR, Detections("dets", 80, nms_iou=None)),
    "picodet": ({"resize": "plain"}, Detections("boxes", 1, scores_first=True, nms_iou=0.6)),
    "picodet-raw": ({"resize": "plain"}, Detections("bins", 80, cell="center", strides=(8, 16, 32, 64), nms_iou=0.6)),
    "yolox": ({**_PIXELS, "color_order": "bgr"}, Detections("yolox", 80, min_score=0.01)),
    # mmdetection's YOLOX by mmdeploy, with suppression: the person detectors that rtmlib fetches
    "yolox-dets": ({**_PIXELS, "color_order": "bgr"}, Detections("dets", 1, nms_iou=None)),
    "nanodet": (_BGR, Detections("bins", 80, bins=11, cell="center", nms_iou=0.6)),
    "yolo": ({**_SHARES, "resize": "letterbox", "anchor": "center"}, Detections("yolo", 80)),
    "yolo-end-to-end": (
        {**_SHARES, "resize": "letterbox", "anchor": "center"},
        Detections("end-to-end", 80, nms_iou=None),
    ),
    "rt-detr": ({**_SHARES, "resize": "plain"}, Detections("queries", 80, activation="sigmoid", nms_iou=None)),
    "detr": (
        {"resize": "plain"},
        Detections("queries", 92, person=_COCO_PEOPLE_91, activation="softmax", nms_iou=None),
    ),
}


def preset_spec(name: str, preset: str, path: Path) -> ModelSpec:
    """The spec of a published detector of that kind, with the sizes of the file.

    Raises:
        ModelFileError: the file has no fixed input size, or cannot be read.
    """
    picture, head = PRESETS[preset]
    return ModelSpec(name, Input(input_size(path, ", 640x640 say"), **picture), head, NO_KEYPOINTS)


def import_detector(path: Path, spec: ModelSpec, output_dir: Path, *, outputs: Sequence[str] = ()) -> ImportedImages:
    """As `import_images`; boxes and scores are what is compared."""
    head = spec.head
    assert isinstance(head, Detections)

    def compare(reference: Arrays, found: Arrays) -> dict[str, float]:
        (boxes, scores), (new_boxes, new_scores) = (candidates(o, head, spec.image.size_hw) for o in (reference, found))
        if boxes.shape != new_boxes.shape:
            raise ExportError(f"{path}: the simplified graph gives {new_boxes.shape[1]} boxes, not {boxes.shape[1]}")
        change = float(np.abs(scores - new_scores).max(initial=0))
        sure = scores >= np.sort(scores, axis=1)[:, -COMPARED:][:, :1]
        shift = float(np.abs(boxes - new_boxes)[sure].max(initial=0))
        return {PIXELS: shift, SCORE: change}

    return import_images(path, spec, output_dir, compare, outputs=outputs)
