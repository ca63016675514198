"""An ONNX that gives boxes and key points in one, from elsewhere -> edgepose's form, checked against its spec."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgepose.errors import ExportError, ModelFileError
from edgepose.export.fitting import Sizes, unread_maps
from edgepose.export.foreign import load_foreign, sizes_of
from edgepose.export.whole_images import PIXELS, SCORE, Arrays, ImportedImages, import_images, input_size
from edgepose.model.heads.people import People
from edgepose.model.printable import printable
from edgepose.model.skeletons import SKELETONS
from edgepose.model.spec import Input, ModelSpec, Region
from edgepose.stages.people import candidates

LONGEST_WORD = 100_000  # characters of what a file says of itself
COMPARED = 50  # candidates of each picture: those of the highest scores

_YOLO: dict[str, Any] = {
    "mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0), "resize": "letterbox", "anchor": "center",
}  # fmt: skip
_MMPOSE: dict[str, Any] = {"color_order": "bgr", "mean": (0.0,) * 3, "std": (1.0,) * 3, "resize": "letterbox"}
_MOVENET: dict[str, Any] = {
    "mean": (0.0,) * 3, "std": (1.0,) * 3, "resize": "letterbox", "anchor": "center", "fill": 0,
}  # fmt: skip
_BLAZEPOSE: dict[str, Any] = {"mean": (0.0,) * 3, "std": (255.0,) * 3}

# name: input, head, skeleton. Their candidates' bound is low, for AP; `infer` has its own.
PRESETS: dict[str, tuple[dict[str, Any], People, str]] = {
    # YOLOv8-pose, YOLO11-pose, without and with suppression; YOLO26-pose
    "yolo-pose": (_YOLO, People("yolo", min_score=0.01, nms_iou=0.7), "coco17"),
    "yolo-pose-end-to-end": (_YOLO, People("end-to-end", min_score=0.01), "coco17"),
    # by mmdeploy, which suppresses
    "rtmo": (_MMPOSE, People("dets", min_score=0.05), "coco17"),
    "rtmo-crowdpose": (_MMPOSE, People("dets", min_score=0.05), "crowdpose14"),
    "yolox-pose": (_MMPOSE, People("dets", min_score=0.05), "coco17"),
    # from their raw outputs; a DETRPose that was exported with its post-processing has a second input, and is refused
    "rf-detr-pose": ({"resize": "plain"}, People("queries", values=8, min_score=0.05), "coco17"),
    "detrpose": (
        {"mean": (0.0,) * 3, "std": (255.0,) * 3, "resize": "plain"},
        People("queries", classes=2, person=1, values=2, boxes=False, min_score=0.05),
        "coco17",
    ),
    "movenet-multi": (_MOVENET, People("movenet-multi", min_score=0.1), "coco17"),
    "movenet-single": (_MOVENET, People("movenet-single", min_score=0.1), "coco17"),
    # pose_landmark_*.tflite of MediaPipe, which looks at one person a crop
    "blazepose": (_BLAZEPOSE, People("landmarks", min_score=0.5, points=39), "blazepose33"),
}


def people_preset(name: str, preset: str, path: Path) -> ModelSpec:
    """The spec of a published network of that kind, with the input size of the file.

    Raises:
        ModelFileError: the file has no fixed input size, or cannot be read.
    """
    picture, head, skeleton = PRESETS[preset]
    region = None if "resize" in picture else Region(1.25)
    size = input_size(path, ", 640x640 say")
    if preset == "rf-detr-pose":  # how many classes it has depends on what it was trained with; the person is the first
        outputs = {value.name: sizes_of(value) for value in load_foreign(path).graph.output}
        classes = next((sizes[2] for key, sizes in outputs.items() if key == "labels" and len(sizes) == 3), None)
        head = replace(head, classes=classes or head.classes)
    return ModelSpec(name, Input(size, **picture), head, SKELETONS[skeleton], region)


def import_people(path: Path, spec: ModelSpec, output_dir: Path, *, outputs: Sequence[str] = ()) -> ImportedImages:
    """As `import_images`; boxes, key points and scores are what is compared.

    Raises:
        ModelFileError: also where the file says that it has other classes or key points than the spec.
    """
    head = spec.head
    assert isinstance(head, People)
    if head.layout in ("yolo", "end-to-end") and (told := _told_otherwise(load_foreign(path), spec, head)):
        raise ModelFileError(f"{path}: {told}: write a spec with what fits (docs/one_stage.md)")

    def compare(reference: Arrays, found: Arrays) -> dict[str, float]:
        one, other = (candidates(o, head, spec.num_keypoints, spec.image.size_hw) for o in (reference, found))
        if one[0].shape != other[0].shape:
            raise ExportError(f"{path}: the simplified graph gives {other[0].shape[1]} people, not {one[0].shape[1]}")
        sure = one[1] >= np.sort(one[1], axis=1)[:, -COMPARED:][:, :1]
        change = max(_largest(one[1], other[1]), _largest(one[2][..., 2][sure], other[2][..., 2][sure]))
        shift = max(_largest(one[0][sure], other[0][sure]), _largest(one[2][..., :2][sure], other[2][..., :2][sure]))
        return {PIXELS: shift, SCORE: change}

    return import_images(path, spec, output_dir, compare, outputs=outputs, hint=lambda found: fitting(found, spec))


def _told_otherwise(model: onnx.ModelProto, spec: ModelSpec, head: People) -> str:
    """What of a YOLO file's own words (Ultralytics' `names` and `kpt_shape`) is not as its spec says.

    The columns of a file with suppression do not tell how many classes it has, nor which is the person's.
    """
    words = {each.key: _literal(each.value) for each in model.metadata_props if each.key in ("names", "kpt_shape")}
    names, shape = words.get("names"), words.get("kpt_shape")
    if isinstance(names, dict) and names:
        places = [index for index, name in names.items() if name == "person"]
        listed = ", ".join(f"{index} {name}" for index, name in list(names.items())[:5])
        if len(names) != head.classes:
            return f"it has {len(names)} classes ({printable(listed)}), the spec {head.classes}"
        if places and head.person not in places:
            return f"the person is class {places[0]} of {printable(listed)}, the spec says {head.person}"
    if isinstance(shape, list | tuple) and len(shape) == 2 and all(type(count) is int for count in shape):
        points, values = shape
        if (points, values) != (spec.num_keypoints, head.values):
            return f"it has {points} key points of {values}, the spec {spec.num_keypoints} of {head.values}"
    return ""


def _literal(text: str) -> Any:
    """A Python literal; None where it is none."""
    try:
        return ast.literal_eval(text[:LONGEST_WORD])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _largest(values: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(values - others).max(initial=0))


def fitting(found: Sizes, spec: ModelSpec) -> str:
    """What outputs of such sizes may be where they are not what the spec says; empty where nobody knows."""
    head, count = spec.head, spec.num_keypoints
    if maps := unread_maps(found):
        return maps
    if not isinstance(head, People) or len(found) != 1:
        return ""
    ((_, sizes),) = found.items()
    of_points = count * head.values
    if len(sizes) != 3:
        return ""
    rows, columns = sizes[1] or 0, sizes[2] or 0
    if columns == 6 or (head.layout == "yolo" and 4 < rows < 4 + of_points):
        return "without key points; boxes alone are --preset yolo or yolo-end-to-end"
    if head.layout == "yolo" and columns and (columns - 6) % head.values == 0 and columns < rows:
        return "suppression is in it: that is --preset yolo-pose-end-to-end, or a spec with another skeleton"
    if head.layout == "yolo" and columns < rows:
        return f"its {rows} rows are candidates of {columns} numbers each; of a detector that is --preset yolox, say"
    if head.layout == "yolo":
        return (
            f"{rows} rows are 4 of the box, {head.classes} of classes and {count} key points of {head.values}, or "
            f"{rows - 4 - of_points} classes: write a spec (docs/one_stage.md) with that number, or with your skeleton"
        )
    values = next((each for each in (head.values, 2, 3) if (columns - 6) % each == 0), None)
    if head.layout == "end-to-end" and columns < rows and values:
        return (
            f"{columns} columns are {(columns - 6) // values} key points of {values}, the spec has {count} of "
            f"{head.values}: write a spec (docs/one_stage.md)"
        )
    if head.layout == "end-to-end":
        return "suppression is not in it: that is --preset yolo-pose"
    return ""
