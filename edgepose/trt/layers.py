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
from edgepose.model.passport import Passport
from edgepose.trt.log import messages_of
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
    """

    name: str
    kind: str
    precision: str
    inputs: tuple[str, ...] = ()
    weights: str = ""
    outputs: tuple[str, ...] = ()
    tactic: str = ""
    multiply_adds: int = 0


@dataclass(frozen=True)
class PrecisionShares:
    """What a plan computes in.

    Attributes:
        shares: precision -> share of the multiply-adds, or of the layers with weights where shapes are not told.
        in_float32: names of the layers with weights that compute in FP32.
        reformats, unfused: layers that only change a tensor's form, and quantise or dequantise it.
        layers: of all kinds.
    """

    shares: dict[str, float]
    in_float32: tuple[str, ...]
    reformats: int
    unfused: int
    layers: int

    def text(self) -> str:
        """The same in words."""
        shares = ", ".join(f"{share:.0%} {precision}" for precision, share in self.shares.items())
        parts = [f"multiply-adds {shares}" if shares else "no layer tells its precision"]
        return "; ".join(
            [
                *parts,
                f"{self.layers} layers",
                f"{self.reformats} reformat",
                f"{self.unfused} quantise or dequantise alone",
            ]
        )


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
    runtime, engine = open_plan(trt, plan_path, passport)
    with messages_of(trt) as log:
        information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        del engine, runtime  # in this order
    if not information:
        raise ModelFileError(f"TensorRT tells nothing of {plan_path}: {log.last_errors()}")
    return parse_layers(information)


def parse_layers(information: str) -> list[Layer]:
    """What TensorRT's engine inspector says of a plan, as JSON, in the form of TensorRT 10, 11 or for RTX."""
    return [
        Layer(layer, "", "") if isinstance(layer, str) else _parse_layer(layer)  # names only: of a plan built elsewhere
        for layer in json.loads(information)["Layers"]
    ]


def shares_of(layers: Sequence[Layer]) -> PrecisionShares:
    """How much of a plan computes in which precision."""
    weighty = [layer for layer in layers if layer.weights or layer.multiply_adds]
    counted = any(layer.multiply_adds for layer in weighty)
    amounts: Counter[str] = Counter()
    for layer in weighty:
        amounts[layer.precision or "unknown"] += layer.multiply_adds if counted else 1
    whole = sum(amounts.values())
    return PrecisionShares(
        {precision: amount / whole for precision, amount in amounts.most_common()},
        tuple(layer.name for layer in weighty if layer.precision == "FP32"),
        sum("reformat" in f"{layer.kind} {layer.name}".lower() for layer in layers),
        sum(bool(re.search("quantize", layer.kind, re.IGNORECASE)) for layer in layers),
        len(layers),
    )


_PRECISIONS = {"float": "FP32", "half": "FP16", "bfloat16": "BF16"}
_TYPE = re.compile(r"\b(?:[BF]P\d+|BF16|BFloat16|U?Int\d+|Float|Half|Bool)\b", re.IGNORECASE)
_TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Type", "Format")  # by release


def _parse_layer(layer: Mapping[str, Any]) -> Layer:
    inputs, outputs = (tuple(map(_type_of, layer.get(key, ()))) for key in ("Inputs", "Outputs"))
    weights = layer.get("Weights")
    weights = weights if isinstance(weights, Mapping) else {}
    types = (_type_of(weights), *inputs[:1], *outputs[:1])
    return Layer(
        layer.get("Name", ""),
        layer.get("LayerType", ""),
        next(filter(None, types), ""),
        inputs,
        types[0],
        outputs,
        str(layer.get("TacticName", "")),
        _multiply_adds(weights.get("Count", 0), layer.get("Outputs", ())),
    )


def _type_of(described: Mapping[str, Any]) -> str:
    """The type of a tensor or of weights, in whatever spelling; empty if not told."""
    for key in _TYPE_KEYS:
        if found := _TYPE.search(str(described.get(key, ""))):
            return _PRECISIONS.get(found[0].lower(), found[0].upper())
    return ""


def _multiply_adds(weights: Any, outputs: Sequence[Mapping[str, Any]]) -> int:
    """Of a convolution (N, C, H, W) each weight serves every position once; of a product (N, C) once."""
    sizes = outputs[0].get("Dimensions", ()) if outputs else ()
    if not isinstance(weights, int) or len(sizes) < 2:
        return 0
    return weights * abs(prod(int(size) for size in sizes[2:]))
