"""edgepose and rtmlib from picture to people, with the same two networks, in one interleaved run.

    taskset -c 0 python -m edgepose.benchmarks.peers.people --engine POSE.onnx --detector YOLOX.onnx \\
        --pose-onnx ORIGINAL_POSE.onnx --detector-onnx ORIGINAL_YOLOX.onnx --image PHOTO

rtmlib (Apache-2.0) gets the original files; its YOLOX and its heat-map decoder. With `--runtime openvino` it computes
in what OpenVINO takes by itself, BF16 where the CPU has it; with `openvino-f32` it is compiled once more, for FP32,
which is what edgepose asks for. Both are held to one core by `taskset`. Boxes and key points are compared first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgepose.backends import load_backend
from edgepose.estimate.detect import find_people, load_detector
from edgepose.estimate.top_down import estimate_poses
from edgepose.io.images import read_image
from edgepose.stages.nms import suppress
from edgepose.stages.similarity import box_iou

SCORE, NMS_IOU = 0.5, 0.45  # of both

Found = tuple[np.ndarray, np.ndarray]  # boxes (N, 4), key points (N, K, 2)


def with_rtmlib(detector_onnx: Path, pose_onnx: Path, runtime: str) -> Callable[[np.ndarray], Found]:
    """rtmlib's way from a BGR image to people."""
    from rtmlib import YOLOX, ViTPose

    backend = runtime.removesuffix("-f32")
    size = {"det_mode": "multiclass", "nms_thr": NMS_IOU, "score_thr": SCORE, "backend": backend}
    detector = YOLOX(str(detector_onnx), (416, 416), **size)
    pose = ViTPose(str(pose_onnx), (192, 256), backend=backend)
    if runtime == "openvino-f32":
        for tool in (detector, pose):
            in_fp32(tool)

    def run(image: np.ndarray) -> Found:
        boxes, classes = detector(image)
        boxes = np.asarray(boxes)[np.asarray(classes) == 0]
        keypoints, _ = pose(image, bboxes=boxes)
        return boxes, keypoints

    return run


def in_turns(ways: Mapping[str, Callable[[], Any]], rounds: int) -> list[str]:
    """Run all ways so many times in turns; for each a line with its median of CPU time, and the first one's over it."""
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.process_time()
            ways[name]()
            times[name].append(time.process_time() - start)
    first = np.array(times[names[0]])
    return [
        f"{name}: {1e3 * statistics.median(spent):.2f} ms, {np.median(first / np.array(spent)):.2f}x"
        for name, spent in times.items()
    ]


def in_fp32(tool: Any) -> None:
    """Compile an rtmlib tool's network once more as rtmlib does, but for FP32."""
    from openvino import Core

    core = Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    tool.compiled_model = core.compile_model(core.read_model(tool.onnx_model), "CPU", config)
    tool.input_layer = tool.compiled_model.input(0)
    tool._ov_outputs = list(tool.compiled_model.outputs)


def with_edgepose(detector: Any, pose: Any) -> Callable[[np.ndarray], Found]:
    """edgepose's way from an RGB image to people."""

    def run(image: np.ndarray) -> Found:
        boxes, scores = find_people(detector, image, min_score=SCORE)
        boxes = boxes[suppress(boxes, scores, NMS_IOU)]
        return boxes, estimate_poses(pose, image, boxes).xy

    return run


def difference(ours: Found, theirs: Found) -> str:
    """How many people both found, and how far their key points lie apart, px."""
    iou = box_iou(ours[0], theirs[0])
    rows = np.flatnonzero(iou.max(axis=1, initial=0) > 0.9)
    apart = [np.linalg.norm(ours[1][r] - theirs[1][int(iou[r].argmax())], axis=1) for r in rows]
    values = np.concatenate(apart) if apart else np.zeros(0)
    median = f"{np.median(values):.2f} px, 90 % {np.percentile(values, 90):.2f} px" if len(values) else "-"
    return f"{len(ours[0])} and {len(theirs[0])} people, {len(rows)} the same (IoU > 0.9); key points apart {median}"


@click.command()
@click.option("--engine", "engines", type=click.Path(path_type=Path), multiple=True, required=True)
@click.option(
    "--detector",
    "detectors",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="One for each --engine, or one for all.",
)
@click.option("--pose-onnx", type=click.Path(path_type=Path), required=True)
@click.option("--detector-onnx", type=click.Path(path_type=Path), required=True)
@click.option("--image", type=click.Path(path_type=Path), required=True)
@click.option(
    "--backend",
    "backends",
    type=click.Choice(("openvino", "openvino-bf16")),
    multiple=True,
    default=("openvino",),
    help="Of edgepose: each of its pairs runs once with each.  [default: openvino]",
)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--runtime",
    type=click.Choice(("openvino", "openvino-f32", "onnxruntime")),
    default="onnxruntime",
    show_default=True,
    help="Of rtmlib.",
)
def main(
    engines: tuple[Path, ...],
    detectors: tuple[Path, ...],
    pose_onnx: Path,
    detector_onnx: Path,
    image: Path,
    backends: tuple[str, ...],
    rounds: int,
    runtime: str,
) -> None:
    """Print how far results lie apart, and the median milliseconds of each way in turns."""
    rgb = read_image(image)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    theirs = with_rtmlib(detector_onnx, pose_onnx, runtime)
    ways: dict[str, Callable[[], Found]] = {f"rtmlib, {runtime}": lambda: theirs(bgr)}
    if len(detectors) not in (1, len(engines)):
        raise click.UsageError(f"{len(detectors)} --detector for {len(engines)} --engine: give one for each, or one")
    with ExitStack() as stack:
        pairs = list(zip(engines, detectors * (len(engines) if len(detectors) == 1 else 1), strict=True))
        for (engine, detector), backend in product(pairs, backends):
            finder = stack.enter_context(closing(load_detector(detector, backend=backend, threads=1)))
            ours = with_edgepose(finder, stack.enter_context(load_backend(engine, backend=backend, threads=1)))
            ways[f"{detector.name} and {engine.name}, {backend}"] = lambda ours=ours: ours(rgb)  # type: ignore[misc]
        found = {name: way() for name, way in ways.items()}
        names = list(ways)
        for name in names[1:]:
            click.echo(f"{name} against {names[0]}: {difference(found[name], found[names[0]])}")
        for line in in_turns(ways, rounds):
            click.echo(line)


if __name__ == "__main__":
    main()
