"""How far FP16 and INT8 move key points and bend heat maps, for every family of the zoo, on photographs of people.

    python -m edgepose.benchmarks.studies.int8_shift --calibration-images DIR --calibration-boxes FILE \\
        --images DIR --boxes FILE [--model hrnet_w32 ...] [--also trained.onnx ...]

Trained weights of most families cannot be shipped. Their networks get weights that are a function of each tensor's
name (`golden_weight`): the same ones anywhere, and those on which the networks were compared with the published
implementations. Such a network looks for nobody: its heat maps have no peak that means a key point, and their
largest value may lie far away after the smallest change. So besides the shift of key points each row tells how well
whole maps are kept (SQNR), how much lower FP32's map is where the other file sees its peak (lower), and the shift of
clear peaks alone. Trained networks (`--also`, and the embedded one) show what that comes to where peaks are real.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from edgepose.backends import Backend, load_backend
from edgepose.benchmarks.studies.golden_weights import golden_weight
from edgepose.calibration.dataset import CalibrationImage, read_calibration_set
from edgepose.calibration.pipeline import calibrate
from edgepose.calibration.ranges import METHODS
from edgepose.errors import EdgeposeError
from edgepose.estimate.two_pass import find_keypoints
from edgepose.evaluation.metrics import shift_summary
from edgepose.export.pipeline import export_model
from edgepose.export.zoo.find import find_model
from edgepose.io.images import read_image
from edgepose.model.passport import read_passport
from edgepose.stages.geometry import Regions

ENTRIES = (  # model and style; a model that brings weights of its own keeps them
    "simplebaseline_tiny",
    "simplebaseline_resnet50",
    "simplebaseline_keras",
    "hrnet_w32",
    "hrnet_w48",
    "cpm",
    "hourglass52",
    "stacked_hourglass_1:bearpaw",
    "stacked_hourglass_2:bearpaw",
    "stacked_hourglass_8:bearpaw",
    "stacked_hourglass_1:princeton",
    "stacked_hourglass_2:princeton",
    "stacked_hourglass_8:princeton",
    "efficient_object_localization",
)
CLEAR = 0.1  # a clear peak stands above all that is farther away by this share of its map's range
FAR = 3  # heat-map px: a peak drawn with sigma 2 has fallen by two thirds there
HEAD = (
    "| network | weights | file | SQNR, dB | lower | all: heat-map px | all: image px | clear | clear: heat-map px "
    "| clear: image px |\n" + "| --- " * 10 + "|"
)


@dataclass(frozen=True)
class Seen:
    """What one file made of N people.

    Attributes:
        heatmaps: (N, C, h, w), of the first pass.
        xy: (N, K, 2) image px.
        grid_xy: the same in heat-map px.
    """

    heatmaps: np.ndarray
    xy: np.ndarray
    grid_xy: np.ndarray


def golden_state(network: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """A state dict in the names under which a network's weights are published: mmpose's for CPM and Hourglass-52."""
    state = {}
    for key, tensor in network.state_dict().items():
        if name in ("cpm", "hourglass52"):
            key = f"head.{key}" if key.startswith("multi_final_layers") else f"backbone.{key}"
        state[key] = golden_weight(key, tensor.shape)
    return state


def make_fp32(entry: str, folder: Path) -> Path:
    """Export one of ENTRIES with golden weights, or with those it brings along; the FP32 file."""
    name, _, style = entry.partition(":")
    model = find_model(name)
    if model.embedded:
        return export_model(model, folder).fp32
    style = style or model.styles[0]
    checkpoint = folder / "golden.pth"
    with torch.device("meta"):  # names and shapes only
        network = model.build(style)
    torch.save(golden_state(network, name), checkpoint)
    exported = export_model(model, folder, weights=str(checkpoint), style=style)
    checkpoint.unlink()
    return exported.fp32


def look(backend: Backend, people: Sequence[CalibrationImage]) -> Seen:
    """Run one file on all people."""
    parts = []
    for each in people:
        image, regions = read_image(each.path), Regions.around(each.boxes_xyxy, backend.spec)
        xy = find_keypoints(backend, image, regions)[..., :2]
        parts.append(
            (backend.heatmaps(each.crops(backend.spec)), xy, regions.to_grid(xy, backend.spec.heatmaps.size_hw))
        )
    return Seen(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def sqnr_db(heatmaps: np.ndarray, others: np.ndarray) -> float:
    """Power of the maps (N, C, h, w) over that of the others' error, both about each map's mean, in dB.

    About the mean, because what is the same everywhere in a map moves no peak. Infinite where nothing differs.
    """
    signal, error = (values - values.mean(axis=(2, 3), keepdims=True) for values in (heatmaps, others - heatmaps))
    powers = [np.square(values, dtype=np.float64).sum() for values in (signal, error)]
    return float(10 * np.log10(powers[0] / powers[1])) if powers[1] else math.inf


def clear_peaks(heatmaps: np.ndarray) -> np.ndarray:
    """(N, K) bool: where the largest value stands out of its map (N, K, h, w); `CLEAR` and `FAR` say how."""
    maps = heatmaps.reshape(-1, *heatmaps.shape[2:])
    y, x = np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[1:])
    rows, columns = np.arange(maps.shape[1])[:, None], np.arange(maps.shape[2])
    near = (np.abs(rows - y[:, None, None]) <= FAR) & (np.abs(columns - x[:, None, None]) <= FAR)
    highest, lowest = maps.max(axis=(1, 2)), maps.min(axis=(1, 2))
    elsewhere = np.where(near, -np.inf, maps).max(axis=(1, 2))
    return (highest - elsewhere > CLEAR * (highest - lowest)).reshape(heatmaps.shape[:2])


def lower_by(heatmaps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, K): how far the map (N, K, h, w) is below its peak where the other one has its own, as a share of its range.

    Small where a far peak means nothing but a tie.
    """
    maps, other_maps = (values.reshape(*values.shape[:2], -1) for values in (heatmaps, others))
    there = np.take_along_axis(maps, other_maps.argmax(axis=2)[..., None], axis=2)[..., 0]
    return np.asarray((maps.max(axis=2) - there) / np.maximum(np.ptp(maps, axis=2), 1e-12))


