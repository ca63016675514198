"""Bottom-up networks, the project's own and foreign ones -> verified FP32 and FP16 ONNX with passports.

They take a whole picture (`images`) and give maps of all people's key points and of what connects them, by the names
of their head.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edgepose.errors import CheckpointError, EdgeposeError, ModelFileError
from edgepose.export.checkpoints.download import cache_folder, fetch
from edgepose.export.checkpoints.state_dict import StateDict, load_into, read_checkpoint, training_config
from edgepose.export.fitting import fitting_maps
from edgepose.export.foreign import check_value, open_foreign, sizes_of
from edgepose.export.graph.interface import BATCH, rename_tensor
from edgepose.export.maps import INPUT, ExportedMaps, Maps, formed, run_maps, sample_pictures, write_maps
from edgepose.export.pair import Weights, file_names
from edgepose.export.pipeline import Report, randomize
from edgepose.export.to_onnx import to_onnx
from edgepose.export.zoo.bottom_up import BottomUpModel
from edgepose.files import check_targets, sha256_of
from edgepose.model.heads.fields import Fields
from edgepose.model.spec import ModelSpec

UDP_FILES = ("91663bf9", "de08fd8c", "8cc64794", "7cad61ef")  # sha256 of mmpose's four, as their names begin it
BACKGROUND = 0.5  # at least the mean of its map


def import_bottom_up(
    path: Path,
    spec: ModelSpec,
    output_dir: Path,
    *,
    outputs: Sequence[str] = (),
    report: Report = lambda step: None,
) -> ExportedMaps:
    """Check a foreign ONNX against its spec and write `SPEC.NAME.onnx` and `.fp16.onnx` with their passports.

    Args:
        path: FP32, one (n, 3, H, W) input of normalised pictures in the spec's colour order.
        outputs: the file's outputs in the order of the head's; none: those of the head's names, or else the first.

    Raises:
        ModelFileError: the file cannot be read, or is not what the spec says.
        ExportError: it cannot be brought into edgepose's form without changing what it computes. No file is left.
    """
    original = open_foreign(path, spec, output_dir, report)
    _keep_ports(original, spec, path, outputs)
    pictures = sample_pictures(spec)
    single = [run_maps(original, pictures[i : i + 1], spec, path) for i in range(len(pictures))]
    reference = {name: np.concatenate([maps[name] for maps in single]) for name in spec.outputs}
    _check_background(reference, spec, path)
    report("simplifying the graph")
    try:
        graph, difference = formed(original, spec, pictures, reference, BATCH)
    except EdgeposeError:
        graph, difference = formed(original, spec, pictures[:1], single[0], 1)
        report("the graph works for one picture at a time only; it stays so")
    return write_maps(graph, spec, Weights(path.name, sha256_of(path)), difference, output_dir, report)


def _check_background(maps: Maps, spec: ModelSpec, path: Path) -> None:
    """Whether fields lie where the heat maps should: both have the same shape, and of a joined output no shape tells.

    The background's map is near 1 nearly everywhere; a field is 0 but on limbs, so none has a mean of half.
    """
    head = spec.head
    if not isinstance(head, Fields):
        return
    every = np.concatenate([maps["heatmaps"]] if head.joined else [maps["heatmaps"], maps["pafs"]], axis=1)
    means = np.abs(every.mean(axis=(0, 2, 3)))
    background, highest = len(spec.skeleton), int(means.argmax())
    if highest > background and means[highest] > BACKGROUND > means[background]:
        raise ModelFileError(
            f"{path}: the spec has the background in map {background} (from 0 on) and fields behind it, but map "
            f"{highest} is {means[highest]:.2f} on average, as a background is: put the heat maps before the fields"
        )


def export_bottom_up_model(
    model: BottomUpModel,
    output_dir: Path,
    *,
    weights: str = "auto",
    input_hw: tuple[int, int] | None = None,
    report: Report = lambda step: None,
) -> ExportedMaps:
    """Build a network of the zoo, load its weights, and write both files.

    Args:
        model: from `find_bottom_up_model`.
        weights: "auto" (the published checkpoint), "random" (for timing), or a checkpoint's path.
        input_hw: another input size than the usual one.

    Raises:
        ChoiceError: the network cannot take that size.
        CheckpointError: the weights cannot be had, or are not this network's.
        ExportError: a written graph would not compute what the network does. No file is left.
    """
    spec = model.at(input_hw)
    network = model.build()
    if weights == "random":
        report("making random weights, for timing only")
        randomize(network, spec)
        return export_bottom_up(network, spec, Weights("random"), output_dir, report=report)
    if weights == "auto" and not model.url:
        found = f" ({model.by_hand}, for one)" if model.by_hand else ""
        raise CheckpointError(
            f"there is no address to fetch weights for {model.name} from: give a checkpoint with --weights FILE"
            f"{found}, or use --weights random, which is for timing only"
        )
    path = fetch(model.url, model.sha256_prefix, cache_folder()) if weights == "auto" else Path(weights)
    report(f"loading {path.name}")
    state, _ = read_checkpoint(path)
    digest = sha256_of(path)
    if told := _told_of_udp(path, digest):  # its keys are those of checkpoints without, its key points a little off
        raise CheckpointError(
            f"{path.name} was trained with UDP by its {told}, whose maps of tags are read in a way that edgepose does "
            f"not know: take {model.url.rsplit('/', 1)[-1] or 'a checkpoint without UDP'}"
        )
    load_into(network, without_later_stages(state, network), path=path, label=model.name)
    loaded = Weights(model.url if weights == "auto" else path.name, digest)
    return export_bottom_up(network, spec, loaded, output_dir, report=report)


def _told_of_udp(path: Path, digest: str) -> str:
    """What says that a checkpoint of tags was trained with UDP; empty if nothing does."""
    if "udp" in path.name.lower():
        return "name"
    if digest[:8] in UDP_FILES:
        return "sha256"
    return "configuration" if re.search(r"\buse_udp['\"]?\s*[=:]\s*True\b", training_config(path)) else ""


def without_later_stages(state: StateDict, network: nn.Module) -> StateDict:
    """A checkpoint of lightweight OpenPose without the refinement stages that the network does not have."""
    stages = len(getattr(network, "refinement_stages", ()))
    later = re.compile(r"refinement_stages\.(\d+)\.")
    return {key: value for key, value in state.items() if not (found := later.match(key)) or int(found[1]) < stages}


def export_bottom_up(
    network: nn.Module, spec: ModelSpec, weights: Weights, output_dir: Path, *, report: Report = lambda step: None
) -> ExportedMaps:
    """Write a network with its weights as `SPEC.NAME.onnx` and `.fp16.onnx` with their passports.

    Raises:
        ExportError: a written graph would not compute what the network does. No file is left.
    """
    check_targets(output_dir, file_names(spec))
    report("tracing the network")
    raw = to_onnx(network, spec)
    pictures = sample_pictures(spec)
    with torch.no_grad():
        results = network(torch.from_numpy(pictures))
    reference = {name: result.numpy() for name, result in zip(spec.outputs, results, strict=True)}
    report("simplifying the graph")
    graph, difference = formed(raw, spec, pictures, reference, BATCH)
    return write_maps(graph, spec, weights, difference, output_dir, report)


def _keep_ports(model: onnx.ModelProto, spec: ModelSpec, path: Path, chosen: Sequence[str]) -> None:
    """Leave one input and the head's outputs, under edgepose's names, with shapes that the spec allows."""
    graph, wanted = model.graph, spec.outputs
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        found_inputs = ", ".join(value.name for value in inputs)
        raise ModelFileError(f"{path} has {len(inputs)} inputs ({found_inputs}), wanted one: the pictures")
    (image,) = inputs
    found = {value.name: value for value in graph.output}
    names = list(chosen) or (list(wanted) if set(wanted) <= set(found) else list(found)[: len(wanted)])
    missing = [name for name in names if name not in found]
    known = fitting_maps({name: sizes_of(value) for name, value in found.items()}, spec)
    if missing or len(names) != len(wanted):
        raise ModelFileError(
            f"{path} has the outputs {', '.join(found)}; wanted: {len(wanted)}, for {', '.join(wanted)}"
            + (f", got {', '.join(names)}" if chosen else "")
            + (f"; {known}" if known else "")
        )
    check_value(image, spec.inputs[INPUT], "input", path)
    try:
        for name, shape in zip(names, wanted.values(), strict=True):
            check_value(found[name], shape, "output", path)
    except ModelFileError as error:
        raise ModelFileError(f"{error}; {known}") if known else error from None
    kept = [found[name] for name in names]
    del graph.input[:], graph.output[:]
    graph.input.append(image)
    graph.output.extend(kept)
    rename_tensor(graph, image.name, INPUT)
    for index, name in enumerate(wanted):
        rename_tensor(graph, graph.output[index].name, name)
