"""The numpy SimCC decoder against mmpose's and rtmlib's own functions, side by side.

    OPENBLAS_NUM_THREADS=1 python -m edgepose.benchmarks.peers.simcc

Their source files come out of their PyPI wheels when this runs; neither package is installed. Both are called as their
projects do: mmpose's codec and rtmlib's `RTMPose` decode person by person. `argmax` is numpy's argmax of both vectors
and nothing else: what no decoder in numpy can go below.
"""

from __future__ import annotations

import tempfile
import types
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import click
import numpy as np

from edgepose.benchmarks.peers.decode import MMPOSE, fetch_wheel, load_mmpose, seconds
from edgepose.errors import InputError
from edgepose.model.heads.simcc import SimCC
from edgepose.stages.simcc import decode_simcc

RTMLIB = "rtmlib==0.0.16"
HEAD = SimCC(split_ratio=2.0)
BINS = (384, 512)  # of an input of 256x192

Decode = Callable[[np.ndarray, np.ndarray], np.ndarray]


def load_rtmlib(wheel: Path) -> types.ModuleType:
    """rtmlib/tools/pose_estimation/post_processings.py of a wheel as a module."""
    module = types.ModuleType("rtmlib_post_processings")
    name = "rtmlib/tools/pose_estimation/post_processings.py"
    try:
        with zipfile.ZipFile(wheel) as archive:
            exec(compile(archive.read(name), f"{wheel}/{name}", "exec"), module.__dict__)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} is not a wheel of {RTMLIB}: {error}") from error
    return module


def person_by_person(get_simcc_maximum: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Decode:
    """One of their functions over all people, its positions divided by the split ratio as both projects do."""

    def decode(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        keypoints = np.empty((*x.shape[:2], 3), np.float32)
        for index, result in enumerate(keypoints):
            places, scores = get_simcc_maximum(x[index : index + 1], y[index : index + 1])
            result[:, :2], result[:, 2] = places[0] / HEAD.split_ratio, scores[0]
        return keypoints

    return decode


def argmax_alone(x: np.ndarray, y: np.ndarray) -> None:
    """The highest bin of each vector, which is most of a decoder's time."""
    for vectors in (x, y):
        vectors.reshape(-1, vectors.shape[2]).argmax(1)


def drawn_vectors(people: int, points: int = 17, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, W') and (N, K, H') float32: a Gaussian somewhere in each vector, and a little noise."""
    rng = np.random.default_rng(seed)
    vectors = []
    for bins in BINS:
        distance = np.arange(bins) - rng.uniform(0, bins - 1, (people, points, 1))
        vectors.append((np.exp(-(distance**2) / 60) + rng.normal(0, 0.01, distance.shape)).astype(np.float32))
    return vectors[0], vectors[1]


@click.command()
@click.option("--people", type=click.IntRange(1), multiple=True, default=(1, 8, 64), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True)
@click.option("--warm", is_flag=True, help="Time each call behind one of its own, not behind the other's.")
def main(people: tuple[int, ...], rounds: int, warm: bool) -> None:
    """Compare SimCC decoders on drawn vectors of 17 key points and 384 and 512 bins; times are of the whole batch."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            mmpose = load_mmpose(fetch_wheel(MMPOSE, Path(folder))).post_processing
            rtmlib = load_rtmlib(fetch_wheel(RTMLIB, Path(folder)))
    except InputError as error:
        raise click.ClickException(str(error)) from error
    peers = {"mmpose": person_by_person(mmpose.get_simcc_maximum), "rtmlib": person_by_person(rtmlib.get_simcc_maximum)}
    click.echo(
        f"{'people':>6} {'ours us':>8} {'argmax us':>9}"
        + "".join(f" {name + ' us':>10} {'ratio':>6}" for name in peers)
    )
    for count in people:
        x, y = drawn_vectors(count)
        found = decode_simcc(x, y, HEAD)
        for name, decode in peers.items():
            if not np.array_equal(decode(x, y)[..., :2], found[..., :2]):  # rtmlib's score is the mean of both vectors'
                raise click.ClickException(f"{name} finds other key points")
        timed: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
            "ours": partial(decode_simcc, head=HEAD),
            "argmax": argmax_alone,
            **peers,
        }
        times: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(rounds):
            for name, call in timed.items():
                if warm:
                    call(x, y)
                times[name].append(seconds(partial(call, x, y)))
        medians = {name: median(each) * 1e6 for name, each in times.items()}
        row = "".join(f" {medians[name]:10.1f} {medians[name] / medians['ours']:5.1f}x" for name in peers)
        click.echo(f"{count:6} {medians['ours']:8.1f} {medians['argmax']:9.1f}{row}")


if __name__ == "__main__":
    main()
