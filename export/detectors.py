"""A person detector's ONNX from elsewhere -> edgepose's form, after checking that it is what its spec says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgepose.errors import EdgeposeError, ExportError, ModelFileError
from edgepose.export.foreign import _rename, _to_opset, load_foreign
from edgepose.export.graph.fp16 import to_fp16
from edgepose.export.graph.interface import BATCH, normalize
from edgepose.export.graph.run import run_onnx
from edgepose.export.graph.simplify import simplify
from edgepose.files import check_targets, sha256_of, write_bytes
from edgepose.model.heads.detections import Detections
from edgepose.model.passport import Passport, write_passport
from edgepose.model.skeletons import NO_KEYPOINTS
from edgepose.model.spec import Input, ModelSpec
from edgepose.stages.detect import candidates

LARGEST_SHIFT, LARGEST_CHANGE = 0.1, 1e-3  # input px of a box, and of a score: what simplifying may change
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


@dataclass(frozen=True)
class ImportedDetector:
    """The files that were written; `shift` and `change`: how far simplifying moved a box (px) and a score."""

    fp32: Path
    fp16: Path
    shift: float
    change: float
    batch: int | str

    def summary(self) -> str:
        """What was written, for people."""
        one = "; it takes one picture at a time" if self.batch == 1 else ""
        difference = f"boxes within {self.shift:.1e} px and scores within {self.change:.1e} of the original's"
        return f"{self.fp32}: {difference}{one}\n{self.fp16}: the same with FP16 weights and values"


def preset_spec(name: str, preset: str, path: Path) -> ModelSpec:
    """The spec of a published detector of that kind, with the sizes of the file.

    Raises:
        ModelFileError: the file has no fixed input size, or cannot be read.
    """
    picture, head = PRESETS[preset]
    model = load_foreign(path)
    sizes = _sizes(_inputs(model, path)[0])
    if len(sizes) != 4 or None in sizes[2:]:
        raise ModelFileError(f"{path}: its input has no fixed size ({sizes}); export it with one, 640x640 say")
    return ModelSpec(name, Input((int(sizes[2] or 0), int(sizes[3] or 0)), **picture), head, NO_KEYPOINTS)


def import_detector(
    path: Path, spec: ModelSpec, output_dir: Path, *, outputs: Sequence[str] = (), fp16: bool = True
) -> ImportedDetector:
    """Check a foreign ONNX against its spec and write `NAME.onnx` and `NAME.fp16.onnx` with their passports.

    Its input becomes `images`, its outputs get the names that the head gives them, others are dropped; the graph is
    brought to opset 19 and simplified, its batch becomes dynamic where it computes the same that way. What is written
    is compared with the original on noise and smooth pictures.

    Args:
        outputs: the file's outputs in the order of the head's; none: by their names or, where these differ, their
            shapes and order.

    Raises:
        ModelFileError: the file cannot be read, or is not what the spec says.
        ExportError: it cannot be brought into edgepose's form without changing what it computes. No file is left.
    """
    names = [f"{spec.name}.onnx", f"{spec.name}.fp16.onnx"]
    check_targets(output_dir, [*names, *(f"{name}.json" for name in names)])
    if (output_dir / names[0]).resolve() == path.resolve():
        raise ModelFileError(f"{path} would be overwritten: choose another folder with -o, or another name")
    original = load_foreign(path)
    _keep_interface(original, spec, path, outputs)
    pictures = _pictures(spec)
    reference = [_run(original, pictures[i : i + 1], spec, path) for i in range(len(pictures))]
    joined = {name: np.concatenate([one[name] for one in reference]) for name in spec.outputs}
    try:
        batch: int | str = BATCH
        simplified, shift, change = _formed(original, spec, pictures, joined, path, BATCH)
    except EdgeposeError:
        batch = 1
        simplified, shift, change = _formed(original, spec, pictures[:1], reference[0], path, 1)
    made_from = {path.name: sha256_of(path)}
    verified = {"box_px": round(shift, 6), "score": round(change, 8)}
    written = []
    for precision, name in zip(("fp32", "fp16"), names, strict=True):
        model = simplified if precision == "fp32" else to_fp16(simplified)
        write_bytes(output_dir / name, model.SerializeToString())
        digest = sha256_of(output_dir / name)
        passport = Passport(spec, precision, digest, path.name, sha256_of(path), made_from, verified=verified)
        write_passport(output_dir / name, passport)
        written.append(output_dir / name)
    return ImportedDetector(written[0], written[1], shift, change, batch)


def _inputs(model: onnx.ModelProto, path: Path) -> list[Any]:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelFileError(f"{path} has {len(inputs)} inputs ({names}), wanted one: the images")
    return inputs


def _sizes(value: Any) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [size.dim_value if size.HasField("dim_value") else None for size in dims]


def _keep_interface(model: onnx.ModelProto, spec: ModelSpec, path: Path, chosen: Sequence[str]) -> None:
    """Leave one input and the head's outputs, under edgepose's names, with shapes that the spec allows."""
    (image,) = _inputs(model, path)
    wanted = spec.inputs["images"]
    sizes = _sizes(image)
    if len(sizes) != 4 or any(found not in (None, want) for found, want in zip(sizes[1:], wanted, strict=True)):
        raise ModelFileError(f"{path}: input {image.name} is {_text(sizes)}, the spec says N, {_text(wanted)}")
    found = {value.name: value for value in model.graph.output}
    of_name = _pair(found, spec, path, chosen)
    kept = [found[of_name[name]] for name in spec.outputs]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    del model.graph.input[:]
    model.graph.input.append(image)
    _rename(model.graph, image.name, "images")
    for name, old in of_name.items():
        _rename(model.graph, old, name)


def _pair(found: Mapping[str, Any], spec: ModelSpec, path: Path, chosen: Sequence[str]) -> dict[str, str]:
    """The head's names of outputs -> the file's."""
    wanted = spec.outputs
    if chosen:
        missing = [name for name in chosen if name not in found]
        if missing or len(chosen) != len(wanted):
            raise ModelFileError(
                f"{path} has the outputs {', '.join(found)}; wanted {len(wanted)} of them, for {', '.join(wanted)}; "
                f"got {', '.join(chosen)}"
            )
        return dict(zip(wanted, chosen, strict=True))
    if set(wanted) <= set(found):
        return {name: name for name in wanted}
    pairs: dict[str, str] = {}
    for name, shape in wanted.items():
        fitting = [o for o, value in found.items() if o not in pairs.values() and _fits(_sizes(value), shape)]
        if not fitting:
            told = "; ".join(f"{o} {_text(_sizes(value))}" for o, value in found.items())
            raise ModelFileError(
                f"{path}: no output fits {name} (N, {_text(shape)}); it has {told}: is it another kind of detector, "
                f"or another number of classes? Name them with --output-name"
            )
        pairs[name] = fitting[0]
    return pairs


def _fits(sizes: Sequence[int | None], shape: Sequence[int | None]) -> bool:
    return len(sizes) == len(shape) + 1 and all(None in (a, b) or a == b for a, b in zip(sizes[1:], shape, strict=True))


def _pictures(spec: ModelSpec) -> np.ndarray:
    """(3, 3, H, W) float32: noise, a smooth picture, and grey."""
    rng = np.random.default_rng(0)
    height, width = spec.image.size_hw
    coarse = rng.uniform(0, 255, (3, 8, 8)).astype(np.float32)
    smooth = np.kron(coarse, np.ones((1, -(-height // 8), -(-width // 8)), np.float32))[:, :height, :width]
    pixels = np.stack([rng.uniform(0, 255, (3, height, width)), smooth, np.full((3, height, width), 127.0)])
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (spec.image.mean, spec.image.std))
    return np.ascontiguousarray((pixels - mean) / std, np.float32)


def _run(model: onnx.ModelProto, pictures: np.ndarray, spec: ModelSpec, path: Path) -> dict[str, np.ndarray]:
    outputs = dict(zip(spec.outputs, run_onnx(model, pictures, list(spec.outputs)), strict=True))
    for name, shape in spec.outputs.items():
        if not _fits(outputs[name].shape, shape) or len(outputs[name]) != len(pictures):
            raise ModelFileError(f"{path} gives {name} of {outputs[name].shape}, the spec says N, {_text(shape)}")
    return outputs


def _formed(
    original: onnx.ModelProto,
    spec: ModelSpec,
    pictures: np.ndarray,
    reference: Mapping[str, np.ndarray],
    path: Path,
    batch: int | str,
) -> tuple[onnx.ModelProto, float, float]:
    """Opset, batch and onnxsim; and the largest shift of a box, px, and change of a score."""
    model = normalize(_to_opset(original))
    _set_batch(model, batch)
    simplified = simplify(model)
    _set_batch(simplified, batch)
    found = _run(simplified, pictures, spec, path)
    head = spec.head
    assert isinstance(head, Detections)
    (boxes, scores), (new_boxes, new_scores) = (candidates(o, head, spec.image.size_hw) for o in (reference, found))
    change = float(np.abs(scores - new_scores).max(initial=0))
    sure = scores >= np.sort(scores, axis=1)[:, -COMPARED:][:, :1]
    shift = float(np.abs(boxes - new_boxes)[sure].max(initial=0))
    if not (shift <= LARGEST_SHIFT and change <= LARGEST_CHANGE):  # False for NaN
        raise ExportError(f"{path}: the simplified graph moves boxes by {shift:.3g} px and scores by {change:.3g}")
    return simplified, shift, change


def _set_batch(model: onnx.ModelProto, batch: int | str) -> None:
    """The first size of the input; outputs are left to be inferred."""
    size = model.graph.input[0].type.tensor_type.shape.dim[0]
    if isinstance(batch, str):
        size.dim_param = batch
    else:
        size.dim_value = batch
    for output in model.graph.output:
        dim = output.type.tensor_type.shape.dim
        if len(dim):
            dim[0].CopyFrom(size)


def _text(shape: Sequence[int | None]) -> str:
    return ", ".join("?" if size is None else str(size) for size in shape)
