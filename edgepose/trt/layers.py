"""The layers of a TensorRT plan and their precisions, as its engine inspector tells them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgepose.errors import BackendError, ModelFileError
from edgepose.machine.gpu import find_gpu
from edgepose.model.computes import LISTED, Computes
from edgepose.model.passport import Passport
from edgepose.trt.log import messages_of
from edgepose.trt.meant import Meant
from edgepose.trt.plan import check_engine, open_plan
from edgepose.trt.versions import load_runner


@dataclass(frozen=True)
class Layer:
    """One layer of a plan. Types are "INT8", "FP16" and so on; empty or none where TensorRT tells nothing.

    Attributes:
        name: of the ONNX's layers that were fused into it.
        kind: TensorRT's.
        precision: what it computes in: the type of its weights, else of its first input, else of what it gives.
        inputs, weights, outputs: their types.
        tactic: the kernel that TensorRT chose.
        multiply_adds: of a run of one row; 0 of a layer without weights, and where shapes are not told.
        onnx_names: of the nodes that it computes.
        other_profile: it, or a tensor of it, is named as of another optimisation profile than the first.
    """

    name: str
    kind: str
    precision: str
    inputs: tuple[str, ...] = ()
    weights: str = ""
    outputs: tuple[str, ...] = ()
    tactic: str = ""
    multiply_adds: int = 0
    onnx_names: tuple[str, ...] = ()
    other_profile: bool = False


def read_layers(plan_path: Path, passport: Passport) -> list[Layer]:
    """The layers of a plan, as TensorRT fused them. Needs the GPU that the plan was built for.

    Raises:
        EngineMismatchError: it was built for another GPU or TensorRT.
        BackendError: there is no GPU or no TensorRT here.
        ModelFileError: TensorRT cannot read the plan, or tells nothing of it.
    """
    gpu = find_gpu()
    if gpu is None:
        raise BackendError("TensorRT reads a plan on a GPU only, and no NVIDIA GPU or driver was found")
    trt = load_runner(plan_path, passport.plan)
    check_engine(plan_path, passport, gpu, trt)
    return parse_layers(engine_information(trt, plan_path, passport))


def engine_information(trt: Any, plan_path: Path, passport: Passport, data: bytes | None = None) -> str:
    """What the engine inspector says of a plan, as JSON; `data` is as of `open_plan`.

    Raises:
        BackendError: the GPU's memory does not hold it.
        ModelFileError: TensorRT cannot read the plan, or tells nothing of it.
    """
    runtime, engine = open_plan(trt, plan_path, passport, data)
    with messages_of(trt) as log:
        information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        del engine, runtime  # in this order
    if not information:
        raise ModelFileError(f"TensorRT tells nothing of {plan_path}: {log.last_errors()}")
    return str(information)


def parse_layers(information: str) -> list[Layer]:
    """What TensorRT's engine inspector says of a plan, as JSON, in the form of TensorRT 10, 11 or for RTX.

    Raises:
        ModelFileError: it is in no form that is known.
    """
    try:
        layers = json.loads(information, strict=False)["Layers"]  # names may be parted by control characters
        return [
            Layer(layer, "", "") if isinstance(layer, str) else _parse_layer(layer)  # names only: built elsewhere
            for layer in layers
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"TensorRT tells the plan's layers in a form that edgepose does not know ({error!r}): it begins "
            f"{information[:80]!r}"
        ) from error


def parse_log(message: str) -> list[Layer]:
    """The same from what TensorRT for RTX 1.7 writes into its build log at detailed verbosity: a line a layer."""
    lines = message.split("\n\n", 1)[0].splitlines()
    return [_parse_layer(_fields(line)) for line in lines if line.startswith("Name: ")]


def computes_of(layers: Sequence[Layer], meant: Meant) -> Computes:
    """Hold a plan's layers against what the ONNX says. Of several profiles the first one's layers count.

    A layer of the ONNX computes in what the plan's layer with the most multiply-adds does that names it and has
    weights: its bias and activation may be kernels of their own.
    """
    layers = _of_first_profile(layers)
    naming: dict[str, Layer] = {}
    for layer in layers:
        for name in layer.onnx_names:
            known = naming.get(name)
            if layer.weights and (known is None or layer.multiply_adds > known.multiply_adds):
                naming[name] = layer
    shares: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    fell_back = []
    for each in meant.layers:
        precision = naming[each.name].precision if each.name in naming else ""
        shares[precision or "unknown"] += each.multiply_adds
        wanted[each.precision] += each.multiply_adds
        if _WIDTHS.get(precision, 99) <= _WIDTHS.get(each.precision, 99):
            kept[each.precision] += each.multiply_adds
        elif precision:
            fell_back.append(each.name)
    whole = max(1, sum(wanted.values()))
    told = bool(naming)
    return Computes(
        {name: count / whole for name, count in shares.most_common()} if told else {},
        {name: kept[name] / count for name, count in wanted.items() if name in _NARROW and count} if told else {},
        tuple(fell_back[:LISTED]),
        len(fell_back),
        len(layers),
        sum(bool(layer.weights) for layer in layers),
        sum("reformat" in f"{layer.kind} {layer.name}".lower() for layer in layers),
        sum(_quantises(layer, meant) for layer in layers),
    )


_WIDTHS = {"INT8": 1, "FP8": 1, "FP16": 2, "BF16": 2, "FP32": 4}
_NARROW = ("INT8", "FP16")
_PRECISIONS = {"float": "FP32", "half": "FP16", "bfloat16": "BF16"}
_TYPE = re.compile(r"\b(?:[BF]P\d+|BF16|BFloat16|U?Int\d+|Float|Half|Bool)\b", re.IGNORECASE)
_TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Type", "Format")  # by release
_OTHER_PROFILE = re.compile(r"\[profile [1-9]\d*\]")
_SUBGRAPH = re.compile(r"_myl(\d+)_\d+$")  # of TensorRT's graph compiler, which is given a network in one or more
_FIELD = re.compile(r"(?:^|, )(\w+): (\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]|(?:(?!, \w+: ).)*)")


def _of_first_profile(layers: Sequence[Layer]) -> list[Layer]:
    """Without the layers of other profiles; a subgraph is another profile's if any layer of it is named so."""
    others = {_subgraph(layer) for layer in layers if layer.other_profile} - {""}
    return [layer for layer in layers if not layer.other_profile and _subgraph(layer) not in others]


