"""The files of a calibration: the table of ranges and the INT8 model, which is judged before it is put in place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import onnx
from google.protobuf.message import DecodeError

from edgepose.calibration.costs import int8_share, node_costs
from edgepose.calibration.table import table_path
from edgepose.errors import ModelFileError
from edgepose.export.graph.precision import refuse_lower_precision
from edgepose.files import check_targets, locked, put_in_place, sha256_of, temporary_folder
from edgepose.model.passport import Passport, keep_accuracy, passport_path, read_passport, write_passport

PACKAGES = ("edgepose", "onnx", "onnxruntime", "numpy")

T = TypeVar("T")


@dataclass(frozen=True)
class CalibrationFiles:
    """Where a calibration's results go: `table` and `int8`, in the folder of the first."""

    model: Path
    table: Path
    int8: Path

    @classmethod
    def of(cls, model: Path, output_dir: Path | None) -> CalibrationFiles:
        """Those of a model; makes the folder, which is the model's own if none is named.

        Raises:
            OSError: a folder or a device is in a file's place, or the folder cannot be made.
        """
        folder = output_dir or model.parent
        files = cls(model, table_path(model, folder), folder / f"{model.stem}.int8.onnx")
        check_targets(folder, (files.table.name, files.int8.name, passport_path(files.int8).name))
        folder.mkdir(parents=True, exist_ok=True)
        return files


def read_fp32_passport(model: Path) -> Passport:
    """The passport of the model to be quantised.

    Raises:
        ModelFileError: the model or its passport is missing, damaged, or not FP32.
    """
    passport = read_passport(model)
    if passport.precision != "fp32":
        raise ModelFileError(f"{model} is {passport.precision.upper()}; wanted: the FP32 file it was made from")
    return passport


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an FP32 ONNX file; ModelFileError if it is none, or quantised by some other tool."""
    if path.stat().st_size == 0:
        raise ModelFileError(f"{path}: the file is empty: export it again")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFileError(f"{path} cannot be read as ONNX ({reason}): export it again") from error
    refuse_lower_precision(model, path)
    return model


def write_int8(
    files: CalibrationFiles,
    passport: Passport,
    graph: onnx.ModelProto,
    judge: Callable[[Path], tuple[Mapping[str, float], T]],
    *,
    prepared: onnx.ModelProto,
    layers: Collection[str],
) -> T:
    """Write the INT8 graph with its passport beside the table; both files appear together, or neither does.

    Args:
        passport: of the FP32 model.
        judge: measures the file that was written: what the passport keeps as `verified`, and what is returned.
        prepared: the FP32 graph that it was made from; `layers`: names of those of its layers that are in INT8.

    Raises:
        OSError: a file cannot be written; what was there before stays.
    """
    folder = files.int8.parent
    costs = node_costs(prepared)
    with temporary_folder(folder) as temporary:
        written = temporary / files.int8.name
        written.write_bytes(graph.SerializeToString(deterministic=True))
        known = Passport(
            passport.spec,
            "int8",
            sha256_of(written),
            passport.weights,
            passport.weights_sha256,
            made_from={files.model.name: passport.sha256, files.table.name: sha256_of(files.table)},
            versions={name: version(name) for name in PACKAGES},
            layers={
                "int8": [cost.name for cost in costs if cost.name in layers],
                "float": [cost.name for cost in costs if cost.matrix and cost.name not in layers],
            },
            int8_share=int8_share(costs, layers),
        )
        write_passport(written, known)
        verified, result = judge(written)
        write_passport(written, replace(known, verified=dict(verified)))
        with locked(folder):  # or what another process measures meanwhile would be lost
            keep_accuracy(written, files.int8)
            put_in_place(temporary, folder, (files.int8.name, passport_path(files.int8).name))
    return result
