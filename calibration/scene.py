"""What stands before a network is quantised: its files, its people, its prepared graph, and the ranges seen on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgepose.backends import load_backend
from edgepose.calibration.dataset import (
    HELD_OUT_SHARE,
    CalibrationSet,
    count_crops,
    crops_of,
    read_calibration_set,
    with_close_crops,
)
from edgepose.calibration.equalise import equalised, find_factors
from edgepose.calibration.mixes import ALL, Ground, Techniques, tensors_of_mixes
from edgepose.calibration.qdq import quantisable_layers
from edgepose.calibration.ranges import ranges_and_halves
from edgepose.calibration.results import PACKAGES, CalibrationFiles, load_onnx, read_fp32_passport
from edgepose.calibration.select import covering
from edgepose.calibration.statistics import CROPS, channel_statistics
from edgepose.calibration.table import CalibrationTable, usable_table, write_table
from edgepose.errors import CalibrationError
from edgepose.estimate.detect import load_detector
from edgepose.export.graph.deconvolutions import without_deconvolutions
from edgepose.export.graph.fold import fold
from edgepose.export.graph.run import beyond_fp16
from edgepose.io.watching import Watch, unwatched
from edgepose.model.passport import Passport


@dataclass(frozen=True)
class Scene:
    """What is known when the layers are chosen.

    Attributes:
        files: the FP32 file, and where what is made of it goes.
        passport: of the FP32 file.
        people: whose crops give the ranges, and others who show what INT8 does.
        table: what was measured, and what it depends on.
        reused: True if the table came from an earlier run with the same inputs.
        ground: the prepared graph, with the ranges of the table.
        watch: sees each step's items pass.
    """

    files: CalibrationFiles
    passport: Passport
    people: CalibrationSet
    table: CalibrationTable
    reused: bool
    ground: Ground
    watch: Watch


def set_scene(
    model_path: Path,
    images: Sequence[str | Path],
    boxes: Path | None = None,
    *,
    method: str,
    limit: int,
    seed: int,
    detector: Path | None = None,
    held_out: int = HELD_OUT_SHARE,
    confirm: bool = False,
    select: int | None = None,
    techniques: Techniques = ALL,
    output_dir: Path | None = None,
    watch: Watch = unwatched,
) -> Scene:
    """Read model and people and find the ranges, or take those of an earlier run. Writes the table.

    Args:
        held_out: one image in so many is kept for checking; confirm: as many again confirm what is chosen.
        select: take the ranges from so many people who cover all of them; None: from all.
        techniques: what is done besides rounding; the others are those of `pipeline.calibrate`.

    Raises:
        ModelFileError: the model or its passport is missing, damaged, or not FP32.
        InputError, CalibrationError: the images, boxes or model cannot be used.
    """
    passport = read_fp32_passport(model_path)
    folded = fold(load_onnx(model_path))
    if not quantisable_layers(without_deconvolutions(folded)):
        raise CalibrationError(f"{model_path} has no layer with constant weights before its head: nothing to do")
    with ExitStack() as stack:
        finder = None if detector is None else stack.enter_context(closing(load_detector(detector)))
        people = read_calibration_set(
            images, boxes, limit=limit, seed=seed, held_out=held_out, confirm=confirm, detector=finder, watch=watch
        )
    if select is not None:
        people = covering(people, without_deconvolutions(folded), passport.spec, select, watch)
    if passport.spec.refine is not None:
        with closing(load_backend(model_path, backend="onnxruntime")) as backend:
            people = with_close_crops(people, backend, seed=seed, watch=watch)
    files = CalibrationFiles.of(model_path, output_dir)
    made_from = _made_from(passport, people, method, limit, seed, techniques)
    table = usable_table(files.table, made_from)
    reused = table is not None
    if table is None:
        table = _measure(folded, people, passport, method, techniques, made_from, watch)
        write_table(files.table, table)
    prepared = equalised(folded, table.factors)
    means = {name: np.array(values) for name, values in table.means.items()}
    kept_fp32 = beyond_fp16(prepared, next(crops_of(people.showing, passport.spec)))
    ground = Ground(prepared, tuple(quantisable_layers(prepared)), table.ranges, means, tuple(kept_fp32))
    return Scene(files, passport, people, table, reused, ground, watch)


def _made_from(
    passport: Passport, people: CalibrationSet, method: str, limit: int, seed: int, techniques: Techniques
) -> dict[str, Any]:
    """What the table depends on, by content: not on names, places or dates of files."""
    parts = (people.fitting, people.held_out, people.confirming)
    crops = [[image.sha256, image.boxes_xyxy.tolist()] for part in parts for image in part]
    return {
        "model_sha256": passport.sha256,
        "recipe_sha256": _sha256_of_json(passport.spec.to_json()),
        "crops_sha256": _sha256_of_json(crops),
        "method": method,
        "limit": limit,
        "seed": seed,
        "techniques": asdict(techniques),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _sha256_of_json(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _measure(
    folded: onnx.ModelProto,
    people: CalibrationSet,
    passport: Passport,
    method: str,
    techniques: Techniques,
    made_from: dict[str, Any],
    watch: Watch,
) -> CalibrationTable:
    count = count_crops(people.fitting)
    some = watch("comparing channels", crops_of(people.fitting, passport.spec), min(count, CROPS))
    statistics = channel_statistics(folded, some)
    scales = find_factors(folded, statistics) if techniques.equalise else {}
    factors = {name: _short(values) for name, values in scales.items()}
    corrected = statistics if techniques.correct_biases else {}
    means = {name: _short(np.median(seen.mean, axis=0) * scales.get(name, 1.0)) for name, seen in corrected.items()}
    prepared = equalised(folded, factors)
    crops = watch("finding ranges", crops_of(people.fitting, passport.spec), count)
    tensors = tensors_of_mixes(prepared, quantisable_layers(prepared))
    ranges, halves = ranges_and_halves(prepared, crops, tensors, method)
    return CalibrationTable(made_from, ranges, factors, means, halves)


def _short(values: np.ndarray) -> list[float]:
    """Numbers of six digits: the table is read by people too."""
    return [float(f"{value:.6g}") for value in values]
