"""Networks that give maps of a whole picture: compared by their maps' values, and written as FP32 and FP16 ONNX.

There is no one position to compare, so the maps are: their values, as shares of the largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgepose.backends import load_runtime
from edgepose.errors import ExportError, ModelFileError
from edgepose.export.drawn.people import make_background, make_pose
from edgepose.export.drawn.rendered import draw_person
from edgepose.export.graph.fp16 import to_fp16
from edgepose.export.graph.interface import normalize, set_interface, to_opset
from edgepose.export.graph.run import beyond_fp16, run_onnx
from edgepose.export.graph.simplify import simplify
from edgepose.export.pair import Weights, write_pair
from edgepose.export.pipeline import Report
from edgepose.export.verify import FP16_LIMIT_RELATIVE, FP32_LIMIT_RELATIVE
from edgepose.model.spec import ModelSpec
from edgepose.stages.letterbox import Letterbox, as_input

Maps = Mapping[str, np.ndarray]

INPUT = "images"
SAMPLES = 2  # pictures that networks are compared on


@dataclass(frozen=True)
class ExportedMaps:
    """What was written.

    Attributes:
        fp32, fp16: the two ONNX files; each has its passport beside it.
        fp32_difference, fp16_difference: largest difference of a map's value, as a share of the largest value: of
            FP32 from the original, of FP16 from FP32.
    """

    fp32: Path
    fp16: Path
    fp32_difference: float
    fp16_difference: float

    def summary(self) -> str:
        """What was written and how exact it is, for people."""
        rows = ((self.fp32, self.fp32_difference, "the original's"), (self.fp16, self.fp16_difference, "FP32's"))
        return "\n".join(
            f"{path}: maps within {difference:.1e} of {reference} largest value" for path, difference, reference in rows
        )


def sample_pictures(spec: ModelSpec, count: int = SAMPLES) -> np.ndarray:
    """(count, 3, H, W) float32: drawn people, always the same ones, laid in and normalised."""
    rng = np.random.default_rng(0)
    backgrounds = [make_background(rng)]
    images = [draw_person(make_pose(rng), backgrounds, rng).image for _ in range(count)]
    return np.stack(
        [as_input(image, Letterbox.of((image.shape[0], image.shape[1]), spec.image), spec.image) for image in images]
    )


def largest_difference(reference: Maps, maps: Maps) -> float:
    """Over all outputs, as a share of each one's largest value; infinite where one is not finite."""
    shares = [0.0]
    for name, wanted in reference.items():
        found = maps[name].astype(np.float64)
        if found.shape != wanted.shape or not np.isfinite(found).all():
            return float("inf")
        shares.append(float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-12)))
    return max(shares)


def run_maps(model: onnx.ModelProto, pictures: np.ndarray, spec: ModelSpec, path: Path | None = None) -> Maps:
    """The spec's outputs for (n, 3, H, W) pictures; ModelFileError unless they are finite and of its shapes."""
    maps = dict(zip(spec.outputs, run_onnx(model, pictures, list(spec.outputs)), strict=True))
    for name, shape in spec.outputs.items():
        if maps[name].shape != (len(pictures), *shape):
            raise ModelFileError(
                f"{path or 'the graph'} gives {name} of {'x'.join(map(str, maps[name].shape[1:]))}, the spec says "
                f"{'x'.join(map(str, shape))}: correct the spec, or name other outputs"
            )
        if not np.isfinite(maps[name]).all():
            raise ModelFileError(f"{path or 'the graph'} gives NaN or infinite {name}; its weights are damaged")
    return maps


def formed(
    original: onnx.ModelProto, spec: ModelSpec, pictures: np.ndarray, reference: Maps, batch: int | str
) -> tuple[onnx.ModelProto, float]:
    """The graph simplified, with declared shapes, and how far that moved a value."""
    model = normalize(to_opset(original))
    set_interface(model, spec, batch)
    simplified = simplify(model)
    set_interface(simplified, spec, batch)
    difference = largest_difference(reference, run_maps(simplified, pictures, spec))
    if not difference <= FP32_LIMIT_RELATIVE:
        raise ExportError(
            f"the simplified graph differs from the original by {difference:.2g} of a map's largest value (at most "
            f"{FP32_LIMIT_RELATIVE:g}); no file was written"
        )
    return simplified, difference


def write_maps(
    model: onnx.ModelProto, spec: ModelSpec, weights: Weights, difference: float, output_dir: Path, report: Report
) -> ExportedMaps:
    """Both files with their passports, or none."""
    pictures = sample_pictures(spec)
    report("making the FP16 graph")
    half = to_fp16(model, keep_fp32=beyond_fp16(model, pictures[:1]))

    def judge(fp32: Path, fp16: Path) -> tuple[dict[str, float], float]:
        report("comparing FP16 with FP32")
        with closing(load_runtime(fp32, backend="onnxruntime")) as runtime:
            reference = runtime.run({INPUT: pictures})
        with closing(load_runtime(fp16, exact=True, backend="openvino")) as runtime:
            found = largest_difference(reference, runtime.run({INPUT: pictures}))
        if not found <= FP16_LIMIT_RELATIVE:  # NaN must fail as well
            raise ExportError(
                f"the FP16 graph differs from FP32 by {found:.2g} of a map's largest value (at most "
                f"{FP16_LIMIT_RELATIVE:g}); no file was written"
            )
        return {"fp16_maps_relative": found}, found

    verified = {"fp32_maps_relative": difference}
    fp32, fp16, in_half = write_pair(model, half, spec, weights, verified, judge, output_dir)
    return ExportedMaps(fp32, fp16, difference, in_half)
