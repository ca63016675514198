"""Moves the Q/DQ pairs that stand before a deconvolution's interleaving behind it, where TensorRT cannot build them.

An INT8 file has Conv, Q, DQ, DepthToSpace, Slice and the next Conv, so that all between the convolutions is INT8.
TensorRT 10.16 cannot build a dequantisation behind reshape, transpose, reshape and slice for sm_87 (TensorRT #4832).
With the pair behind the Slice the same values are rounded by the same step, so the numbers are the same; what lies
between is FP16 and twice as many bytes.
"""

from __future__ import annotations

from typing import Any

from edgepose.trt.meant import layers_of, producers_of

MOVED = (
    "this TensorRT could not build INT8 through the interleaving of deconvolutions (see TensorRT #4832); their pairs "
    "stand behind it now: the same numbers, in FP16 as far as there"
)


def move_pairs(trt: Any, network: Any) -> int:
    """Move, in a parsed network, each pair before SHUFFLE layers and a SLICE behind the SLICE; how many were moved."""
    layers = list(layers_of(network))
    producers = producers_of(layers)
    readers: dict[str, list[tuple[Any, int]]] = {}
    for node in layers:
        for index in range(node.num_inputs):
            if (tensor := node.get_input(index)) is not None:
                readers.setdefault(tensor.name, []).append((node, index))
    moved = 0
    for pair in layers:
        if pair.type != trt.LayerType.DEQUANTIZE:
            continue
        quantise = producers.get(pair.get_input(0).name)
        cut = _slice_behind(trt, pair, readers)
        if cut is None or quantise is None or quantise.type != trt.LayerType.QUANTIZE:
            continue
        source, scale, given = quantise.get_input(0), quantise.get_input(1), pair.get_output(0)
        for reader, index in readers[given.name]:
            reader.set_input(index, source)
        beyond = cut.get_output(0)
        then = list(readers.get(beyond.name, ()))
        again = network.add_quantize(beyond, scale, pair.get_input(0).dtype)
        again.name = f"{quantise.name}.moved"
        back = network.add_dequantize(again.get_output(0), scale, given.dtype)
        back.name = f"{pair.name}.moved"
        for reader, index in then:
            reader.set_input(index, back.get_output(0))
        moved += 1
    return moved


def _slice_behind(trt: Any, pair: Any, readers: dict[str, list[tuple[Any, int]]]) -> Any | None:
    """The SLICE that a pair's values reach through SHUFFLE layers alone; layers that ask for shapes do not count."""
    node, shuffles = pair, 0
    while True:
        data = [(reader, index) for reader, index in readers.get(node.get_output(0).name, ()) if index == 0]
        data = [(reader, index) for reader, index in data if reader.type != trt.LayerType.SHAPE]
        if len(data) != 1:
            return None
        node = data[0][0]
        if node.type == trt.LayerType.SLICE:
            return node if shuffles else None
        if node.type != trt.LayerType.SHUFFLE:
            return None
        shuffles += 1
