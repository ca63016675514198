"""Which part of a SimCC network loses by INT8: its layers and the tensors of its head, one by one.

    python -m edgepose.benchmarks.studies.simcc_int8 --model simcc_tiny.onnx \\
        --calibration-images DIR --calibration-boxes FILE --images DIR --annotations COCO.json

ONNX Runtime computes every graph as it is written, without optimisations, in single precision between the pairs. A key
point's shift is from FP32's, in px of the network's input, where FP32's score is over 0.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from edgepose.calibration.biases import correct_biases
from edgepose.calibration.dataset import crops_of, read_calibration_set
from edgepose.calibration.equalise import find_factors, scale_channels
from edgepose.calibration.pipeline import CONFIDENT
from edgepose.calibration.qdq import (
    LEVELS,
    as_step,
    insert_qdq,
    is_layer,
    output_axis,
    quantisable_layers,
    quantised_inputs,
    rounded,
)
from edgepose.calibration.ranges import METHODS, Probe, find_ranges
from edgepose.calibration.results import load_onnx
from edgepose.calibration.statistics import channel_statistics
from edgepose.evaluation.figures import Found, figures_of
from edgepose.export.graph.deconvolutions import without_deconvolutions
from edgepose.export.graph.edit import arrays_of, copy_of, replace_nodes
from edgepose.export.graph.fold import fold
from edgepose.io.annotations import AnnotatedImage, Annotations, read_annotations
from edgepose.io.images import read_image
from edgepose.model.heads.simcc import SimCC
from edgepose.model.passport import read_passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions
from edgepose.stages.poses import Poses
from edgepose.stages.simcc import decode_simcc

HEAD = "| | PCK@0.2, points | shift mean | p95 | over 2 px |\n| --- | --- | --- | --- | --- |"
TENSORS_HEAD = (
    "| one tensor of the head rounded | max / rms | crops' max, p95 / p5 "
    "| PCK@0.2, points | shift mean | p95 | over 2 px |\n" + "| --- " * 7 + "|"
)
UNSEEN = ("Constant", "Shape", "Cast", "Reshape", "Transpose", "Split")  # make no values of their own


@dataclass(frozen=True)
class People:
    """Labelled people: images, the regions of their people, and the crops."""

    annotations: Annotations
    spec: ModelSpec
    images: Sequence[AnnotatedImage]
    boxes: Sequence[np.ndarray]
    regions: Sequence[Regions]
    crops: Sequence[np.ndarray]

    @classmethod
    def read(cls, folder: Path, file: Path, spec: ModelSpec) -> People:
        """Everybody of a file of COCO annotations."""
        annotations = read_annotations(file)
        boxes, regions, crops = [], [], []
        for entry in annotations.images:
            image = read_image(folder / entry.file_name)
            corners = np.hstack([entry.boxes_xywh[:, :2], entry.boxes_xywh[:, :2] + entry.boxes_xywh[:, 2:]])
            boxes.append(corners.astype(np.float32))
            regions.append(Regions.around(corners, spec))
            crops.append(cut_out(image, regions[-1], spec))
        return cls(annotations, spec, annotations.images, boxes, regions, crops)

    def find(self, model: onnx.ModelProto) -> list[np.ndarray]:
        """For each image (N, K, 3): x, y in px of the input, and score."""
        head, session, name = self.spec.head, session_of(model), model.graph.input[0].name
        assert isinstance(head, SimCC)
        outputs = (session.run(["simcc_x", "simcc_y"], {name: crops}) for crops in self.crops)
        return [decode_simcc(x, y, head) for x, y in outputs]

    def pck(self, keypoints: Sequence[np.ndarray]) -> float:
        """PCK@0.2, in per cent."""
        size, found = self.spec.image.size_hw, []
        for boxes, regions, points in zip(self.boxes, self.regions, keypoints, strict=True):
            xy = regions.to_image(points[..., :2], size).astype(np.float32)
            found.append(Found(Poses(xy, points[..., 2], boxes), np.ones(len(boxes)), np.arange(len(boxes))))
        figures, _ = figures_of(list(self.images), self.annotations.keypoint_names, found, self.spec)
        return 100 * float(figures["PCK@0.2"] or 0)


def given(command: Callable[..., None]) -> Callable[..., None]:
    """The options of whatever calibrates a SimCC network and measures it: `model` to `limit`."""
    path = click.Path(path_type=Path)
    for option in (
        click.option(
            "--limit", type=click.IntRange(1), default=256, show_default=True, help="Most people to calibrate on."
        ),
        click.option("--annotations", type=path, required=True),
        click.option("--images", type=path, required=True),
        click.option("--calibration-boxes", type=path),
        click.option("--calibration-images", type=path, required=True),
        click.option("--model", type=path, required=True, help="FP32 ONNX with its passport."),
    ):
        command = option(command)
    return command


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """One that rounds where the graph says so, and nowhere else."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def shifts(keypoints: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) how far confident key points moved, px of the input."""
    moved = [
        np.linalg.norm(found[..., :2] - wanted[..., :2], axis=-1)[wanted[..., 2] > CONFIDENT]
        for found, wanted in zip(keypoints, exact, strict=True)
    ]
    return np.concatenate([np.empty(0), *moved])


def row(name: str, keypoints: Sequence[np.ndarray], exact: Sequence[np.ndarray], people: People) -> str:
    """One row of HEAD's table."""
    moved = shifts(keypoints, exact)
    if len(moved) == 0:
        return f"| {name} | - | - | - | - |"
    change = people.pck(keypoints) - people.pck(exact)
    return (
        f"| {name} | {change:+.2f} | {moved.mean():.3f} | {np.quantile(moved, 0.95):.2f} | {(moved > 2).mean():.1%} |"
    )


