"""Export of networks that make no heat maps: traced, simplified, verified by the values they give.

Whatever the network's inputs and outputs are called, its spec says; `Judge` says what a difference means.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edgepose.errors import ExportError
from edgepose.export.graph.fp16 import to_fp16
from edgepose.export.graph.interface import BATCH, OPSET, normalize
from edgepose.export.graph.run import beyond_fp16, run_onnx
from edgepose.export.graph.simplify import simplify
from edgepose.export.pair import Weights, file_names, write_pair
from edgepose.export.pipeline import Report
from edgepose.files import check_targets
from edgepose.model.spec import ModelSpec

FP32_LIMIT_RELATIVE = 1e-4  # rounding in FP32 stays below 1e-5 for the networks of the zoo
FP16_LIMIT_RELATIVE = 0.05


@dataclass(frozen=True)
class Judge:
    """What a difference between two outputs means.

    Attributes:
        inputs: (n, ...) float32 of the network's one input, to compare with.
        distances: of a reference output and another (n, ...), all distances in `unit`.
        unit: for people: "mm", say.
        fp16_limit: largest distance that FP16 may make, where the weights are not random.
    """

    inputs: np.ndarray
    distances: Callable[[np.ndarray, np.ndarray], np.ndarray]
    unit: str
    fp16_limit: float


@dataclass(frozen=True)
class Difference:
    """How far an output is from the reference: as a share of its largest value, and at most in the judge's unit."""

    relative: float
    largest: float

    def entries(self, name: str, unit: str) -> dict[str, float]:
        """For a passport's `verified`."""
        return {f"{name}_relative": self.relative, f"{name}_{unit}": self.largest}


@dataclass(frozen=True)
class ExportedByValue:
    """What an export wrote: two ONNX files, each with its passport beside it, and what they differ by."""

    fp32: Path
    fp16: Path
    weights: str
    unit: str
    fp32_difference: Difference
    fp16_difference: Difference

    def summary(self) -> str:
        """What was written and how exact it is, for people."""
        lines = [
            f"{path}: within {difference.largest:.1e} {self.unit} of {reference}"
            for path, difference, reference in (
                (self.fp32, self.fp32_difference, "the original's"),
                (self.fp16, self.fp16_difference, "FP32's"),
            )
        ]
        if self.weights == "random":
            lines.append("The weights are random: these files are for timing, what they say means nothing.")
        return "\n".join(lines)


def export_by_value(
    network: nn.Module,
    spec: ModelSpec,
    judge: Judge,
    weights: Weights,
    output_dir: Path,
    *,
    report: Report = lambda step: None,
) -> ExportedByValue:
    """Write `NAME.onnx` and `NAME.fp16.onnx` with their passports; all four files or none.

    Raises:
        ExportError: a graph does not compute what the network does.
        OSError: the files cannot be put there.
    """
    check_targets(output_dir, file_names(spec))
    report("tracing the network")
    raw = trace(network, spec)
    report("simplifying the graph")
    simplified = simplify(raw)
    report("comparing with the network")
    with torch.no_grad():
        reference = network(torch.from_numpy(judge.inputs)).numpy()
    for made, what in ((raw, "the exported graph"), (simplified, "the simplified graph")):
        difference = compare(reference, run_onnx(made, judge.inputs)[0], judge)
        if not difference.relative <= FP32_LIMIT_RELATIVE:  # NaN must fail as well
            raise ExportError(f"{what} differs from the network {text_of(difference, judge)}; no file was written")
    return write_by_value(simplified, spec, judge, weights, difference, output_dir, report=report)


def write_by_value(
    graph: onnx.ModelProto,
    spec: ModelSpec,
    judge: Judge,
    weights: Weights,
    difference: Difference,
    output_dir: Path,
    *,
    report: Report = lambda step: None,
) -> ExportedByValue:
    """Write a verified FP32 graph and its FP16 form, each with a passport; all four files or none.

    Args:
        difference: of the graph from what it was made from.

    Raises:
        ExportError: the FP16 graph differs from FP32.
        OSError: the files cannot be put there.
    """
    report("making the FP16 graph, and comparing it with FP32")
    large = beyond_fp16(graph, judge.inputs[:1])
    half = to_fp16(graph, keep_fp32=large)
    fp32_values, fp16_values = (run_onnx(each, judge.inputs)[0] for each in (graph, half))
    in_half = compare(fp32_values, fp16_values, judge)
    random = weights.source == "random"
    if not (in_half.relative <= FP16_LIMIT_RELATIVE and (random or in_half.largest <= judge.fp16_limit)):
        raise ExportError(f"the FP16 graph differs from FP32 {text_of(in_half, judge)}; no file was written")
    entries = {**in_half.entries("fp16", judge.unit), "fp16_nodes_kept_in_fp32": float(len(large))}
    verified = difference.entries("fp32", judge.unit)
    written = write_pair(graph, half, spec, weights, verified, lambda fp32, fp16: (entries, None), output_dir)
    return ExportedByValue(*written[:2], weights.source, judge.unit, difference, in_half)


def trace(network: nn.Module, spec: ModelSpec) -> onnx.ModelProto:
    """The network in evaluation mode, with the spec's one input and one output, float32, the batch dynamic."""
    (name, shape), (output, found) = (*spec.inputs.items(), *spec.outputs.items())
    network.eval()
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice to use its other exporter: docs/decisions says why not
        torch.onnx.export(
            network,
            (torch.zeros(2, *shape),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[name],
            output_names=[output],
            dynamic_axes={name: {0: BATCH}, output: {0: BATCH}},
        )
    model = onnx.load_from_string(buffer.getvalue())
    for value, wanted in ((model.graph.input[0], shape), (model.graph.output[0], found)):
        info = onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, (BATCH, *wanted))
        value.CopyFrom(info)
    return normalize(model)


def compare(reference: np.ndarray, values: np.ndarray, judge: Judge) -> Difference:
    """How far values (n, ...) are from the reference; infinitely where the shapes differ or one is not finite."""
    if reference.shape != values.shape or not np.isfinite(values).all():
        return Difference(float("inf"), float("inf"))
    relative = float(np.abs(reference - values).max() / max(float(np.abs(reference).max()), 1e-12))
    return Difference(relative, float(judge.distances(reference, values).max()))


def text_of(difference: Difference, judge: Judge) -> str:
    """For messages."""
    return f"by {difference.relative:.2g} of its largest value, {difference.largest:.2g} {judge.unit}"
