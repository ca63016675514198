"""What INT8 and FP16 files give on a CPU with VNNI and on one without, by each way to compute them.

    python -m edgepose.benchmarks.studies.int8_on_cpus --model m.onnx [--model ...] \\
        --images DIR --annotations COCO.json [--images DIR --annotations COCO.json]

Without images only times are measured, and heat maps are compared on a drawn frame: for random weights.
Beside each FP32 file lie its .fp16.onnx and .int8.onnx. One thread. The rows without VNNI are of a process in which
oneDNN, and OpenVINO with it, may use AVX2 alone (ONEDNN_MAX_CPU_ISA); on a CPU without VNNI they are the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import click
import numpy as np

from edgepose.backends import Backend, load_backend, openvino_graph
from edgepose.benchmarks.latency import make_frame
from edgepose.estimate.top_down import estimate_poses
from edgepose.evaluation.evaluate import annotated_boxes, image_path
from edgepose.evaluation.figures import Found, figures_of, shift_between
from edgepose.io.annotations import AnnotatedImage, read_annotations
from edgepose.io.images import read_image
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions, boxes_in_view

WITH, WITHOUT = "VNNI", "no VNNI"
WAYS: dict[
    str, tuple[str, dict[str, Any], tuple[str, ...]]
] = {  # name -> suffix of the file, options of load_backend, on which CPUs
    "FP32": (".onnx", {"backend": "onnxruntime"}, (WITH,)),
    "FP32 in OpenVINO": (".onnx", {"backend": "openvino"}, (WITH, WITHOUT)),
    "FP16, computed in FP32": (".fp16.onnx", {}, (WITH,)),
    "FP16, stored as FP16": (".fp16.onnx", {"store_fp16": True}, (WITH,)),
    "INT8 exact": (".int8.onnx", {"exact": True}, (WITH, WITHOUT)),
    "INT8 exact, rest stored as FP16": (".int8.onnx", {"exact": True, "store_fp16": True}, (WITH,)),
    "INT8 as infer computes it": (".int8.onnx", {}, (WITH, WITHOUT)),
    "INT8 in all kernels, saturating": (".int8.onnx", {}, (WITHOUT,)),
}
SATURATING = "INT8 in all kernels, saturating"
HEAD = "| computed | CPU | AP | PCK@0.2 | shift mean | over 1 px | heat maps | ms |\n" + "| --- " * 8 + "|"
TIMED, COMPARED = 15, 8  # runs of one crop, and crops whose heat maps are compared


@dataclass(frozen=True)
class Row:
    """One way to compute one network.

    Attributes:
        ap, pck: OKS AP and PCK@0.2 with annotated boxes; None where the annotations cannot tell.
        shift, over_1: mean distance of confident key points to FP32's, heat-map px, and the share over 1 px.
        error: of 8 crops' heat maps: largest difference to FP32's as a share of FP32's largest value.
        ms: CPU time of one crop's network, median.
    """

    way: str
    cpu: str
    ap: float | None
    pck: float | None
    shift: float | None
    over_1: float | None
    error: float
    ms: float

    def cells(self) -> str:
        """The row of a table."""
        figures = ["-" if value is None else f"{value:.3f}" for value in (self.ap, self.pck, self.shift)]
        over = "-" if self.over_1 is None else f"{self.over_1:.1%}"
        return f"| {' | '.join([self.way, self.cpu, *figures, over, f'{self.error:.3f}', f'{self.ms:.1f}'])} |"


def open_way(model: Path, way: str) -> Backend:
    """A file beside an FP32 one, opened to be computed in one of WAYS."""
    suffix, options, _ = WAYS[way]
    path = model.with_name(model.stem + suffix)
    with patch.object(openvino_graph, "int8_kernels_are_exact", lambda: True) if way == SATURATING else ExitStack():
        return load_backend(path, threads=1, **options)


def measure(model: Path, images: Path | None, annotations: Path | None, cpu: str) -> Iterator[Row]:
    """The rows of one network on one set of people, or on none, for the CPU as this process sees it."""
    names = ["FP32", *(way for way, (_, _, cpus) in WAYS.items() if cpu in cpus and way != "FP32")]
    with ExitStack() as stack:
        backends = [stack.enter_context(closing(open_way(model, way))) for way in names]
        accuracies: list[dict[str, Any]] = [{"ap": None, "pck": None, "shift": None, "over_1": None}] * len(names)
        crops = _frame_crop(backends[0])
        if images is not None and annotations is not None:
            accuracies, crops = _accuracies(backends, images, annotations)
        exact = backends[0].heatmaps(crops)
        for way, backend, accuracy in zip(names, backends, accuracies, strict=True):
            if cpu in WAYS[way][2]:
                error = float(np.abs(backend.heatmaps(crops) - exact).max() / np.abs(exact).max())
                yield Row(way, cpu, **accuracy, error=error, ms=_ms(backend))


def _accuracies(
    backends: Sequence[Backend], folder: Path, annotations: Path
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Each backend's figures on annotated people, and 8 of their crops."""
    truth = read_annotations(annotations)
    people = [image for image in truth.images if image.posed.any()]
    found = _find(backends, folder, people)
    accuracies = []
    for backend, each in zip(backends, found, strict=True):
        figures, _ = figures_of(people, truth.keypoint_names, each, backend.spec)
        shift: dict[str, Any] = shift_between(found[0], each, backend.spec) or {}
        moved = {"shift": shift.get("mean"), "over_1": shift.get("share_over_1")}
        accuracies.append({"ap": figures["AP"], "pck": figures["PCK@0.2"], **moved})
    return accuracies, _crops(backends[0], folder, people)


