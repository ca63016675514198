"""INT8 of a network of whole images: m.onnx and pictures -> m.calibration.json and m.int8.onnx, checked on others.

It finds people, or their boxes: a bottom-up network, one that gives people in one stage, or a detector. There are no
crops; what INT8 does is told person by person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgepose.backends import load_runtime
from edgepose.backends.runtime import Runtime
from edgepose.calibration.biases import correct_biases
from edgepose.calibration.costs import int8_share, node_costs
from edgepose.calibration.dataset import CalibrationImage, read_calibration_set, unread
from edgepose.calibration.equalise import equalised, find_factors
from edgepose.calibration.qdq import insert_qdq, pairs_beyond_fp16, quantisable_layers, quantised_inputs
from edgepose.calibration.ranges import find_ranges
from edgepose.calibration.results import PACKAGES, CalibrationFiles, load_onnx, read_fp32_passport, write_int8
from edgepose.calibration.stages import int8_layers
from edgepose.calibration.statistics import CROPS, channel_statistics
from edgepose.calibration.table import CalibrationTable, usable_table, write_table
from edgepose.errors import CalibrationError
from edgepose.estimate.detect import Detector, find_people
from edgepose.estimate.follow import MIN_SCORE
from edgepose.estimate.whole import estimate_people, head_of
from edgepose.evaluation.box_shift import BoxShift, compare_boxes
from edgepose.evaluation.people_shift import PeopleShift, compare_people
from edgepose.export.graph.deconvolutions import without_deconvolutions
from edgepose.export.graph.fold import fold
from edgepose.export.graph.fp16 import to_fp16
from edgepose.export.graph.last_layers import ending_of
from edgepose.export.graph.run import beyond_fp16
from edgepose.io.images import read_image
from edgepose.io.watching import Watch, unwatched
from edgepose.model.heads.detections import Detections
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.people import People
from edgepose.model.spec import ModelSpec
from edgepose.stages.letterbox import Letterbox, as_input


@dataclass(frozen=True)
class CalibratedPictures:
    """What a calibration wrote and what INT8 does to people.

    Attributes:
        int8, table: the files.
        reused: True if the ranges came from an earlier run with the same inputs.
        pictures: how many gave the ranges; `held_out` showed the people.
        shift: what FP32 finds against what INT8 finds.
        unreadable: one line for each image that could not be read.
        random_weights: True: the figures mean nothing.
        layers: names of the layers in INT8; `int8_share`: what they have of the multiply-adds, None if not known.
    """

    int8: Path
    table: Path
    reused: bool
    pictures: int
    held_out: int
    shift: PeopleShift | BoxShift
    unreadable: tuple[str, ...]
    random_weights: bool
    layers: tuple[str, ...]
    int8_share: float | None

    def summary(self) -> str:
        """What was written and what INT8 costs, for people."""
        source = "ranges of an earlier run" if self.reused else f"ranges of {self.pictures} pictures"
        share = "" if self.int8_share is None else f", {self.int8_share:.1%} of the multiply-adds"
        lines = [f"{self.int8}: {source} ({self.table})", f"{len(self.layers)} layers in INT8{share}"]
        lines += self.shift.told(self.held_out)
        return "\n".join(lines + ["The weights are random: these figures mean nothing."] * self.random_weights)

    def warnings(self) -> list[str]:
        """Images that could not be read."""
        return unread(self.unreadable)


def calibrate_pictures(
    model_path: Path,
    images: Sequence[str | Path],
    *,
    method: str,
    limit: int = 512,
    seed: int = 0,
    output_dir: Path | None = None,
    watch: Watch = unwatched,
) -> CalibratedPictures:
    """Quantise a network of whole images with pictures like those of its later use; both files, or none.

    In float stay some layers of a bottom-up network whose stages read the maps of the stage before (`int8_layers`);
    and of a network that gives boxes its last layers and what is behind them, which computes positions.

    Args:
        model_path: FP32, with its passport.
        images: files, folders and globs.
        method, limit, seed: how a range is taken from what was seen, how many pictures, and which.

    Raises:
        ModelFileError: the model or its passport is missing, damaged, not FP32, or of a network that does not
            find people in whole images.
        InputError, CalibrationError: the images or the model cannot be used.
    """
    passport = read_fp32_passport(model_path)
    spec = passport.spec
    if not isinstance(spec.head, Detections):
        head_of(spec)
    folded = fold(load_onnx(model_path))
    if not layers_of(without_deconvolutions(folded), spec):
        raise CalibrationError(f"{model_path} has no layer with constant weights before its head: nothing to do")
    pictures = read_calibration_set(images, None, limit=limit, seed=seed, watch=watch)
    files = CalibrationFiles.of(model_path, output_dir)
    made_from = {
        "model_sha256": passport.sha256,
        "recipe": spec.to_json(),
        "pictures_sha256": [image.sha256 for image in (*pictures.fitting, *pictures.held_out)],
        "method": method,
        "limit": limit,
        "seed": seed,
        "versions": {name: version(name) for name in PACKAGES},
    }
    table = usable_table(files.table, made_from)
    reused = table is not None
    if table is None:
        table = _measure(folded, pictures.fitting, spec, method, made_from, watch)
        write_table(files.table, table)
    prepared = equalised(folded, table.factors)
    layers = layers_of(prepared, spec)
    means = {name: np.array(values) for name, values in table.means.items()}
    quantised = insert_qdq(correct_biases(prepared, layers, means), table.ranges, layers)
    kept = [*beyond_fp16(prepared, next(_inputs_of(pictures.held_out, spec))), *pairs_beyond_fp16(quantised)]
    kept += ending_of(prepared).behind if _gives_boxes(spec) else []

    def judge(written: Path) -> tuple[dict[str, float], PeopleShift | BoxShift]:
        held_out = watch("comparing with FP32", pictures.held_out, len(pictures.held_out))
        moved = _shift(model_path, written, held_out)
        return {f"int8_{name}": float(value) for name, value in moved.figures().items()}, moved

    graph = to_fp16(quantised, keep_fp32=kept)
    shift = write_int8(files, passport, graph, judge, prepared=prepared, layers=layers)
    counts = len(pictures.fitting), len(pictures.held_out)
    share = int8_share(node_costs(prepared), layers)
    return CalibratedPictures(
        files.int8,
        files.table,
        reused,
        *counts,
        shift,
        pictures.unreadable,
        passport.random_weights,
        tuple(layers),
        share,
    )


def layers_of(model: onnx.ModelProto, spec: ModelSpec) -> list[str]:
    """Names of the layers of a prepared graph that become INT8."""
    if isinstance(spec.head, Fields):
        return int8_layers(model, maps_between_stages(spec), spec.head.size_hw)
    return quantisable_layers(model, last=ending_of(model).layers if _gives_boxes(spec) else None)


def _gives_boxes(spec: ModelSpec) -> bool:
    return isinstance(spec.head, (Detections, People))


def maps_between_stages(spec: ModelSpec) -> tuple[int, ...]:
    """How many maps a stage of the network makes, which the next one reads; none where there are no such stages."""
    head = spec.head
    return (len(spec.skeleton) + 1, 2 * len(head.limbs)) if isinstance(head, Fields) else ()


def _measure(
    folded: onnx.ModelProto,
    images: Sequence[CalibrationImage],
    spec: ModelSpec,
    method: str,
    made_from: dict[str, Any],
    watch: Watch,
) -> CalibrationTable:
    some = watch("comparing channels", _inputs_of(images, spec), min(len(images), CROPS))
    statistics = channel_statistics(folded, some)
    scales = find_factors(folded, statistics)
    factors = {name: _short(values) for name, values in scales.items()}
    means = {name: _short(np.median(seen.mean, axis=0) * scales.get(name, 1.0)) for name, seen in statistics.items()}
    prepared = equalised(folded, factors)
    layers = layers_of(prepared, spec)
    inputs = watch("finding ranges", _inputs_of(images, spec), len(images))
    ranges = find_ranges(prepared, inputs, list(quantised_inputs(prepared, layers)), method)
    return CalibrationTable(made_from, ranges, factors, means)


def _short(values: np.ndarray) -> list[float]:
    """Numbers of six digits: the table is read by people too."""
    return [float(f"{value:.6g}") for value in values]


def _inputs_of(images: Sequence[CalibrationImage], spec: ModelSpec) -> Iterator[np.ndarray]:
    """(1, 3, H, W) float32, one by one: one image is in memory at a time."""
    for image in images:
        pixels = read_image(image.path)
        yield as_input(pixels, Letterbox.of((pixels.shape[0], pixels.shape[1]), spec.image), spec.image)[None]


def _shift(model: Path, written: Path, images: Iterable[CalibrationImage]) -> PeopleShift | BoxShift:
    with (
        closing(load_runtime(model, exact=True)) as fp32,
        closing(load_runtime(written, exact=True, backend="openvino")) as int8,
    ):
        pixels = (read_image(image.path) for image in images)
        if isinstance(fp32.passport.spec.head, Detections):
            return compare_boxes((_boxes(fp32, image), _boxes(int8, image)) for image in pixels)
        return compare_people((estimate_people(fp32, image)[0], estimate_people(int8, image)[0]) for image in pixels)


def _boxes(runtime: Runtime, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return find_people(Detector(runtime), image, min_score=MIN_SCORE)
