"""edgepose and rtmlib from a decoded frame and boxes to key points, with the same ONNX, in one interleaved run.

    taskset -c 0 python -m edgepose.benchmarks.peers.top_down --engine rtmpose_s.onnx --engine rtmpose_s.int8.onnx

rtmlib (Apache-2.0, `pip install rtmlib`) gets the first model's file and runs it once a person; edgepose runs all
people of the frame together. Both get RGB, which the networks were trained on. With `openvino-f32` rtmlib computes in
FP32, as edgepose asks OpenVINO to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgepose.backends import load_backend
from edgepose.benchmarks.latency import make_frame
from edgepose.benchmarks.peers.people import in_fp32, in_turns
from edgepose.estimate.top_down import estimate_poses
from edgepose.model.heads.simcc import SimCC
from edgepose.model.passport import read_passport

CLOSE = 0.5  # image px


def with_rtmlib(path: Path, runtime: str) -> Any:
    """rtmlib's tool for a SimCC or heat-map network."""
    from rtmlib import RTMPose, ViTPose

    spec = read_passport(path).spec
    tool = RTMPose if isinstance(spec.head, SimCC) else ViTPose
    pose = tool(str(path), spec.image.size_hw[::-1], backend=runtime.removesuffix("-f32"))
    if runtime == "openvino-f32":
        in_fp32(pose)
    return pose


@click.command()
@click.option("--engine", "models", type=click.Path(path_type=Path), multiple=True, required=True)
@click.option("--people", type=click.IntRange(1), multiple=True, default=(1, 8), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice(("onnxruntime", "openvino", "openvino-f32")),
    multiple=True,
    default=("onnxruntime", "openvino-f32"),
    show_default=True,
    help="Of rtmlib.",
)
def main(models: tuple[Path, ...], people: tuple[int, ...], rounds: int, runtimes: tuple[str, ...]) -> None:
    """Print the median CPU milliseconds of a frame in turns, and the first row's over each."""
    tools = {f"rtmlib, {runtime}": with_rtmlib(models[0], runtime) for runtime in runtimes}
    backends = {model.name: load_backend(model, threads=1) for model in models}
    for count in people:
        rgb, boxes = make_frame(count)
        ways: dict[str, Callable[[], Any]] = {
            **{name: partial(tool, rgb, bboxes=boxes) for name, tool in tools.items()},
            **{name: partial(estimate_poses, backend, rgb, boxes) for name, backend in backends.items()},
        }
        theirs, ours = next(iter(ways.values()))()[0], ways[models[0].name]().xy
        near = (np.linalg.norm(theirs - ours, axis=2) < CLOSE).mean()
        click.echo(f"{count} people; {near:.0%} of the first model's key points within {CLOSE} px of rtmlib's")
        for line in in_turns(ways, rounds):
            click.echo(f"  {line}")


if __name__ == "__main__":
    main()
