"""Our INT8 file against those of onnxruntime.quantization, from the same crops, on the same people.

    python -m edgepose.benchmarks.quantization_peers --model m.onnx --images calibration/ --boxes boxes.json \\
        --test-images test/ --annotations people.json
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from edgepose.calibration.dataset import CalibrationImage, crops_of, read_calibration_set
from edgepose.calibration.pipeline import calibrate
from edgepose.calibration.prepare import fold
from edgepose.evaluation import Evaluation, evaluate
from edgepose.evaluation_text import conditions_of
from edgepose.files import sha256_of
from edgepose.passport import ModelSpec, read_passport, write_passport

METHODS: dict[str, tuple[Any, dict[str, float]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "entropy": (CalibrationMethod.Entropy, {}),
    "percentile99.999": (CalibrationMethod.Percentile, {"CalibPercentile": 99.999}),  # its default
    "percentile99.99": (CalibrationMethod.Percentile, {"CalibPercentile": 99.99}),
    "percentile99.9": (CalibrationMethod.Percentile, {"CalibPercentile": 99.9}),
}


def peer_files(
    model: Path, images: Sequence[CalibrationImage], folder: Path, methods: Sequence[str] = tuple(METHODS)
) -> Iterator[Path]:
    """Quantise an FP32 model by each method, symmetric, weights per channel, everything or all but depthwise and head.

    BatchNorm is folded first, as onnxruntime's own preparation does for shapes it knows.

    Args:
        model: FP32, with its passport.
        images: whose crops give the ranges.
        folder: where METHOD.onnx and METHOD-part.onnx go, each with a passport.
    """
    passport = read_passport(model)
    folded = fold(onnx.load(model))
    source = folder / f"{model.stem}.folded.onnx"
    onnx.save(folded, source)
    for name in methods:
        method, options = METHODS[name]
        for suffix, left_out in ((name, []), (f"{name}-part", _depthwise_and_head(folded))):
            path = folder / f"{suffix}.onnx"
            with redirect_stdout(StringIO()):  # it prints at every step
                quantize_static(
                    source,
                    path,
                    _Reader(images, passport.spec),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QInt8,
                    weight_type=QuantType.QInt8,
                    nodes_to_exclude=left_out,
                    calibrate_method=method,
                    extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, **options},
                )
            write_passport(path, replace(passport, precision="int8", sha256=sha256_of(path), accuracy=[]))
            yield path


def compare(
    model: Path, images: Sequence[str], boxes: Path | None, test_images: Path, annotations: Path, limit: int
) -> Evaluation:
    """Evaluate the FP32 file, our INT8 file and the peers'; nothing is left behind."""
    people = read_calibration_set(images, boxes, limit=limit, seed=0)
    with tempfile.TemporaryDirectory() as name:
        ours = calibrate(model, images, boxes, method="percentile", limit=limit, output_dir=Path(name))
        peers = peer_files(model, people.fitting, Path(name))
        return evaluate([model, ours.int8, *peers], test_images, annotations, backend="openvino")


class _Reader:
    """Crops one by one, as onnxruntime.quantization asks for them."""

    def __init__(self, images: Sequence[CalibrationImage], spec: ModelSpec) -> None:
        self._crops = crops_of(images, spec)

    def get_next(self) -> dict[str, np.ndarray] | None:
        crop = next(self._crops, None)
        return None if crop is None else {"crops": crop}


def _depthwise_and_head(model: onnx.ModelProto) -> list[str]:
    """The layers that quantise worst: grouped convolutions, and the one that makes the heat maps."""

    def groups(node: Any) -> int:
        return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)

    layers = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    return [node.name for node in layers if groups(node) > 1] + [layers[-1].name]


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="FP32 ONNX with its passport.")
@click.option("--images", multiple=True, required=True, help="To calibrate with.")
@click.option("--boxes", type=click.Path(path_type=Path), help="Of --images.")
@click.option("--test-images", type=click.Path(path_type=Path), required=True, help="To measure on.")
@click.option("--annotations", type=click.Path(path_type=Path), required=True, help="Of --test-images.")
@click.option("--limit", type=click.IntRange(1), default=512, show_default=True, help="Most people to calibrate with.")
def main(
    model: Path, images: tuple[str, ...], boxes: Path | None, test_images: Path, annotations: Path, limit: int
) -> None:
    """Print the accuracy of FP32, of our INT8 and of onnxruntime.quantization's."""
    logging.getLogger().setLevel(logging.ERROR)  # it warns of what it was not asked for
    evaluation = compare(model, images, boxes, test_images, annotations, limit)
    click.echo(f"{'':28}{'AP':>8}{'PCK@0.2':>9}{'shift mean':>12}{'over 1 px':>11}")
    for each in evaluation.engines:
        figures = "".join(
            f"{'-' if value is None else format(value, '.3f'):>{width}}"
            for value, width in ((each.figures["AP"], 8), (each.figures["PCK@0.2"], 9))
        )
        shift = f"{each.shift['mean']:>12.3f}{each.shift['share_over_1']:>11.1%}" if each.shift else ""
        click.echo(f"{each.engine.name[:27]:28}{figures}{shift}")
    click.echo("\n".join(conditions_of(evaluation)))


if __name__ == "__main__":
    main()
