"""A SimCC network in INT8 by edgepose, NNCF and onnxruntime.quantization, on the same people.

    pip install nncf
    python -m edgepose.benchmarks.peers.simcc_int8 --model simcc_tiny.onnx --calibration-images DIR \\
        --calibration-boxes FILE --images DIR --annotations COCO.json

All read the same FP32 file and the same people; ONNX Runtime computes every result as it is written, without
optimisations, as in edgepose.benchmarks.studies.simcc_int8.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from edgepose.benchmarks.peers.shares import int8_share
from edgepose.benchmarks.studies.int8_accuracy import Crops
from edgepose.benchmarks.studies.simcc_int8 import HEAD, People, given, row
from edgepose.calibration.biases import correct_biases
from edgepose.calibration.dataset import crops_of, read_calibration_set
from edgepose.calibration.equalise import equalised, find_factors
from edgepose.calibration.qdq import insert_qdq, quantisable_layers, quantised_inputs
from edgepose.calibration.ranges import find_ranges
from edgepose.calibration.results import load_onnx
from edgepose.calibration.statistics import channel_statistics
from edgepose.export.graph.fold import fold
from edgepose.model.passport import read_passport

ORT_METHODS = (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile)


def ours(model: onnx.ModelProto, crops: Sequence[np.ndarray]) -> onnx.ModelProto:
    """edgepose's default placement and method, in single precision between the pairs."""
    folded = fold(model)
    seen = channel_statistics(folded, crops)
    factors = find_factors(folded, seen)
    graph = equalised(folded, {name: values.tolist() for name, values in factors.items()})
    layers = quantisable_layers(graph)
    means = {name: np.median(value.mean, axis=0) * factors.get(name, 1.0) for name, value in seen.items()}
    ranges = find_ranges(graph, crops, list(quantised_inputs(graph, layers)), "mse")
    return insert_qdq(correct_biases(graph, layers, means), ranges, layers)


def with_nncf(model: onnx.ModelProto, crops: Sequence[np.ndarray], preset: str) -> onnx.ModelProto:
    """NNCF's post-training quantisation of an ONNX, with its own default of everything else."""
    nncf: Any = import_module("nncf")  # wants to be installed by hand: see above
    dataset = nncf.Dataset(list(crops), lambda crop: {"crops": crop})
    made: onnx.ModelProto = nncf.quantize(
        model, dataset, preset=nncf.QuantizationPreset(preset), subset_size=len(crops), fast_bias_correction=True
    )
    return made


def with_onnxruntime(model: onnx.ModelProto, crops: Sequence[np.ndarray], method: CalibrationMethod) -> onnx.ModelProto:
    """onnxruntime.quantization: Q/DQ, symmetric, a step for each channel of the weights."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(fold(model), source)
        quantize_static(
            source,
            output,
            Crops("crops", crops),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )
        return onnx.load(output)


@click.command()
@given
def main(
    model: Path, calibration_images: Path, calibration_boxes: Path | None, images: Path, annotations: Path, limit: int
) -> None:
    """Print each one's change of PCK, its key points' shift, and its share of INT8 in the multiply-adds."""
    spec, graph = read_passport(model).spec, load_onnx(model)
    people = People.read(images, annotations, spec)
    fitting = read_calibration_set([calibration_images], calibration_boxes, limit=limit, seed=0).fitting
    crops = list(crops_of(fitting, spec))
    exact = people.find(graph)
    click.echo(f"{len(crops)} people calibrate; FP32: PCK@0.2 {people.pck(exact):.1f}\n\n{HEAD}")
    ways: dict[str, Callable[[], onnx.ModelProto]] = {"edgepose, mse": lambda: ours(graph, crops)}
    for preset in ("performance", "mixed"):
        ways[f"NNCF, {preset}"] = lambda preset=preset: with_nncf(graph, crops, preset)  # type: ignore[misc]
    for method in ORT_METHODS:
        ways[f"onnxruntime, {method.name}"] = lambda method=method: with_onnxruntime(graph, crops, method)  # type: ignore[misc]
    for name, make in ways.items():
        made = make()
        click.echo(row(f"{name}; {int8_share(made):.1%} INT8", people.find(made), exact, people))


if __name__ == "__main__":
    main()
