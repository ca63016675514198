"""Our numpy decoders against mmpose's own functions, side by side.

    OPENBLAS_NUM_THREADS=1 python -m edgepose.benchmarks.peers.decode

mmpose's two source files come out of its PyPI wheel when this runs; mmpose, mmengine and mmcv are not installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import MagicMock, patch

import click
import cv2
import numpy as np

from edgepose.errors import InputError
from edgepose.model.spec import ModelSpec, heatmap_spec
from edgepose.stages.decode import decode_heatmaps

MMPOSE = "mmpose==1.3.2"
DECODERS = ("quarter", "dark", "udp")
CONFIDENT = 0.05  # positions of lower peaks are noise, and are not compared

Decode = Callable[[np.ndarray], np.ndarray]  # (N, K, h, w) float32 -> (N, K, 3)


@dataclass(frozen=True)
class Comparison:
    """One decoder at one batch size.

    Attributes:
        decoder: "quarter", "dark" or "udp".
        people: N.
        ours_us, mmpose_us: median microseconds per person.
        ratio: median over the rounds of mmpose's time by ours, both of the same round.
        largest_difference: between the two results, heat-map px, on peaks above CONFIDENT.
    """

    decoder: str
    people: int
    ours_us: float
    mmpose_us: float
    ratio: float
    largest_difference: float


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download a package's wheel, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise InputError(
            f"cannot download {requirement} ({reason[0]}); download its wheel elsewhere and name it by --wheel"
        )
    return next(folder.glob(f"{requirement.split('==')[0]}-*.whl"))


def fetch_mmpose(folder: Path) -> Path:
    """Download mmpose's wheel."""
    return fetch_wheel(MMPOSE, folder)


def load_mmpose(wheel: Path) -> types.ModuleType:
    """mmpose/codecs/utils/refinement.py of a wheel as a module; get_heatmap_maximum is `.post_processing`'s."""
    package = types.ModuleType("mmpose_codec_utils")
    package.__path__ = []
    names = {"post_processing": f"{package.__name__}.post_processing", "refinement": f"{package.__name__}.refinement"}
    modules = {name: types.ModuleType(full) for name, full in names.items()}
    unused = {name: MagicMock() for name in ("torch", "torch.nn", "torch.nn.functional")}  # by what we call
    known = {package.__name__: package, names["post_processing"]: modules["post_processing"], **unused}
    try:
        with zipfile.ZipFile(wheel) as archive, patch.dict(sys.modules, known):
            for name, module in modules.items():
                module.__package__ = package.__name__
                source = archive.read(f"mmpose/codecs/utils/{name}.py")
                exec(compile(source, f"{wheel}/{name}.py", "exec"), module.__dict__)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} is not a wheel of {MMPOSE}: {error}") from error
    modules["refinement"].post_processing = modules["post_processing"]  # type: ignore[attr-defined]
    return modules["refinement"]


def mmpose_decoder(mmpose: types.ModuleType, decoder: str, blur_kernel: int) -> Decode:
    """mmpose's functions, called as its codecs do: person by person, on a copy where they write into the maps."""

    def decode(heatmaps: np.ndarray) -> np.ndarray:
        keypoints = np.empty((*heatmaps.shape[:2], 3), np.float32)
        for person, result in zip(heatmaps, keypoints, strict=True):
            xy, scores = mmpose.post_processing.get_heatmap_maximum(person)
            if decoder == "quarter":
                xy = mmpose.refine_keypoints(xy[None], person)
            elif decoder == "dark":
                xy = mmpose.refine_keypoints_dark(xy[None], person.copy(), blur_kernel)
            else:
                xy = mmpose.refine_keypoints_dark_udp(xy[None], person.copy(), blur_kernel)
            result[:, :2], result[:, 2] = xy[0], scores
        return keypoints

    return decode


def drawn_heatmaps(people: int, spec: ModelSpec, seed: int = 0) -> np.ndarray:
    """(N, K, h, w) float32: a Gaussian peak of sigma 2 somewhere in each map, and a little noise."""
    rng = np.random.default_rng(seed)
    height, width = spec.heatmaps.size_hw
    shape = (people, spec.num_keypoints, 1, 1)
    x, y = rng.uniform(0, width - 1, shape), rng.uniform(0, height - 1, shape)
    distance = (np.arange(width) - x) ** 2 + (np.arange(height)[:, None] - y) ** 2
    peaks = rng.uniform(0.2, 1, shape) * np.exp(-distance / 8)
    return (peaks + rng.normal(0, 0.005, distance.shape)).astype(np.float32)


def compare(mmpose: types.ModuleType, decoder: str, people: int, rounds: int) -> Comparison:
    """Time both in turn, `rounds` times, on the same maps."""
    spec = heatmap_spec(decoder, (256, 192), (64, 48), decoder=decoder, quarter_guard="independent")
    heatmaps = drawn_heatmaps(people, spec)
    theirs = mmpose_decoder(mmpose, decoder, spec.heatmaps.blur_kernel)
    expected, found = theirs(heatmaps), decode_heatmaps(heatmaps, spec)
    difference = np.abs(found - expected)[expected[..., 2] > CONFIDENT]
    ours_s, theirs_s = [], []
    for _ in range(rounds):
        theirs_s.append(seconds(lambda: theirs(heatmaps)))
        ours_s.append(seconds(lambda: decode_heatmaps(heatmaps, spec)))
    return Comparison(
        decoder,
        people,
        ours_us=median(ours_s) / people * 1e6,
        mmpose_us=median(theirs_s) / people * 1e6,
        ratio=median(theirs / ours for theirs, ours in zip(theirs_s, ours_s, strict=True)),
        largest_difference=float(difference.max()),
    )


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = perf_counter()
    call()
    return perf_counter() - start


@click.command()
@click.option("--wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=f"A wheel of {MMPOSE}.")
@click.option("--people", type=click.IntRange(1), multiple=True, default=(1, 8, 64), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=50, show_default=True)
def main(wheel: Path | None, people: tuple[int, ...], rounds: int) -> None:
    """Compare decoders with mmpose's on drawn 64x48 heat maps of 17 key points; times are per person."""
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            mmpose = load_mmpose(wheel or fetch_mmpose(Path(folder)))
    except InputError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{'decoder':8} {'people':>6} {'ours us':>8} {'mmpose us':>9} {'ratio':>6}  largest difference, px")
    for decoder in DECODERS:
        for count in people:
            row = compare(mmpose, decoder, count, rounds)
            click.echo(
                f"{row.decoder:8} {row.people:6} {row.ours_us:8.1f} {row.mmpose_us:9.1f} {row.ratio:5.1f}x  "
                f"{row.largest_difference:.1e}"
            )


if __name__ == "__main__":
    main()