def rows_of(fp32: Path, weights: str, people: Sequence[CalibrationImage], files: Sequence[Path]) -> Iterator[str]:
    """One table row for each of `files`, compared with FP32 in ONNX Runtime; they themselves run in OpenVINO."""
    with ExitStack() as stack:
        backends = [
            stack.enter_context(closing(load_backend(path, backend=runtime, threads=1, exact=True)))
            for path, runtime in ((fp32, "onnxruntime"), *((path, "openvino") for path in files))
        ]
        spec = backends[0].spec
        exact, *others = (look(backend, people) for backend in backends)
        step = spec.num_maps // spec.num_keypoints  # 3 where offsets follow each score
        clear = clear_peaks(exact.heatmaps[:, ::step])
        for backend, seen in zip(backends[1:], others, strict=True):
            cells = [spec.name, weights, backend.passport.precision.upper()]
            cells.append(f"{sqnr_db(exact.heatmaps, seen.heatmaps):.1f}")
            lower = lower_by(exact.heatmaps[:, ::step], seen.heatmaps[:, ::step])
            cells.append(f"{lower.mean():.1%} / {np.percentile(lower, 95):.1%}")
            shifts = [np.linalg.norm(a - b, axis=2) for a, b in ((exact.grid_xy, seen.grid_xy), (exact.xy, seen.xy))]
            cells += [_cell(shift.ravel()) for shift in shifts]
            cells += [f"{clear.mean():.0%} of {clear.size}", *(_cell(shift[clear]) for shift in shifts)]
            yield f"| {' | '.join(cells)} |"


def _cell(shift: np.ndarray) -> str:
    summary = shift_summary(shift)
    return "-" if summary is None else "{mean:.2f} / {p95:.2f} / {share_over_1:.1%}".format(**summary)


@click.command()
@click.option("--calibration-images", type=click.Path(path_type=Path), required=True)
@click.option("--calibration-boxes", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Photographs to measure on.")
@click.option("--boxes", type=click.Path(path_type=Path), help="Their person boxes; COCO's annotations will do.")
@click.option("--model", "entries", multiple=True, help="Of the zoo, NAME or NAME:STYLE.  [default: all families]")
@click.option("--also", type=click.Path(path_type=Path), multiple=True, help="FP32 ONNX with FP16 beside it, trained.")
@click.option("--method", type=click.Choice(METHODS), default="mse", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=48, show_default=True, help="Most people to calibrate on.")
@click.option("--people", type=click.IntRange(1), default=24, show_default=True, help="People to measure on.")
def main(
    calibration_images: Path,
    calibration_boxes: Path | None,
    images: Path,
    boxes: Path | None,
    entries: tuple[str, ...],
    also: tuple[Path, ...],
    method: str,
    limit: int,
    people: int,
) -> None:
    """Print a row for each network's FP16 and INT8 file as it is measured.

    Cells of shifts: mean / 95th percentile / share over 1 px; of "lower": mean / 95th percentile.
    """
    torch.set_num_threads(1)
    try:
        chosen = read_calibration_set([images], boxes, limit=people, seed=0)
        measured = (*chosen.fitting, *chosen.held_out)
        click.echo(HEAD)
        wanted: tuple[Path | str, ...] = (*also, *(entries or ENTRIES))
        for entry in wanted:
            with tempfile.TemporaryDirectory() as folder:
                fp32 = entry if isinstance(entry, Path) else make_fp32(entry, Path(folder))
                int8 = calibrate(
                    fp32, [calibration_images], calibration_boxes, method=method, limit=limit, output_dir=Path(folder)
                ).int8
                golden = read_passport(fp32).weights.startswith("golden")
                files = [fp32.with_name(f"{fp32.stem}.fp16.onnx"), int8]
                for row in rows_of(fp32, "golden" if golden else "trained", measured, files):
                    click.echo(row)
    except EdgeposeError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
