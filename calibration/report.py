"""The report of a calibration: what each file costs, where in the network and on whom; a page and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgepose.backends import Backend, load_backend
from edgepose.calibration.budget import CONFIDENT, LABELLED, FigureJudge
from edgepose.calibration.charts import chart_script
from edgepose.calibration.costs import DEVICES, Device, Measured, int8_share, node_costs, predicted_us
from edgepose.calibration.dataset import CalibrationImage, crops_of
from edgepose.calibration.mixes import mixed
from edgepose.calibration.pipeline import Calibrated
from edgepose.calibration.report_page import sections
from edgepose.calibration.scene import Scene
from edgepose.calibration.select import COMPARED, UNLIKE, features_of, unlikeness
from edgepose.calibration.study import study, to_json
from edgepose.errors import InputError
from edgepose.evaluation.evaluate import annotated_boxes, image_path
from edgepose.files import sha256_of, temporary_folder, whole_file, write_json
from edgepose.io.annotations import read_annotations
from edgepose.io.html import Picture, html_page
from edgepose.io.images import read_image
from edgepose.io.overlay import draw_limbs
from edgepose.model.passport import passport_path, read_passport, write_passport
from edgepose.model.skeletons import Skeleton
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions, boxes_in_view

CROPS = 16  # that sensitivity is measured on
WORST_CROPS = 12
PICTURE_HEIGHT = 320  # px
FP32_COLOR, INT8_COLOR = (70, 200, 255), (255, 130, 40)  # RGB


@dataclass(frozen=True)
class Row:
    """What one file costs against FP32, on people held out.

    Attributes:
        mean, p95: shift of confident key points, px of the input.
        oks_lost: mean over people, FP32's pose as the truth; None without the constants that OKS needs.
        figure, error: AP or PCK@0.2 in percent, and the paired standard error of its difference to FP32's; None
            without annotations.
        int8_share: of the multiply-adds; predicted_us: for a crop, None for FP32.
    """

    name: str
    mean: float
    p95: float
    oks_lost: float | None
    figure: float | None
    error: float | None
    int8_share: float | None
    predicted_us: float | None


@dataclass(frozen=True)
class Labels:
    """Annotated people to measure AP or PCK on: unit "ap" or "pck", the file and its images' folder."""

    unit: str
    annotations: Path
    folder: Path