def _subgraph(layer: Layer) -> str:
    """Its number, of a layer that TensorRT's graph compiler made; else empty."""
    found = _SUBGRAPH.search(layer.name)
    return found[1] if found else ""


def _fields(line: str) -> dict[str, Any]:
    """A line of the log, `Name: a, Inputs: [ { Name: b, Dimensions: [1,2], ... }], ...`, as the inspector's JSON."""
    line, _, metadata = line.partition(", Metadata: ")
    found: dict[str, Any] = dict(_FIELD.findall(line))
    for key in ("Inputs", "Constants", "Outputs"):
        told = [dict(_FIELD.findall(text.strip())) for text in re.findall(r"\{([^{}]*)\}", found.get(key, ""))]
        for each in told:
            each["Dimensions"] = [int(size) for size in re.findall(r"-?\d+", each.get("Dimensions", ""))]
        found[key] = told
    return {**found, "Metadata": metadata}


def _parse_layer(layer: Mapping[str, Any]) -> Layer:
    inputs, outputs = (tuple(map(_type_of, layer.get(key, ()))) for key in ("Inputs", "Outputs"))
    weights, count = _weights(layer)
    types = (weights, *inputs[:1], *outputs[:1])
    name, told = layer.get("Name", ""), str(layer.get("Metadata", ""))
    tensors = [str(each.get("Name", "")) for key in ("Inputs", "Outputs") for each in layer.get(key, ())]
    return Layer(
        name,
        layer.get("LayerType", ""),
        next(filter(None, types), ""),
        inputs,
        weights,
        outputs,
        str(layer.get("TacticName", "")),
        _multiply_adds(count, layer.get("Outputs", ())),
        tuple(re.findall(r"\[ONNX Layer: ([^\]]+)\]", told)) or tuple(name.split(" + ")),
        any(_OTHER_PROFILE.search(each) for each in (name, *tensors)),
    )


def _weights(layer: Mapping[str, Any]) -> tuple[str, int]:
    """The type and number of a layer's weights; "" and 0 without.

    TensorRT's own kernels tell their weights. Those of its graph compiler (Myelin) tell constants, of which the largest
    with two sides or more is the weights: biases and scales have one. Kernels that it makes itself (kgen) have none.
    """
    weights = layer.get("Weights")
    if isinstance(weights, Mapping) and isinstance(count := weights.get("Count", 0), int):
        return _type_of(weights), count
    best, kind = 0, ""
    for constant in layer.get("Constants", ()) if layer.get("LayerType") != "kgen" else ():
        sizes = [int(size) for size in constant.get("Dimensions", ())]
        if sum(size > 1 for size in sizes) >= 2 and (count := prod(sizes)) > best:
            best, kind = count, _type_of(constant)
    return kind, best


def _quantises(layer: Layer, meant: Meant) -> bool:
    if re.search("quantize", layer.kind, re.IGNORECASE):
        return True
    own = not layer.weights and layer.kind in ("kgen", "PointWiseV2", "PointWise", "Myelin")
    return own and any(name in meant.pairs for name in layer.onnx_names)


def _type_of(described: Mapping[str, Any]) -> str:
    """The type of a tensor or of weights, in whatever spelling; empty if not told."""
    for key in _TYPE_KEYS:
        if found := _TYPE.search(str(described.get(key, ""))):
            return _PRECISIONS.get(found[0].lower(), found[0].upper())
    return ""


def _multiply_adds(weights: int, outputs: Sequence[Mapping[str, Any]]) -> int:
    """Of a convolution (N, C, H, W) each weight serves every position once; of a product (N, C) once."""
    sizes = outputs[0].get("Dimensions", ()) if outputs else ()
    return 0 if len(sizes) < 2 else weights * abs(prod(int(size) for size in sizes[2:]))
