"""What a model file means: `ModelSpec` (the recipe) and `Passport` (the recipe bound to one file by its hash)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgepose.errors import ModelFileError
from edgepose.files import sha256_of, write_json
from edgepose.model.skeletons import COCO17, Skeleton

FORMAT = 1  # of the passport's JSON

ALIGNMENTS = ("corner", "udp", "darkpose", "half-pixel")
DECODERS = (  # decode.cu knows them and the guards by their index
    "argmax", "quarter", "dark", "udp", "udp-combined", "udp-v0", "udp-original", "udp-combined-v0",
)  # fmt: skip
COMBINED = ("udp-combined", "udp-combined-v0")  # each key point's map brings two of offsets
QUARTER_GUARDS = ("joint", "independent", "interior")
PRECISIONS = ("fp32", "fp16", "int8")
RUNTIMES = ("tensorrt", "tensorrt_rtx")  # the modules that a plan's passport may name: they are imported

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # 255 * (0.485, 0.456, 0.406)
IMAGENET_STD = (58.395, 57.12, 57.375)  # 255 * (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Refine:
    """The second pass of a network that is run again on a closer crop around each key point (two_pass.py).

    Attributes:
        share: side of the closer crop, as a share of the first one's.
        decoder: how the second pass's peaks are read: one of DECODERS but not of COMBINED.
    """

    share: float
    decoder: str

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:  # False for NaN
            raise ValueError(f"refine's share must be a number over 0 and under 1, got {self.share}")
        known = [decoder for decoder in DECODERS if decoder not in COMBINED]
        if self.decoder not in known:
            raise ValueError(f"refine's decoder must be one of {', '.join(known)}, got {self.decoder!r}")


@dataclass(frozen=True)
class ModelSpec:
    """How a top-down heat-map network wants its input and how its output is read.

    Attributes:
        name: the model's name.
        input_hw: height and width of `crops`, px.
        heatmap_hw: height and width of `heatmaps`, px.
        color_order: order of the crops' three channels: "rgb" or "bgr".
        mean, std: per channel *of the crops* (so after the colour order), grey levels 0..255:
            crops = (pixel - mean) / std.
        box_padding: the box is enlarged by this factor before the aspect ratio is fixed.
        alignment: what geometry.Regions does between pixel grids: one of ALIGNMENTS.
        decoder: how decode.decode_heatmaps reads a peak: one of DECODERS.
        blur_kernel: side of the Gaussian of "dark" and all kinds of "udp", heat-map px, odd, at most 31.
        quarter_guard: border rule of "quarter": "joint" (SimpleBaseline, HRNet, mmpose v0), "independent" (mmpose v1)
            or "interior" (pytorch-pose's Stacked Hourglass).
        offset_radius: COMBINED decoders: offsets are in units of this share of max(heatmap_hw).
        flip_shift: columns the mirrored heat map is moved right before averaging, in the flip test.
        skeleton: names and pairs of the key points.
        refine: the second pass, if the network was trained for one.
        has_offsets: the decoder is one of COMBINED.
        output_channels: channels of `heatmaps`: K, or 3 K with offsets.
    """

    name: str
    input_hw: tuple[int, int]
    heatmap_hw: tuple[int, int]
    skeleton: Skeleton = COCO17
    color_order: str = "rgb"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    box_padding: float = 1.25
    alignment: str = "corner"
    decoder: str = "quarter"
    blur_kernel: int = 11
    quarter_guard: str = "joint"
    offset_radius: float = 0.0546875
    flip_shift: int = 1
    refine: Refine | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name):
            raise ValueError(f"name must be text, got {self.name!r}")
        for key, allowed in (
            ("color_order", ("rgb", "bgr")),
            ("alignment", ALIGNMENTS),
            ("decoder", DECODERS),
            ("quarter_guard", QUARTER_GUARDS),
        ):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {getattr(self, key)!r}")
        if type(self.flip_shift) is not int or self.flip_shift not in (0, 1):  # not True, not 1.0
            raise ValueError(f"flip_shift must be 0 or 1, got {self.flip_shift!r}")
        for key in ("input_hw", "heatmap_hw"):
            size = getattr(self, key)
            if len(size) != 2 or not all(isinstance(side, int) and 2 <= side <= 8192 for side in size):
                raise ValueError(
                    f"{key} must be two whole numbers of pixels (height, width) from 2 to 8192, got {size}"
                )
        for key in ("mean", "std"):
            if len(getattr(self, key)) != 3 or not all(math.isfinite(value) for value in getattr(self, key)):
                raise ValueError(f"{key} must be three finite numbers, got {getattr(self, key)}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        for key in ("box_padding", "offset_radius"):
            if not 0 < getattr(self, key) < 100:  # False for NaN
                raise ValueError(f"{key} must be a number over 0 and under 100, got {getattr(self, key)}")
        if self.refine is not None and self.has_offsets:
            raise ValueError(f"refine goes with one map a key point, not with {self.decoder}")
        if not (type(self.blur_kernel) is int and 1 <= self.blur_kernel <= 31 and self.blur_kernel % 2 == 1):
            raise ValueError(f"blur_kernel must be an odd number from 1 to 31, got {self.blur_kernel!r}")

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.skeleton)

    @property
    def has_offsets(self) -> bool:
        """Each key point has three maps: where it is, and the offsets in x and in y."""
        return self.decoder in COMBINED

    @property
    def output_channels(self) -> int:
        """Channels of the network's output: K, or 3 K where each key point brings two offsets."""
        return self.num_keypoints * (3 if self.has_offsets else 1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data["skeleton"] = self.skeleton.to_json()
        if self.refine is None:
            del data["refine"]  # an earlier edgepose reads it too
        else:
            data["refine"] = asdict(self.refine)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}

    @classmethod
    def from_json(cls, data: Any) -> ModelSpec:
        """Read what `to_json` wrote, or what a user wrote by hand; ModelFileError on anything else."""
        if not isinstance(data, Mapping):
            raise ModelFileError(f"a model spec must be a JSON object, got {type(data).__name__}")
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(data) - known)
        missing = sorted({"name", "input_hw", "heatmap_hw", "skeleton"} - set(data))
        if unknown or missing:
            found = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(
                missing
            )
            raise ModelFileError(f"model spec: {'; '.join(found)}; a spec has: {', '.join(sorted(known))}")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        values["skeleton"] = Skeleton.from_json(data["skeleton"])
        try:
            if values.get("refine") is not None:
                values["refine"] = Refine(**values["refine"])
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"model spec: {error}") from error


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
        if not isinstance(engine.get(key), kind):
            raise ModelFileError(f"passport with {key} {engine.get(key)!r} of the engine: not of the right type")
    if engine["runtime"] not in RUNTIMES:
        raise ModelFileError(f"passport with runtime {engine['runtime']!r} of the engine; known: {', '.join(RUNTIMES)}")
    kernels = engine.get("kernels") or {"file": "", "sha256": ""}
    if engine["max_batch"] < 1 or not all(isinstance(kernels.get(key), str) for key in ("file", "sha256")):
        raise ModelFileError(f"passport with an engine of max_batch {engine['max_batch']}, kernels {kernels}: damaged")


def passport_path(model: Path) -> Path:
    """Where a model file's passport lies: the file's name with .json behind it."""
    return Path(f"{model}.json")


def write_passport(model: Path, passport: Passport) -> None:
    """Write the passport beside its model file."""
    write_json(passport_path(model), passport.to_json())


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
        passport = Passport.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
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
