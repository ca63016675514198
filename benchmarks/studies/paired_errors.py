"""What INT8 costs in AP, with the standard error that these images leave: a bootstrap of both files on the same draws.

    python -m edgepose.benchmarks.studies.paired_errors FP32.onnx INT8.onnx --images DIR --annotations FILE

Efron, "Bootstrap methods", Annals of Statistics 1979: images are drawn with replacement, as many as there are, and
the standard deviation of the difference over the draws is its standard error.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from unittest import mock

import click
import numpy as np

from edgepose.estimate.detect import load_detector
from edgepose.evaluation import detectors, figures
from edgepose.evaluation.coco_ap import resampled_ap
from edgepose.evaluation.evaluate import evaluate
from edgepose.model.passport import read_passport


def paired_error(first: np.ndarray, second: np.ndarray) -> float:
    """The standard error of a difference, from the two figures of each draw, (n,) both."""
    return float(np.nanstd(second - first, ddof=1))


@click.command()
@click.argument("models", nargs=2, type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--annotations", type=click.Path(path_type=Path), required=True)
@click.option("--detector", type=click.Path(path_type=Path), help="Of pose networks: finds the boxes.")
@click.option("--draws", type=click.IntRange(2), default=1000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(
    models: tuple[Path, Path], images: Path, annotations: Path, detector: Path | None, draws: int, seed: int
) -> None:
    """Print both files' AP and their difference with its standard error; two detectors or two pose networks."""
    boxes = read_passport(models[0]).spec.head.kind == "detections"
    module, name = (detectors, "box_average_precision") if boxes else (figures, "average_precision")
    with ExitStack() as stack:
        judged = stack.enter_context(mock.patch.object(module, name, wraps=getattr(module, name)))
        if boxes:
            detectors.evaluate_detectors(models, images, annotations)
        else:
            finder = None if detector is None else stack.enter_context(closing(load_detector(detector, exact=True)))
            evaluate(models, images, annotations, detector=finder)
    calls = [call.args for call in judged.call_args_list]
    count, rng = len(calls[0][0]), np.random.default_rng(seed)
    samples = [np.arange(count), *(rng.integers(count, size=count) for _ in range(draws))]
    first, second = (resampled_ap(truth, found, samples, *sigmas) for truth, found, *sigmas in calls)
    error = paired_error(first[1:], second[1:])
    figures_of = ", ".join(f"{model.name} {ap[0]:.3f}" for model, ap in zip(models, (first, second), strict=True))
    click.echo(f"{figures_of}: {second[0] - first[0]:+.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()