def with_rounded_tensor(model: onnx.ModelProto, tensor: str, largest: float) -> onnx.ModelProto:
    """A copy in which everything that reads one tensor reads it rounded to INT8."""
    changed, step = copy_of(model), as_step(np.array(largest) / LEVELS)
    changed.graph.initializer.append(numpy_helper.from_array(step, "step"))
    changed.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
    nodes = []
    for node in changed.graph.node:
        for index, name in enumerate(node.input):
            if name == tensor:
                node.input[index] = "rounded"
        nodes.append(node)
        if tensor in node.output:
            nodes.append(helper.make_node("QuantizeLinear", [tensor, "step", "zero"], ["int8"]))
            nodes.append(helper.make_node("DequantizeLinear", ["int8", "step", "zero"], ["rounded"]))
    replace_nodes(changed, nodes)
    return changed


def with_rounded_layer(model: onnx.ModelProto, layer: str, largest: float) -> onnx.ModelProto:
    """A copy in which one layer's weights and the tensor that it reads are rounded to INT8, and nothing else is."""
    made = copy_of(model)
    node = next(node for node in made.graph.node if node.output[0] == layer)
    weight = next(item for item in made.graph.initializer if item.name == node.input[1])
    weight.CopyFrom(numpy_helper.from_array(rounded(numpy_helper.to_array(weight), output_axis(node)), weight.name))
    return with_rounded_tensor(made, node.input[0], largest)


def head_layers(model: onnx.ModelProto, trunk: Sequence[str]) -> list[str]:
    """The layers with constant weights that stay in float by default, in the graph's order."""
    arrays = arrays_of(model)
    weighted = [node for node in model.graph.node if len(node.input) > 1 and is_layer(node, arrays.get(node.input[1]))]
    return [node.output[0] for node in weighted if node.output[0] not in trunk]


def spread(
    model: onnx.ModelProto, tensors: Sequence[str], crops: Iterable[np.ndarray]
) -> dict[str, tuple[float, float]]:
    """By tensor: the median of a crop's largest magnitude over its root mean square, and how the largest differs.

    The second is the 95th percentile of the crops' largest magnitudes over the 5th.
    """
    probe = Probe(model, tensors)
    largest: dict[str, list[float]] = {name: [] for name in tensors}
    ratios: dict[str, list[float]] = {name: [] for name in tensors}
    for crop in crops:
        values = probe.run(crop)
        for name in tensors:
            value = values[name]
            largest[name].append(float(np.abs(value).max()))
            ratios[name].append(largest[name][-1] / max(float(np.sqrt(np.mean(value**2))), 1e-12))
    low_high = {name: np.quantile(values, (0.05, 0.95)) for name, values in largest.items()}
    return {
        name: (float(np.median(ratios[name])), float(high / max(low, 1e-12))) for name, (low, high) in low_high.items()
    }


@click.command()
@given
def main(
    model: Path, calibration_images: Path, calibration_boxes: Path | None, images: Path, annotations: Path, limit: int
) -> None:
    """Print what INT8 does to a SimCC network, layer by layer and tensor by tensor."""
    spec = read_passport(model).spec
    if not isinstance(spec.head, SimCC):
        raise click.UsageError(f"{model} has a head of kind {spec.head.kind}; wanted: simcc")
    people = People.read(images, annotations, spec)
    fitting = read_calibration_set([calibration_images], calibration_boxes, limit=limit, seed=0).fitting
    folded = fold(load_onnx(model))
    seen = channel_statistics(folded, crops_of(fitting, spec))
    factors = find_factors(folded, seen)
    means = {name: np.median(value.mean, axis=0) * factors.get(name, 1.0) for name, value in seen.items()}
    graph = without_deconvolutions(scale_channels(folded, factors))
    exact, trunk = people.find(graph), quantisable_layers(graph)
    head = head_layers(graph, trunk)

    def tell(name: str, chosen: Sequence[str], method: str = "mse") -> None:
        tensors = list(quantised_inputs(graph, chosen))
        ranges = find_ranges(graph, crops_of(fitting, spec), tensors, method)
        found = people.find(insert_qdq(correct_biases(graph, chosen, means), ranges, chosen))
        click.echo(row(name, found, exact, people))

    click.echo(
        f"{spec.name}: ranges of {sum(map(len, fitting))} people, measured on {sum(map(len, people.crops))}; "
        f"FP32: PCK@0.2 {people.pck(exact):.1f}, {len(shifts(exact, exact))} confident key points\n\n{HEAD}"
    )
    for method in METHODS:
        tell(f"default: all but the head, {method}", trunk, method)
    for end, name in enumerate(head, start=1):
        tell(f"and {name}", [*trunk, *head[:end]])
    reads = {node.output[0]: node.input[0] for node in graph.graph.node}
    ranges = find_ranges(graph, crops_of(fitting, spec), [reads[name] for name in head], "mse")
    for name in head:
        found = people.find(with_rounded_layer(graph, name, ranges[reads[name]]))
        click.echo(row(f"{name} alone", found, exact, people))
    click.echo(f"\n{TENSORS_HEAD}")
    first = [node.output[0] for node in graph.graph.node].index(head[0])
    outputs = {item.name for item in graph.graph.output}
    tensors = [
        name
        for node in graph.graph.node[first:]
        for name in node.output
        if node.op_type not in UNSEEN and name not in outputs
    ]
    ranges = find_ranges(graph, crops_of(fitting, spec), tensors, "mse")
    spreads = spread(graph, tensors, crops_of(fitting, spec))
    for name in tensors:
        peak, between = spreads[name]
        found = people.find(with_rounded_tensor(graph, name, ranges[name]))
        click.echo(row(f"{name} | {peak:.1f} | {between:.1f}", found, exact, people))


if __name__ == "__main__":
    main()
