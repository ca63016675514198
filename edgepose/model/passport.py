"""What is known of one model file: its `Passport`, which binds a `ModelSpec` to the file by its hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgepose.errors import InputError, ModelFileError
from edgepose.files import parse_json, read_input, sha256_of, why_no_file, write_json
from edgepose.model.engine_info import EngineInfo, engine_from_json
from edgepose.model.first_bytes import told_by_first_bytes
from edgepose.model.plain import to_plain
from edgepose.model.printable import printable, unprintable
from edgepose.model.spec import ModelSpec

FORMAT = 2  # of the passport's JSON; 1 had a flat spec of heat maps only, and is read as well

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Passport:
    """What is known of one model file. It lies beside the file: `m.onnx` has `m.onnx.json`.

    Attributes:
        spec: how to feed it and read it.
        precision: "fp32", "fp16" or "int8".
        sha256: of the model file's bytes: a passport of another file is refused.
        weights: where the weights came from; "random" for timing only.
        weights_sha256: of the checkpoint, or of the ONNX imported; empty for random weights.
        made_from: sha256 of the ONNX (and calibration table) this file was made from, by file name.
        versions: of the packages that made it.
        verified: largest differences found when it was made, by name (heat-map value, key-point px).
        accuracy: results of `edgepose evaluate` on this file, newest last.
        engine: of a TensorRT plan.
        layers: of an INT8 ONNX: names of the convolutions and matrix products by precision, "int8" and "float" (FP16,
            or FP32 where FP16 cannot hold them).
        int8_share: what those in INT8 have of the multiply-adds; None where it was not counted.
    """

    spec: ModelSpec
    precision: str
    sha256: str
    weights: str
    weights_sha256: str = ""
    made_from: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    verified: dict[str, float] = field(default_factory=dict)
    accuracy: list[dict[str, Any]] = field(default_factory=list)
    engine: EngineInfo | None = None
    layers: dict[str, list[str]] = field(default_factory=dict)
    int8_share: float | None = None

    @property
    def random_weights(self) -> bool:
        """True if the key points mean nothing: the file is for timing only."""
        return self.weights == "random"

    @property
    def plan(self) -> EngineInfo:
        """How the plan was built.

        Raises:
            ModelFileError: the file is an ONNX.
        """
        if self.engine is None:
            raise ModelFileError(f"{self.spec.name}: its passport is that of an ONNX, not of a TensorRT plan")
        return self.engine

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        data = {item.name: to_plain(getattr(self, item.name)) for item in fields(self)}
        data["spec"] = self.spec.to_json()
        return {"edgepose_passport": FORMAT, **data}

    @classmethod
    def from_json(cls, data: Any) -> Passport:
        """Read what `to_json` wrote; ModelFileError on anything else."""
        if not isinstance(data, Mapping) or "edgepose_passport" not in data:
            raise ModelFileError("not an edgepose passport (no 'edgepose_passport' key)")
        if data["edgepose_passport"] not in (1, FORMAT):
            raise ModelFileError(
                f"passport of format {data['edgepose_passport']}, this edgepose reads 1 and {FORMAT}: "
                f"export the model again, or update edgepose"
            )
        if (text := unprintable(data)) is not None:
            raise ModelFileError(f"passport with a text that has control codes: {text[:80]!r}")
        values = {key: value for key, value in data.items() if key != "edgepose_passport"}
        try:
            if values.get("engine") is not None:
                values["engine"] = engine_from_json(values["engine"])
            passport = cls(**{**values, "spec": ModelSpec.from_json(values.get("spec"))})
        except TypeError as error:
            raise ModelFileError(f"passport with wrong entries: {error}") from error
        if passport.precision not in PRECISIONS:
            raise ModelFileError(f"passport with precision {passport.precision!r}; known: {', '.join(PRECISIONS)}")
        for kind, keys in (
            (str, ("sha256", "weights", "weights_sha256")),
            (dict, ("made_from", "versions", "verified", "layers")),
            (list, ("accuracy",)),
        ):
            for key in keys:
                if not isinstance(value := getattr(passport, key), kind):
                    raise ModelFileError(f"passport with {key} {value!r}: not of the right type")
        for wanted, key, found in (
            (str, "made_from", passport.made_from.values()),
            (str, "versions", passport.versions.values()),
            ((int, float), "verified", passport.verified.values()),
            (list, "layers", passport.layers.values()),
            ((int, float, type(None)), "int8_share", [passport.int8_share]),
            (dict, "accuracy", passport.accuracy),
        ):
            for value in found:
                if not isinstance(value, wanted):
                    raise ModelFileError(f"passport with {value!r} in {key}: not of the right type")
        return passport


def passport_path(model: Path) -> Path:
    """Where a model file's passport lies: the file's name with .json behind it."""
    return Path(f"{model}.json")


def write_passport(model: Path, passport: Passport) -> None:
    """Write the passport beside its model file."""
    write_json(passport_path(model), printable(passport.to_json()))


def read_passport(model: Path) -> Passport:
    """Read and check the passport of a model file.

    Raises:
        ModelFileError: the file or the passport is missing or damaged, or the passport is another file's.
    """
    model = Path(model)
    path = passport_path(model)
    if not model.is_file():
        raise ModelFileError(f"{model}: {why_no_file(model, 'a model file')}")
    its_model = model.with_suffix("")
    if not path.is_file() and its_model.is_file() and passport_path(its_model) == model:
        raise ModelFileError(f"{model} is a passport: give the model file that it is of, {its_model}")
    if not path.is_file():
        _refuse_what_is_no_model(model)
        raise ModelFileError(
            f"{model} has no passport ({path.name}): copy the .json along with the model, export it again, "
            f"or give a foreign ONNX one: edgepose import {model} --spec SPEC.json"
        )
    try:
        passport = Passport.from_json(parse_json(read_input(path)))
    except (InputError, ValueError) as error:  # ValueError: not UTF-8, not JSON, or with numbers that are none
        raise ModelFileError(f"{path}: not a readable passport ({error}): export the model again") from error
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    try:
        found = sha256_of(model)
    except OSError as error:
        raise ModelFileError(f"{model}: cannot be read ({error.strerror})") from error
    if passport.sha256 != found:
        _refuse_what_is_no_model(model)  # a clone without Git LFS has pointers, and whole passports
        raise ModelFileError(
            f"{path} belongs to another file (sha256 {passport.sha256[:12]}…, {model.name} has {found[:12]}…): "
            f"copy the model and its passport together, or export it again"
        )
    return passport


def _refuse_what_is_no_model(path: Path) -> None:
    try:
        told = told_by_first_bytes(path)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from error
    if told:
        raise ModelFileError(f"{path} is not a model file: {told}")


def keep_accuracy(made: Path, earlier: Path) -> None:
    """Carry over what was measured on an earlier file of the same bytes and recipe, if there is one."""
    try:
        known = read_passport(earlier)
    except ModelFileError:  # there is none, or not a whole one
        return
    passport = read_passport(made)
    if (known.sha256, known.spec) == (passport.sha256, passport.spec):
        write_passport(made, replace(passport, accuracy=known.accuracy))