def report_paths(path: Path) -> tuple[Path, Path]:
    """out.html -> out.html, out.json; InputError for another suffix."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path}: a report is an HTML page; name it with .html")
    return path, path.with_suffix(".json")


def write_report(
    path: Path, result: Calibrated, scene: Scene, device: str | None, peaks: Device | None, labels: Labels | None
) -> list[str]:
    """Measure what the report tells, and write it: out.html, and out.json with the same; what to warn of.

    Args:
        device: what `peaks` was named; None: predictions are for the Orin Nano.

    Raises:
        MissingPackageError: plotly is not installed.
        InputError: the annotations cannot be used, or a wrong name.
        OSError: a file cannot be written.
    """
    page, plain = report_paths(path)
    script = chart_script()
    name, peaks = (device, peaks) if device and peaks else ("orin-nano", DEVICES["orin-nano"])
    seen = study(scene, CROPS, peaks)
    with temporary_folder(scene.files.int8.parent) as temporary:
        files = _files(result, scene, temporary)
        rows, shifts, found = _measure(files, result, scene, peaks, labels)
    unlike, warnings = None, []
    if labels is not None:
        unlike = _unlike(labels, scene)
        if unlike is not None and unlike > UNLIKE:
            warnings.append(unlike_warning(labels, unlike))
    worst = _worst(scene.people.showing, shifts)
    data = {
        "model": scene.files.model.name,
        "people": sum(map(len, scene.people.showing)),
        "device": name,
        "profiled": result.chosen is not None and isinstance(result.chosen.device, Measured),
        "unlikeness": unlike,
        "warnings": warnings,
        "range_spread": _spread(result, scene),
        "figure": None if labels is None else labels.unit,
        "files": [asdict(row) for row in rows],
        "sensitivity": to_json(seen.found, seen.macs_shares, seen.time_shares, peaks),
        "trials": _trials(result),
        "worst": [
            {"image": image.path.name, "box_xyxy": image.boxes_xyxy[person].tolist(), "shift_px": shift}
            for image, person, shift in worst
        ],
    }
    pictures = _pictures(scene, worst, found)
    text = html_page(f"INT8 of {scene.files.model.stem}", sections(result, seen, data, pictures), script)
    with whole_file(page) as written:
        written.write_text(text, encoding="utf-8")
    write_json(plain, data)
    return warnings


def _spread(result: Calibrated, scene: Scene) -> dict[str, float]:
    """Of the ranges that are in the file; none where another method was chosen than the halves were made with."""
    if result.chosen is not None and result.chosen.method != scene.table.made_from["method"]:
        return {}
    return scene.table.unstable


def _unlike(labels: Labels, scene: Scene) -> float | None:
    """`unlikeness` of those calibrated on and the annotated people; None where there are too few."""
    spec, annotations = scene.passport.spec, read_annotations(labels.annotations)

    def annotated() -> Iterator[np.ndarray]:
        for entry in annotations.images:
            if not entry.posed.any():
                continue
            with suppress(InputError):  # the judge of the figure has said so
                pixels = read_image(image_path(labels.folder, entry.file_name))
                boxes = annotated_boxes(entry, pixels.shape[:2])
                seen = boxes[entry.posed & boxes_in_view(boxes, pixels.shape[:2])]
                yield from (crop[None] for crop in cut_out(pixels, Regions.around(seen, spec), spec))

    one, other = (
        features_of(scene.ground.model, islice(crops, COMPARED))
        for crops in (crops_of(scene.people.fitting, spec), annotated())
    )
    return unlikeness(one, other)


def unlike_warning(labels: Labels, unlike: float) -> str:
    """What to say where the two sets are unlike."""
    return (
        f"the people calibrated on look unlike those of {labels.annotations.name} to this network ({unlike:.2f}; up to "
        f"{UNLIKE} is alike): ranges may not fit them; calibrate on images like those of use, with boxes as of use"
    )


def _files(result: Calibrated, scene: Scene, temporary: Path) -> dict[str, Path]:
    files = {"FP32": scene.files.model}
    half = scene.files.model.with_name(f"{scene.files.model.stem}.fp16.onnx")
    if half.is_file() and passport_path(half).is_file():
        files["FP16"] = half
    if set(result.layers) == set(scene.ground.layers):
        files["INT8"] = result.int8
        return files
    plain = temporary / "plain.onnx"
    plain.write_bytes(mixed(scene.ground, scene.ground.layers).SerializeToString())
    write_passport(plain, replace(scene.passport, precision="int8", sha256=sha256_of(plain)))
    return {**files, "INT8, the usual layers": plain, "INT8, the chosen mix": result.int8}


def _measure(
    files: Mapping[str, Path], result: Calibrated, scene: Scene, peaks: Device, labels: Labels | None
) -> tuple[list[Row], np.ndarray, dict[str, list[np.ndarray]]]:
    """A row for each file; (people, K) shifts of the last one; the key points of FP32 and of the last file."""
    costs = node_costs(scene.ground.model)
    times = (result.chosen and result.chosen.device) or peaks
    layers_of = {"INT8": scene.ground.layers, "INT8, the usual layers": scene.ground.layers}
    rows, judge = [], None
    wanted: list[np.ndarray] = []
    with closing(load_backend(files["FP32"], backend="openvino")) as reference:
        for name, path in files.items():
            with closing(load_backend(path, backend="openvino", exact=name.startswith("INT8"))) as backend:
                points = _keypoints(backend, scene.people.showing)
                wanted = wanted or points
                shifts, lost = _compare(wanted, points, scene)
                figure = error = None
                if labels is not None:
                    if judge is None:
                        judge = _judge(labels, reference, scene, result)
                    loss = judge.loss(backend)
                    figure, error = judge.wanted - loss.value, loss.error
            chosen = read_passport(path).layers["int8"] if name == "INT8, the chosen mix" else layers_of.get(name, ())
            share, time = int8_share(costs, chosen), predicted_us(costs, chosen, times)
            known = shifts[np.isfinite(shifts)]
            mean, p95 = (float(known.mean()), float(np.percentile(known, 95))) if len(known) else (0.0, 0.0)
            rows.append(Row(name, mean, p95, lost, figure, error, share, None if name == "FP32" else time))
    return rows, shifts, {"FP32": wanted, "INT8": points}


def _judge(labels: Labels, reference: Backend, scene: Scene, result: Calibrated) -> FigureJudge:
    """Of people who neither gave ranges nor chose."""
    people = scene.people
    calibrated_on = frozenset(
        image.sha256 for part in (people.fitting, people.held_out if people.confirming else ()) for image in part
    )
    annotated = read_annotations(labels.annotations)
    if result.chosen is not None and result.chosen.budget.unit in LABELLED:  # annotated images chose
        return FigureJudge(labels.unit, reference, annotated, labels.folder, calibrated_on, people.confirms)
    return FigureJudge(labels.unit, reference, annotated, labels.folder, calibrated_on)


def _keypoints(backend: Backend, images: Sequence[CalibrationImage]) -> list[np.ndarray]:
    return [
        backend.keypoints(read_image(image.path), Regions.around(image.boxes_xyxy, backend.spec)) for image in images
    ]


def _compare(
    wanted: Sequence[np.ndarray], found: Sequence[np.ndarray], scene: Scene
) -> tuple[np.ndarray, float | None]:
    """(people, K) shift of confident key points, px of the input, NaN for others; the mean OKS lost."""
    spec = scene.passport.spec
    sigmas = np.asarray(spec.skeleton.sigmas or [])
    shifts, lost = [], []
    for image, before, after in zip(scene.people.showing, wanted, found, strict=True):
        confident = before[..., 2] > CONFIDENT
        distance = np.where(confident, np.linalg.norm(before[..., :2] - after[..., :2], axis=-1), np.nan)
        regions = Regions.around(image.boxes_xyxy, spec)
        shifts.append(distance * (spec.image.size_hw[1] / regions.size_wh[:, :1]))
        if len(sigmas):
            areas = np.maximum((image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2]).prod(axis=1) / 2, 1.0)
            each = 1 - np.exp(-(distance**2) / (2 * areas[:, None] * (2 * sigmas) ** 2))
            lost += [float(np.nanmean(person)) for person in each if np.isfinite(person).any()]
    return np.concatenate(shifts), float(np.mean(lost)) if lost else None


def _worst(images: Sequence[CalibrationImage], shifts: np.ndarray) -> list[tuple[CalibrationImage, int, float]]:
    """The people whose key points move most: image, row of its boxes, mean shift."""
    people = [(image, person) for image in images for person in range(len(image))]
    means = [float(np.nanmean(row)) if np.isfinite(row).any() else 0.0 for row in shifts]
    order = sorted(range(len(people)), key=lambda index: -means[index])[:WORST_CROPS]
    return [(*people[index], means[index]) for index in order]


def _pictures(
    scene: Scene, worst: Sequence[tuple[CalibrationImage, int, float]], found: Mapping[str, Sequence[np.ndarray]]
) -> list[Picture]:
    place = {image.sha256: index for index, image in enumerate(scene.people.showing)}
    skeleton = scene.passport.spec.skeleton
    pictures = []
    for image, person, shift in worst:
        points = [found[name][place[image.sha256]][person] for name in ("FP32", "INT8")]
        drawn = _both(read_image(image.path), image.boxes_xyxy[person], points, skeleton)
        pictures.append(Picture(drawn, f"{image.path.name}: {shift:.2f} px"))
    return pictures


def _both(image: np.ndarray, box: np.ndarray, points: Sequence[np.ndarray], skeleton: Skeleton) -> np.ndarray:
    """The box's part of an image with FP32's and INT8's key points over it."""
    margin = 0.15 * (box[2:] - box[:2])
    left, top = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    right, bottom = np.ceil(box[2:] + margin).astype(int)
    part = image[top : bottom + 1, left : right + 1]
    scale = PICTURE_HEIGHT / len(part)
    size = (max(1, round(part.shape[1] * scale)), PICTURE_HEIGHT)
    drawn = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    shown = points[0][:, 2] > CONFIDENT
    for each, color in zip(points, (FP32_COLOR, INT8_COLOR), strict=True):
        xy = (each[:, :2] + 0.5 - [left, top]) * scale - 0.5
        drawn = draw_limbs(drawn, np.nan_to_num(xy, nan=1e9), shown, skeleton, color)
    return drawn


def _trials(result: Calibrated) -> list[dict[str, Any]]:
    if result.chosen is None:
        return []
    found = result.chosen.found
    return [
        {
            "method": trial.mix.method,
            "layers": sorted(trial.mix.layers),
            "int8_share": trial.int8_share,
            "predicted_us": trial.predicted_us or None,
            "loss": trial.loss.value,
            "error": trial.loss.error,
            "chosen": trial is found.best,
        }
        for trial in found.trials
    ]
