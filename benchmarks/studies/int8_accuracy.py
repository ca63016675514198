"""INT8 accuracy side by side: edgepose's methods and onnxruntime.quantization's settings, on the same crops.

    python -m edgepose.benchmarks.studies.int8_accuracy --model m.onnx --calibration-images DIR \\
        --calibration-boxes FILE --images DIR --annotations COCO.json

Every file is run by OpenVINO. onnxruntime.quantization quantises the graph with BatchNorm folded (its own advice),
per-channel and symmetric as TensorRT wants it; its bias stays float. It holds all activations of all crops in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from edgepose.calibration.dataset import crops_of, read_calibration_set
from edgepose.calibration.pipeline import calibrate
from edgepose.calibration.ranges import METHODS
from edgepose.evaluation.accuracy import ModelAccuracy
from edgepose.evaluation.evaluate import evaluate
from edgepose.export.graph.edit import attributes_of
from edgepose.export.graph.fold import fold
from edgepose.files import sha256_of
from edgepose.model.passport import read_passport, write_passport

PEERS = {  # name -> method, and whether depthwise convolutions and the head stay in float
    "onnxruntime minmax": (CalibrationMethod.MinMax, False),
    "onnxruntime percentile": (CalibrationMethod.Percentile, False),
    "onnxruntime minmax, depthwise and head float": (CalibrationMethod.MinMax, True),
    "onnxruntime percentile, depthwise and head float": (CalibrationMethod.Percentile, True),
}


class Crops(CalibrationDataReader):
    """Crops (1, 3, H, W) as onnxruntime asks for them."""

    def __init__(self, name: str, crops: Iterable[np.ndarray]) -> None:
        self._feeds = ({name: crop} for crop in crops)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one, None behind the last."""
        return next(self._feeds, None)


def quantise_with_onnxruntime(model: Path, setting: str, crops: Iterable[np.ndarray], output: Path) -> None:
    """Write the model as onnxruntime.quantization quantises it, with a passport."""
    method, leave_out = PEERS[setting]
    passport = read_passport(model)
    folded = fold(onnx.load(model))
    source = output.with_suffix(".folded.onnx")
    onnx.save(folded, source)
    quantize_static(
        source,
        output,
        Crops(folded.graph.input[0].name, crops),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        nodes_to_exclude=_depthwise_and_head(folded) if leave_out else [],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    write_passport(output, replace(passport, precision="int8", sha256=sha256_of(output), verified={}, accuracy=[]))


def _depthwise_and_head(model: onnx.ModelProto) -> list[str]:
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    outputs = {item.name for item in model.graph.output}
    return [
        node.name
        for node in convolutions
        if int(attributes_of(node).get("group", 1)) > 1 or outputs.intersection(node.output)
    ]


def _row(name: str, measured: ModelAccuracy) -> str:
    shift: dict[str, Any] = measured.shift or {"mean": 0.0, "p95": 0.0, "share_over_1": 0.0}
    figures = [measured.figures["AP"], measured.figures["PCK@0.2"]]
    cells = [f"{value:.3f}" if value is not None else "-" for value in figures]
    cells += [f"{shift['mean']:.3f}", f"{shift['p95']:.2f}", f"{shift['share_over_1']:.1%}"]
    return f"| {name} | {' | '.join(cells)} |"


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="FP32 ONNX with its passport.")
@click.option("--calibration-images", type=click.Path(path_type=Path), required=True)
@click.option("--calibration-boxes", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--annotations", type=click.Path(path_type=Path), required=True)
@click.option("--limit", type=click.IntRange(1), default=256, show_default=True, help="Most people to calibrate on.")
@click.option("--people", type=click.IntRange(1), help="Only the first so many images of the evaluation.")
@click.option("--peers/--no-peers", default=True, show_default=True)
def main(
    model: Path,
    calibration_images: Path,
    calibration_boxes: Path | None,
    images: Path,
    annotations: Path,
    limit: int,
    people: int | None,
    peers: bool,
) -> None:
    """Print a table of accuracy over the ways to quantise one model."""
    chosen = read_calibration_set([calibration_images], calibration_boxes, limit=limit, seed=0)
    spec = read_passport(model).spec
    with tempfile.TemporaryDirectory() as folder:
        files = {"FP32": model}
        for method in METHODS:
            output = Path(folder) / method
            output.mkdir()
            files[f"edgepose {method}"] = calibrate(
                model, [calibration_images], calibration_boxes, method=method, limit=limit, output_dir=output
            ).int8
        for number, setting in enumerate(PEERS if peers else ()):
            files[setting] = Path(folder) / f"peer{number}.onnx"
            quantise_with_onnxruntime(model, setting, crops_of(chosen.fitting, spec), files[setting])
        evaluation = evaluate(list(files.values()), images, annotations, limit=people, backend="openvino")
    fitting = sum(map(len, chosen.fitting))
    click.echo(
        f"{spec.name}: ranges of {fitting} people in {calibration_images}, measured on "
        f"{evaluation.conditions['people']} people in {images}; shift of key points from FP32's, heat-map px\n"
    )
    click.echo("| | AP | PCK@0.2 | shift mean | p95 | over 1 px |\n| --- | --- | --- | --- | --- | --- |")
    for name, measured in zip(files, evaluation.models, strict=True):
        click.echo(_row(name, measured))


if __name__ == "__main__":
    main()
