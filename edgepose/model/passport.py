"""What is known of one model file: its `Passport`, which binds a `ModelSpec` to the file by its hash."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepose.errors import InputError, ModelFileError
from edgepose.files import parse_json, read_input, sha256_of, write_json
from edgepose.model.printable import printable, unprintable
from edgepose.model.spec import ModelSpec

FORMAT = 1  # of the passport's JSON

PRECISIONS = ("fp32", "fp16", "int8")
RUNTIMES = ("tensorrt", "tensorrt_rtx")  # the modules that a plan's passport may name: they are imported


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
        engine: of a TensorRT plan: `runtime` (module), `tensorrt` (its version), `gpu` (name; empty where it was built
            for named targets), `targets` (compute capabilities, "sm_87"), `max_batch`, `version_compatible`, `dla`
            (core or None), `kernels` (`file` and `sha256` of the CUDA kernels compiled for the targets, or None).
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
    engine: dict[str, Any] | None = None

    @property
    def random_weights(self) -> bool:
        """True if the key points mean nothing: the file is for timing only."""
        return self.weights == "random"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        data = asdict(self)
        data["spec"] = self.spec.to_json()
        return {"edgepose_passport": FORMAT, **data}

    @classmethod
    def from_json(cls, data: Any) -> Passport:
        """Read what `to_json` wrote; ModelFileError on anything else."""
        if not isinstance(data, Mapping) or "edgepose_passport" not in data:
            raise ModelFileError("not an edgepose passport (no 'edgepose_passport' key)")
        if data["edgepose_passport"] != FORMAT:
            raise ModelFileError(
                f"passport of format {data['edgepose_passport']}, this edgepose reads {FORMAT}: export the model again"
            )
        if (text := unprintable(data)) is not None:
            raise ModelFileError(f"passport with a text that has control codes: {text[:80]!r}")
        values = {key: value for key, value in data.items() if key != "edgepose_passport"}
        try:
            passport = cls(**{**values, "spec": ModelSpec.from_json(values.get("spec"))})
        except TypeError as error:
            raise ModelFileError(f"passport with wrong entries: {error}") from error
        if passport.precision not in PRECISIONS:
            raise ModelFileError(f"passport with precision {passport.precision!r}; known: {', '.join(PRECISIONS)}")
        for kind, keys in (
            (str, ("sha256", "weights", "weights_sha256")),
            (dict, ("made_from", "versions", "verified")),
            (list, ("accuracy",)),
            ((dict, type(None)), ("engine",)),
        ):
            for key in keys:
                if not isinstance(value := getattr(passport, key), kind):
                    raise ModelFileError(f"passport with {key} {value!r}: not of the right type")
        for wanted, key, found in (
            (str, "made_from", passport.made_from.values()),
            (str, "versions", passport.versions.values()),
            ((int, float), "verified", passport.verified.values()),
            (dict, "accuracy", passport.accuracy),
        ):
            for value in found:
                if not isinstance(value, wanted):
                    raise ModelFileError(f"passport with {value!r} in {key}: not of the right type")
        if passport.engine is not None:
            _check_engine(passport.engine)
        return passport


def _check_engine(engine: dict[str, Any]) -> None:
    for key, kind in (
        ("runtime", str),
        ("tensorrt", str),
        ("gpu", str),
        ("targets", list),
        ("max_batch", int),
        ("version_compatible", bool),
        ("dla", (int, type(None))),
        ("kernels", (dict, type(None))),
    ):
        if key not in engine or not isinstance(engine[key], kind):
            raise ModelFileError(f"passport with {key} {engine.get(key)!r} of the engine: not of the right type")
    kernels = engine["kernels"] or {"file": "", "sha256": "0" * 64}
    for key, fits in (
        ("runtime", engine["runtime"] in RUNTIMES),  # it is imported
        ("tensorrt", re.fullmatch(r"\d{1,4}(\.\w{1,20}){1,5}", engine["tensorrt"])),
        ("targets", engine["targets"] and all(re.fullmatch(r"sm_\d{2,4}", str(each)) for each in engine["targets"])),
        ("max_batch", type(engine["max_batch"]) is int and 1 <= engine["max_batch"] <= 65535),
        ("dla", engine["dla"] is None or (type(engine["dla"]) is int and 0 <= engine["dla"] < 16)),
        ("kernels", isinstance(kernels.get("file"), str) and _is_sha256(kernels.get("sha256"))),
    ):
        if not fits:
            known = f"; known: {', '.join(RUNTIMES)}" if key == "runtime" else ": damaged"
            raise ModelFileError(f"passport with {key} {str(engine[key])[:80]!r} of the engine{known}")


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


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
        raise ModelFileError(f"{model}: {'a folder, a model file was wanted' if model.is_dir() else 'no such file'}")
    its_model = model.with_suffix("")
    if not path.is_file() and its_model.is_file() and passport_path(its_model) == model:
        raise ModelFileError(f"{model} is a passport: give the model file that it is of, {its_model}")
    if not path.is_file():
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
        raise ModelFileError(
            f"{path} belongs to another file (sha256 {passport.sha256[:12]}…, {model.name} has {found[:12]}…): "
            f"copy the model and its passport together, or export it again"
        )
    return passport


def keep_accuracy(made: Path, earlier: Path) -> None:
    """Carry over what was measured on an earlier file of the same bytes and recipe, if there is one."""
    try:
        known = read_passport(earlier)
    except ModelFileError:  # there is none, or not a whole one
        return
    passport = read_passport(made)
    if (known.sha256, known.spec) == (passport.sha256, passport.spec):
        write_passport(made, replace(passport, accuracy=known.accuracy))