def _find(backends: Sequence[Backend], folder: Path, people: Sequence[AnnotatedImage]) -> list[list[Found]]:
    found: list[list[Found]] = [[] for _ in backends]
    for entry in people:
        image, boxes, pose_of = _boxes(folder, entry)
        for each, backend in zip(found, backends, strict=True):
            each.append(Found(estimate_poses(backend, image, boxes), np.ones(len(boxes)), pose_of))
    return found


def _boxes(folder: Path, entry: AnnotatedImage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The image, its usable annotated boxes, and each annotated person's row in them or -1."""
    image = read_image(image_path(folder, entry.file_name))
    boxes = annotated_boxes(entry, image.shape[:2])
    rows = np.flatnonzero(entry.posed & boxes_in_view(boxes, image.shape[:2]) & (entry.areas > 0))
    pose_of = np.full(len(entry), -1)
    pose_of[rows] = np.arange(len(rows))
    return image, boxes[rows], pose_of


def _crops(backend: Backend, folder: Path, people: Sequence[AnnotatedImage]) -> np.ndarray:
    """(8, 3, H, W) of the first people."""
    crops = []
    for entry in people[:COMPARED]:
        image, boxes, _ = _boxes(folder, entry)
        crops.append(cut_out(image, Regions.around(boxes, backend.spec), backend.spec))
    return np.concatenate(crops)[:COMPARED]


def _frame_crop(backend: Backend) -> np.ndarray:
    image, boxes = make_frame(1)
    return cut_out(image, Regions.around(boxes, backend.spec), backend.spec)


def _ms(backend: Backend) -> float:
    crop, times = _frame_crop(backend), []
    for _ in range(TIMED):
        start = process_time()
        backend.heatmaps(crop)
        times.append(process_time() - start)
    return float(np.median(times) * 1e3)


@click.command()
@click.option("--model", "models", type=click.Path(path_type=Path), multiple=True, required=True, help="FP32 ONNX.")
@click.option("--images", "folders", type=click.Path(path_type=Path), multiple=True)
@click.option("--annotations", type=click.Path(path_type=Path), multiple=True, help="COCO key points; for each folder.")
@click.option("--only", type=click.Choice((WITHOUT,)), hidden=True, help="The other process: JSON lines.")
def main(models: tuple[Path, ...], folders: tuple[Path, ...], annotations: tuple[Path, ...], only: str | None) -> None:
    """Print a table for each network and set of people."""
    sets: list[tuple[Path | None, Path | None]] = [*zip(folders, annotations, strict=True)] or [(None, None)]
    for model in models:
        for folder, file in sets:
            if only:
                for row in measure(model, folder, file, only):
                    click.echo(json.dumps(asdict(row)))
                continue
            rows = list(measure(model, folder, file, WITH))
            people = ["--images", folder, "--annotations", file] if folder else []
            arguments = ["--model", model, *people, "--only", WITHOUT]
            answer = subprocess.run(
                [sys.executable, "-m", "edgepose.benchmarks.studies.int8_on_cpus", *map(str, arguments)],
                env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rows += [Row(**json.loads(line)) for line in answer.stdout.splitlines()]
            click.echo(f"\n{model.stem}{f', {file.parent.name}/{file.name}' if file else ''}\n\n{HEAD}")
            for row in rows:
                click.echo(row.cells())


if __name__ == "__main__":
    main()
