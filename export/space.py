"""Lifters and networks with volumes: zoo and weights -> verified FP32 and FP16 ONNX with passports."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edgepose.errors import CheckpointError, ExportError, ModelFileError
from edgepose.export.by_value import (
    FP32_LIMIT_RELATIVE,
    ExportedByValue,
    Judge,
    compare,
    export_by_value,
    text_of,
    write_by_value,
)
from edgepose.export.checkpoints.download import cache_folder, fetch
from edgepose.export.checkpoints.state_dict import load_into, read_checkpoint
from edgepose.export.drawn.crops import sample_crops, smooth_crops
from edgepose.export.foreign import open_foreign
from edgepose.export.graph.interface import BATCH, rename_tensor, to_opset
from edgepose.export.graph.run import run_onnx
from edgepose.export.graph.simplify import simplify
from edgepose.export.pair import Weights
from edgepose.export.pipeline import Report
from edgepose.export.zoo.model import ChoiceError
from edgepose.export.zoo.space import SpaceModel, find_space_model
from edgepose.files import sha256_of
from edgepose.io.boxes import read_json
from edgepose.model.heads import head_to_json
from edgepose.model.heads.lift import Lift
from edgepose.model.heads.volume import Volume
from edgepose.model.spec import ModelSpec
from edgepose.stages.lifting import to_metres, to_units
from edgepose.stages.volume import decode_volume

MM = 1000.0
FP16_LIMIT_CELLS, CLEAR_SCORE = 0.25, 0.3  # as of heat maps: a quarter of a cell, of key points with that score
FP16_LIMIT_MM = 10.0  # published errors begin at 38 mm
WINDOWS, SIDE_PX = 16, 1000


def export_space_model(
    model: SpaceModel, output_dir: Path, *, weights: str = "auto", report: Report = lambda step: None
) -> ExportedByValue:
    """Build the network, load its weights, and write `NAME.onnx` and `NAME.fp16.onnx` with their passports.

    Args:
        weights: "auto" (the published or embedded checkpoint), "random" (for timing), or a checkpoint's path.

    Raises:
        CheckpointError: the weights cannot be had, or are not this network's.
        ExportError: a written graph would not compute what the network does. No file is left.
    """
    network = model.build()
    if weights == "random":
        report("making random weights, for timing only")
        randomize(network, model.spec)
        loaded = Weights("random")
    else:
        path = _weights_path(model, weights)
        report(f"loading {path.name}")
        state, _ = read_checkpoint(path)
        load_into(network, state, path=path, label=model.name)
        loaded = Weights(model.url if weights == "auto" and model.url else path.name, sha256_of(path))
    return export_by_value(network, model.spec, judge_of(model.spec), loaded, output_dir, report=report)


def _weights_path(model: SpaceModel, weights: str) -> Path:
    if weights != "auto":
        return Path(weights)
    if model.embedded:
        return model.embedded
    if not model.url:
        raise CheckpointError(
            f"there is no address to fetch weights for {model.name} from: give a checkpoint with --weights FILE, or "
            f"use --weights random, which is for timing only"
        )
    return fetch(model.url, model.sha256_prefix, cache_folder())


def judge_of(spec: ModelSpec) -> Judge:
    """Compares a lifter's positions in mm, and a volume's in cells.

    Positions of unknown statistics are taken as if their deviation were a metre.
    """
    head = spec.head
    if isinstance(head, Volume):
        return Judge(sample_crops(spec), partial(_cells_apart, head), "cells", FP16_LIMIT_CELLS)
    assert isinstance(head, Lift)

    def distances(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
        positions = (to_metres(output, head, spec.skeleton) for output in (reference, values))
        return MM * np.asarray(np.linalg.norm(next(positions) - next(positions), axis=-1))

    return Judge(sample_windows(head), distances, "mm", FP16_LIMIT_MM)


def _cells_apart(head: Volume, reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n, K) distances of key points in cells, depth too; 0 where the reference has no clear one."""
    cells_a_metre = head.volume_dhw[0] / head.depth_m
    wanted, found = (
        decode_volume(volume, head) * np.array((1, 1, cells_a_metre, 1), np.float32) for volume in (reference, values)
    )
    clear = wanted[..., 3] > CLEAR_SCORE
    return np.where(clear, np.linalg.norm(wanted[..., :3] - found[..., :3], axis=2), 0)


