"""Layer times that a plan's profile tells, in place of a device's peaks.

A profile is what `trtexec --loadEngine=m.plan --exportProfile=FILE` writes: a JSON list of kernels in the order in
which they ran, each with the names of the ONNX's nodes that were fused into it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import onnx

from edgepose.calibration.costs import Device, Measured, NodeCost, layer_us, node_costs
from edgepose.errors import InputError
from edgepose.files import parse_json, read_input

WANTED = "wanted: what trtexec --exportProfile=FILE writes"
LEAST_KNOWN = 0.5  # of the layers: a profile that names less is of another network
GENERATED = re.compile(r"_myl\d+_\d+$")  # what TensorRT's graph compiler adds to a node's name


@dataclass(frozen=True)
class Profile:
    """One plan's kernels in the order in which they ran: name and microseconds of a run."""

    path: Path
    kernels: tuple[tuple[str, float], ...]


def read_profile(path: Path) -> Profile:
    """Read a profile; of a kernel the median counts, or the average where an older trtexec tells no median.

    Raises:
        InputError: the file cannot be read, or is no profile.
    """
    try:
        data = parse_json(read_input(path))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); {WANTED}") from error
    entries = data if isinstance(data, list) else []
    kernels = tuple(_kernel(path, entry) for entry in entries if not _is_count(entry))
    if not kernels:
        raise InputError(f"{path} has no list of layers with their times; {WANTED}")
    return Profile(path, kernels)


def _is_count(entry: Any) -> bool:
    return isinstance(entry, dict) and set(entry) == {"count"}


def _kernel(path: Path, entry: Any) -> tuple[str, float]:
    time: Any = entry.get("medianMs", entry.get("averageMs")) if isinstance(entry, dict) else None
    name = entry.get("name") if isinstance(entry, dict) else None
    known = isinstance(time, int | float) and not isinstance(time, bool) and 0 <= time < float("inf")
    if not isinstance(name, str) or not known:
        raise InputError(f"{path} has an entry without a name and a time in medianMs or averageMs; {WANTED}")
    return name, 1e3 * float(time)


def measured(
    prepared: onnx.ModelProto, usual: Collection[str], device: Device, profiles: tuple[Profile, Profile]
) -> Measured:
    """The times of a network's layers in each precision.

    A kernel that names no layer (an activation, a quantisation) counts with the layer that ran before it. What a
    profile tells nothing of is predicted, and scaled by what the layers that it does tell of took against predictions.

    Args:
        prepared: the graph whose layers are meant. usual: those of them that are INT8 in the second profile's plan.
        device: whose peaks predict the rest, and reformats at borders between precisions.
        profiles: of the plan of the FP16 file, and of the plan of the INT8 file.

    Raises:
        InputError: a profile names too few of the layers.
    """
    costs = [cost for cost in node_costs(prepared) if not cost.fused]
    names = _names(prepared, {cost.name for cost in costs})
    fp16, int8 = (_times(profile, names, costs, device) for profile in profiles)
    for profile, known in zip(profiles, (fp16, int8), strict=True):
        _check(profile, known, costs)
    return Measured(
        device,
        _filled(fp16, costs, "fp16", device),
        _filled({name: int8[name] for name in usual if name in int8}, costs, "int8", device),
    )


def _names(prepared: onnx.ModelProto, wanted: Collection[str]) -> dict[str, str]:
    """Name of a node, as a plan of this or of the FP32 graph knows it -> the layer, by its first output."""
    names = {}
    for node in prepared.graph.node:
        if node.output[0] in wanted:
            names[node.name] = names[node.name.removesuffix(".phases")] = node.output[0]  # of a deconvolution
    return names


def _times(profile: Profile, names: Mapping[str, str], costs: Sequence[NodeCost], device: Device) -> dict[str, float]:
    share = {cost.name: layer_us(cost, "fp16", device) for cost in costs}
    times: dict[str, float] = {}
    before: list[str] = []
    waiting = 0.0
    for kernel, microseconds in profile.kernels:
        if "reformat" in kernel.lower():  # another mix has others: predicted
            continue
        parts = (GENERATED.sub("", part.strip()) for part in kernel.split(" + "))
        found = list(dict.fromkeys(names[part] for part in parts if part in names)) or before
        if not found:  # before the first layer
            waiting += microseconds
            continue
        total = sum(share[name] for name in found)
        for name in found:
            times[name] = times.get(name, 0.0) + (microseconds + waiting) * share[name] / total
        before, waiting = found, 0.0
    return times


def _check(profile: Profile, known: Mapping[str, float], costs: Sequence[NodeCost]) -> None:
    layers = [cost.name for cost in costs if cost.matrix]
    named = [name for name in layers if name in known]
    if len(named) < LEAST_KNOWN * len(layers):
        raise InputError(
            f"{profile.path} names {len(named)} of the network's {len(layers)} layers: profile a plan of its FP16 "
            f"file, and one of its INT8 file"
        )


def _filled(known: Mapping[str, float], costs: Sequence[NodeCost], precision: str, device: Device) -> dict[str, float]:
    guessed = {cost.name: layer_us(cost, precision, device) for cost in costs}
    ratio = median([known[name] / guessed[name] for name in known] or [1.0])
    return {name: known.get(name, ratio * guess) for name, guess in guessed.items()}
