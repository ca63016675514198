"""What a mix of precisions is predicted to cost in time: a roofline for each layer, a reformat at every border.

A layer takes the longer of its operations at the device's peak and its bytes at the device's bandwidth (Williams,
Waterman, Patterson, "Roofline", CACM 52, 2009). That is a bound from data sheets, not a measurement: it ranks mixes of
one network, and says nothing of how fast a board will be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgepose.errors import InputError
from edgepose.export.graph.edit import arrays_of, copy_of
from edgepose.files import parse_json, read_input

FUSED = ("Relu", "Clip", "LeakyRelu", "PRelu", "Add", "Sigmoid", "HardSigmoid", "Mul", "Identity", "Reshape", "Split")
MATRIX = ("Conv", "ConvTranspose", "MatMul", "Gemm")
BYTES = {"int8": 1, "fp16": 2}


@dataclass(frozen=True)
class Device:
    """Peaks of one device, dense.

    Attributes:
        int8_tops, fp16_tflops: 10^12 operations a second; a multiply-add is two.
        bandwidth_gbs: 10^9 bytes a second between memory and processor.
        launch_us: what each kernel takes at least, microseconds; the default is assumed, for CUDA graphs.
    """

    int8_tops: float
    fp16_tflops: float
    bandwidth_gbs: float
    launch_us: float = 3.0


# The GPU's dense tensor rates, without DLA: SMs x clock x rate of an SM (Ampere: 2048 INT8 and 1024 FP16 multiply-adds
# a clock), which gives the figures of NVIDIA's data sheets; Thor: 20 SMs at 1.57 GHz, its INT8 rate is assumed to be
# twice FP16's. cpu: two cores with AVX-512 VNNI, on which FP16 files compute in FP32.
DEVICES = {
    "orin-nano": Device(33.0, 17.0, 102.0),
    "orin-nx": Device(30.0, 15.0, 102.0),
    "agx-orin": Device(85.0, 42.5, 204.8),
    "thor": Device(514.0, 257.0, 273.0),
    "cpu": Device(0.8, 0.2, 25.0, 5.0),
}


def read_device(name: str) -> Device:
    """One of DEVICES, or a JSON file with the entries of `Device`.

    Raises:
        InputError: neither a name nor a readable file, or a file with wrong entries.
    """
    if name in DEVICES:
        return DEVICES[name]
    wanted = ", ".join(field.name for field in fields(Device))
    path = Path(name)
    if not path.is_file():
        raise InputError(f"device {name!r} is none of {', '.join(DEVICES)}, and no file: give one with {wanted}")
    try:
        data = parse_json(read_input(path))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}): a device file is an object with {wanted}") from error
    if not isinstance(data, dict) or not set(data) <= {field.name for field in fields(Device)}:
        found = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise InputError(f"{path} has {found}; a device file is an object with {wanted}")
    try:
        device = Device(**data)
    except TypeError as error:
        raise InputError(f"{path} lacks entries: a device file is an object with {wanted}") from error
    if not all(_is_positive(getattr(device, field.name)) for field in fields(Device)):
        raise InputError(f"{path} has an entry that is no number over 0: a device file is an object with {wanted}")
    return device


@dataclass(frozen=True)
class Measured:
    """What the layers of one network took on a device, microseconds a crop by name, in each precision.

    Attributes:
        device: whose peaks predict the reformats at borders.
    """

    device: Device
    fp16: Mapping[str, float]
    int8: Mapping[str, float]


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


@dataclass(frozen=True)
class NodeCost:
    """What one node of a graph does for one crop.

    Attributes:
        name: its first output.
        macs: multiply-adds; 0 unless `matrix`, or where a shape is not known.
        values_in, values_out: numbers read and written, without weights.
        weights: numbers.
        reads: tensors that are no constants.
        fused: it is computed with the node before it.
        matrix: it is a convolution or a matrix product with constant weights.
    """

    name: str
    macs: int
    values_in: int
    values_out: int
    weights: int
    reads: tuple[str, ...]
    fused: bool
    matrix: bool


def node_costs(model: onnx.ModelProto) -> list[NodeCost]:
    """Each node of a graph whose shapes can be inferred, for one crop. Shapes that are not known count as nothing."""
    single = copy_of(model)
    for item in single.graph.input:
        item.type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(single).graph
    shapes = {
        item.name: tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)
        for item in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    arrays = arrays_of(model)
    costs = []
    for node in model.graph.node:
        reads = tuple(name for name in node.input if name and name not in arrays)
        made = sum(_count(shapes, name) for name in node.output)
        weight = arrays.get(node.input[1]) if node.op_type in MATRIX and len(node.input) > 1 else None
        costs.append(
            NodeCost(
                node.output[0],
                _macs(node, weight, _count(shapes, node.input[0]), made),
                sum(_count(shapes, name) for name in reads),
                made,
                0 if weight is None else weight.size,
                reads,
                node.op_type in FUSED,
                weight is not None,
            )
        )
    return costs


def _count(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    return int(np.prod(shapes[name])) if name in shapes else 0


def _macs(node: onnx.NodeProto, weight: np.ndarray | None, read: int, made: int) -> int:
    if weight is None or weight.size == 0:
        return 0
    if node.op_type == "Conv":  # each output sums a filter
        return made * int(np.prod(weight.shape[1:]))
    if node.op_type == "ConvTranspose":  # each input spreads a filter
        return read * int(np.prod(weight.shape[1:]))
    transposed = next((item.i for item in node.attribute if item.name == "transB"), 0)
    return made * int(weight.shape[1 if transposed else max(weight.ndim - 2, 0)])  # one of a row of weights sums it


def int8_share(costs: Collection[NodeCost], layers: Collection[str]) -> float | None:
    """The share of all multiply-adds that `layers` do; None where not all are known, or there are none."""
    total = sum(cost.macs for cost in costs)
    if total == 0 or any(cost.matrix and cost.macs == 0 for cost in costs):
        return None
    return sum(cost.macs for cost in costs if cost.name in layers) / total


def predicted_us(costs: Collection[NodeCost], layers: Collection[str], device: Device | Measured) -> float:
    """Microseconds for one crop with `layers` in INT8, the rest in FP16; by measured times where there are some.

    An INT8 layer writes either precision by itself. What an FP16 layer writes and an INT8 layer reads is reformatted
    in between, and so is what layers of both precisions read.
    """
    readers: dict[str, set[str]] = {}
    kernel: dict[str, str] = {}  # tensor -> precision of the kernel that writes it
    for cost in costs:
        precision = "int8" if cost.name in layers else "fp16"
        kernel[cost.name] = kernel.get(cost.reads[0], precision) if cost.fused and cost.reads else precision
        for name in cost.reads:
            if not cost.fused:
                readers.setdefault(name, set()).add(precision)
    sizes = {cost.name: cost.values_out for cost in costs}
    microseconds = sum(
        layer_us(cost, "int8" if cost.name in layers else "fp16", device) for cost in costs if not cost.fused
    )
    peaks = device.device if isinstance(device, Measured) else device
    for name, precisions in readers.items():
        if precisions == {"int8", "fp16"} or (precisions == {"int8"} and kernel.get(name, "fp16") == "fp16"):
            moved = sizes.get(name, 0) * (BYTES["int8"] + BYTES["fp16"])
            microseconds += max(moved / peaks.bandwidth_gbs * 1e-3, peaks.launch_us)
    return microseconds


def time_shares(costs: Collection[NodeCost], layers: Collection[str], device: Device) -> dict[str, float]:
    """Each kernel's share of the predicted time with `layers` in INT8, without the reformats at borders."""
    times = {
        cost.name: layer_us(cost, "int8" if cost.name in layers else "fp16", device) for cost in costs if not cost.fused
    }
    total = sum(times.values())
    return {name: time / total for name, time in times.items()}


def layer_us(cost: NodeCost, precision: str, device: Device | Measured) -> float:
    """Microseconds that one node takes for a crop, "int8" or "fp16"."""
    if isinstance(device, Measured):
        return (device.int8 if precision == "int8" else device.fp16)[cost.name]
    peak = device.int8_tops if precision == "int8" else device.fp16_tflops
    values = cost.values_in + cost.values_out + cost.weights
    return max(2 * cost.macs / peak * 1e-6, values * BYTES[precision] / device.bandwidth_gbs * 1e-3, device.launch_us)
