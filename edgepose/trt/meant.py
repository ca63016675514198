"""What a parsed network says that it shall be computed in, layer by layer; the plan's layers are held against it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

HANDING_ON = ("SHUFFLE", "SLICE", "POOLING", "RESIZE", "CAST", "SQUEEZE", "UNSQUEEZE")  # give what they read
PRECISIONS = {"FLOAT": "FP32", "HALF": "FP16", "BF16": "BF16", "INT8": "INT8"}


@dataclass(frozen=True)
class MeantLayer:
    """A convolution or matrix product of the ONNX: its name there, its precision, the multiply-adds of one row."""

    name: str
    precision: str
    multiply_adds: int


@dataclass(frozen=True)
class Meant:
    """What a network says of itself: its layers with multiply-adds, and the names of its Q/DQ nodes."""

    layers: tuple[MeantLayer, ...] = ()
    pairs: frozenset[str] = frozenset()


def meant_of(trt: Any, network: Any) -> Meant:
    """Read a strongly typed network that TensorRT's parser made."""
    nodes = list(layers_of(network))
    producers = producers_of(nodes)
    found = []
    for node in nodes:
        if node.type not in (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY):
            continue
        reads = node.get_input(0)
        precision = PRECISIONS.get(reads.dtype.name, reads.dtype.name)
        source = producers.get(reads.name)
        while source is not None and source.type.name in HANDING_ON:
            source = producers.get(source.get_input(0).name)
        if source is not None and source.type == trt.LayerType.DEQUANTIZE:
            precision = "INT8"
        found.append(MeantLayer(node.name, precision, _multiply_adds(trt, node)))
    types = (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE)
    return Meant(tuple(found), frozenset(node.name for node in nodes if node.type in types))


def layers_of(network: Any) -> Iterator[Any]:
    """The layers of a network, in order."""
    return (network.get_layer(index) for index in range(network.num_layers))


def producers_of(layers: list[Any]) -> dict[str, Any]:
    """Name of a tensor -> the layer that makes it."""
    return {node.get_output(index).name: node for node in layers for index in range(node.num_outputs)}


def _multiply_adds(trt: Any, node: Any) -> int:
    """Of one row: each weight of a convolution serves every position, of a product every row of its left side."""
    given, made = tuple(node.get_input(0).shape), tuple(node.get_output(0).shape)
    if node.type == trt.LayerType.MATRIX_MULTIPLY:
        return abs(prod(made[1:]) * given[-1])
    if node.num_inputs > 1:
        weights = abs(prod(node.get_input(1).shape))
    else:
        convolution = node
        deconvolves = node.type == trt.LayerType.DECONVOLUTION
        convolution.__class__ = trt.IDeconvolutionLayer if deconvolves else trt.IConvolutionLayer
        weights = given[1] * convolution.num_output_maps // convolution.num_groups * prod(convolution.kernel_size_nd)
    positions = given if node.type == trt.LayerType.DECONVOLUTION else made
    return weights * abs(prod(positions[2:]))