def sample_windows(head: Lift, count: int = WINDOWS) -> np.ndarray:
    """(count, frames, K, 2) float32: points that swing about places of their own; always the same ones, to the bit."""
    skeleton = head.points_skeleton
    rng = np.random.default_rng(0)
    places = rng.uniform(0.35, 0.65, (count, 1, len(skeleton), 2))
    phase = np.arange(head.frames)[:, None, None] / 15 * np.pi
    swings = 0.05 * np.sin(phase + rng.uniform(0, 2 * np.pi, (count, 1, len(skeleton), 2)))
    if head.units == "statistics" and not head.statistics:
        return np.asarray((places + swings - 0.5) / 0.1, np.float32)  # about as many deviations as real points
    return to_units(SIDE_PX * (places + swings), head, skeleton, (SIDE_PX, SIDE_PX))


def randomize(network: nn.Module, spec: ModelSpec) -> None:
    """Give the network reproducible random weights whose activations are of ordinary size at any depth."""
    inputs = sample_windows(spec.head) if isinstance(spec.head, Lift) else smooth_crops(spec)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics become those of the next batch
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        network.double().train()(torch.from_numpy(inputs).double())
        network.float().eval()


def space_model(name: str, statistics_file: Path | None) -> SpaceModel:
    """The zoo's network of that name, with the statistics of a user's file where one is given.

    Raises:
        ChoiceError: the lifter takes no statistics.
        InputError: the file is no JSON.
        ModelFileError: it holds something else than this lifter's statistics.
    """
    model = find_space_model(name)
    if statistics_file is None:
        return model
    if not isinstance(model.spec.head, Lift) or model.spec.head.units != "statistics":
        raise ChoiceError(f"{name} takes no statistics")
    spec = ModelSpec.from_json(
        {**model.spec.to_json(), "head": {**head_to_json(model.spec.head), "statistics": read_json(statistics_file)}}
    )
    return replace(model, spec=spec)


def import_lifter(
    path: Path, spec: ModelSpec, output_dir: Path, *, report: Report = lambda step: None
) -> ExportedByValue:
    """Check a foreign lifter against its spec and write `SPEC.NAME.onnx` and `.fp16.onnx` with their passports.

    Its input becomes `points` and its output `xyz`; the graph is brought to opset 19 and simplified. What is written is
    compared with the original in mm.

    Args:
        path: FP32, one (n, frames, K, 2) input and one (n, K', 3) output, whose batch is dynamic.

    Raises:
        ModelFileError: the file cannot be read, or is not what the spec says.
        ExportError: it cannot be brought into edgepose's form without changing what it computes. No file is left.
    """
    original = open_foreign(path, spec, output_dir, report)
    judge = judge_of(spec)
    graph = rename_interface(original, spec, path)
    reference = run_onnx(original, judge.inputs)[0]
    report("simplifying the graph")
    simplified = simplify(to_opset(graph))
    difference = compare(reference, run_onnx(simplified, judge.inputs)[0], judge)
    if not difference.relative <= FP32_LIMIT_RELATIVE:  # NaN must fail as well
        raise ExportError(f"the simplified graph differs from {path} {text_of(difference, judge)}; no file was written")
    weights = Weights(path.name, sha256_of(path))
    return write_by_value(simplified, spec, judge, weights, difference, output_dir, report=report)


def rename_interface(original: onnx.ModelProto, spec: ModelSpec, path: Path) -> onnx.ModelProto:
    """A copy whose one input and one output have the spec's names and shapes.

    Raises:
        ModelFileError: there are several, or they have other shapes.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(original)
    constants = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value for value in graph.graph.input if value.name not in constants]
    for kind, found, (name, wanted) in (
        ("input", inputs, *spec.inputs.items()),
        ("output", list(graph.graph.output), *spec.outputs.items()),
    ):
        if len(found) != 1:
            raise ModelFileError(f"{path} has {len(found)} {kind}s ({', '.join(v.name for v in found)}); wanted: one")
        sizes = [size.dim_value for size in found[0].type.tensor_type.shape.dim]
        fits = len(sizes) == 1 + len(wanted) and all(a in (0, b) for a, b in zip(sizes[1:], wanted, strict=False))
        if not fits or sizes[0]:
            shape = ", ".join(str(size or "n") for size in sizes)
            raise ModelFileError(
                f"{path}: its {kind} {found[0].name} is ({shape}), the spec says (n, {str(wanted)[1:]}"
            )
        rename_tensor(graph.graph, found[0].name, name)
    del graph.graph.input[:]
    del graph.graph.output[:]
    for field, named in ((graph.graph.input, spec.inputs), (graph.graph.output, spec.outputs)):
        field.extend(
            onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, (BATCH, *shape))
            for key, shape in named.items()
        )
    return graph
