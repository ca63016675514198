"""Whether crops that are chosen to cover a set give better ranges than as many taken at random.

    python -m edgepose.benchmarks.studies.select_crops --model m.onnx --pool DIR BOXES.json [--pool ...] \\
        --images DIR --boxes FILE

Each crop of the pool votes for its ranges once; a choice of crops takes the ranges that its votes win, and the INT8
network is run on people of other images. Equalisation and biases are those of the whole pool: the ranges alone vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from edgepose.calibration.dataset import CalibrationImage, crops_of, read_calibration_set
from edgepose.calibration.effects import Difference
from edgepose.calibration.equalise import equalised, find_factors
from edgepose.calibration.mixes import Ground, quantise
from edgepose.calibration.partial import run_tapped
from edgepose.calibration.qdq import quantisable_layers, quantised_inputs
from edgepose.calibration.ranges import Histogram, Probe, Votes
from edgepose.calibration.results import load_onnx
from edgepose.calibration.select import features_of, scaled, support_points
from edgepose.calibration.statistics import channel_statistics
from edgepose.export.graph.fold import fold
from edgepose.model.passport import read_passport
from edgepose.model.spec import ModelSpec

SIZES = (10, 30, 100, 300)
SEEDS = 10


def read(folder: Path, boxes: Path, limit: int = 10**6) -> list[CalibrationImage]:
    """All people of a folder."""
    people = read_calibration_set([folder], boxes, limit=limit, seed=0)
    return [*people.fitting, *people.held_out]


def shift(
    ground: Ground, crops: Sequence[np.ndarray], wanted: Sequence[dict[str, np.ndarray]], spec: ModelSpec
) -> float:
    """Mean shift of confident key points, px of the input."""
    tally = Difference(spec)
    for exact, found in zip(wanted, run_tapped(quantise(ground, ground.layers), crops), strict=True):
        tally.add(exact, found)
    return tally.effect().shift_px


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="FP32 ONNX with its passport.")
@click.option("--pool", type=(click.Path(path_type=Path), click.Path(path_type=Path)), multiple=True, required=True)
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--boxes", type=click.Path(path_type=Path), required=True)
def main(model: Path, pool: tuple[tuple[Path, Path], ...], images: Path, boxes: Path) -> None:
    """Print the shift for chosen and for random crops."""
    spec = read_passport(model).spec
    people = [image for folder, file in pool for image in read(folder, file)]
    folded = fold(load_onnx(model))
    shuffled = [people[index] for index in np.random.default_rng(0).permutation(len(people))]
    statistics = channel_statistics(folded, crops_of(shuffled, spec))
    scales = find_factors(folded, statistics)
    prepared = equalised(folded, {name: values.tolist() for name, values in scales.items()})
    means = {name: np.median(seen.mean, axis=0) * scales.get(name, 1.0) for name, seen in statistics.items()}
    layers = tuple(quantisable_layers(prepared))
    tensors = list(quantised_inputs(prepared, layers))
    probe = Probe(prepared, tensors)
    ballots = [
        {name: Histogram(value).range_by("mse") for name, value in probe.run(crop).items() if name in tensors}
        for crop in crops_of(people, spec)
    ]
    features = scaled(features_of(prepared, crops_of(people, spec)))
    tested = list(crops_of(read(images, boxes), spec))
    outputs = [item.name for item in prepared.graph.output]
    wanted = [{name: known[name] for name in outputs} for known in run_tapped(prepared, tested)]
    ground = Ground(prepared, layers, {}, means)

    def of(rows: Sequence[int]) -> float:
        votes = {name: Votes() for name in tensors}
        for row in rows:
            for name in tensors:
                votes[name].add(ballots[row][name])
        ranges = {name: each.winner() for name, each in votes.items()}
        return shift(replace(ground, ranges=ranges), tested, wanted, spec)

    click.echo(
        f"{spec.name}: {len(ballots)} crops, {len(tested)} people tested; all: {of(range(len(ballots))):.3f} px\n"
    )
    click.echo("| crops | chosen | at random, 10 seeds: mean | worst |\n| --- | --- | --- | --- |")
    for size in SIZES:
        drawn = [of(np.random.default_rng(seed).permutation(len(ballots))[:size].tolist()) for seed in range(SEEDS)]
        spread = f"{np.mean(drawn):.3f} ± {np.std(drawn, ddof=1):.3f} | {max(drawn):.3f}"
        click.echo(f"| {size} | {of(support_points(features, size)):.3f} | {spread} |")


if __name__ == "__main__":
    main()
