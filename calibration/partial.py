"""Compute of a changed graph only what the change reaches; the rest is taken from a run of the unchanged one.

With one layer of fifty in INT8, all before that layer is as it was. Trying each layer in turn costs half of running
whole networks, less where branches lie beside the layer. Behind their changes graphs have the same nodes, so all are
cut at the same places, and what several have between two cuts is one session: to make one for each graph, with all
weights behind the change in it, takes as long as running it on two or three crops.
"""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgepose.calibration.variants import Constants, filled
from edgepose.export.graph.edit import copy_of

SEGMENTS = 12  # fewer: sessions hold more weights; more: tensors are handed over more often
MOST_THREADS = 8  # each holds the activations of a crop
THREADS = min(os.cpu_count() or 1, MOST_THREADS)
PAIR = ("QuantizeLinear", "DequantizeLinear")

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Piece:
    """Nodes of a graph between two cuts.

    Attributes:
        graph: them as a serialised ModelProto without constants.
        reads: tensors that it takes; `gives`: those it makes that are read behind the cut, or are outputs.
    """

    graph: bytes
    reads: tuple[str, ...]
    gives: tuple[str, ...]


class PartialRuns:
    """Runs graphs that differ in little from `base`. Several threads may ask at once.

    Attributes:
        pieces: by name, what must be computed of each graph, in order.
    """

    def __init__(
        self,
        base: onnx.ModelProto,
        graphs: Mapping[str, onnx.ModelProto],
        constants: Constants,
        starts: Collection[str] = (),
    ) -> None:
        """Make the sessions.

        Args:
            base, graphs: without constants, as of one `Variants`.
            starts: where to cut, from `segment_starts`.
        """
        self.pieces = {name: changed_pieces(base, graph, constants, starts) for name, graph in graphs.items()}
        pieces = list(dict.fromkeys(piece for each in self.pieces.values() for piece in each))

        def session_of(piece: Piece) -> Any:
            return exact_session(filled(onnx.ModelProto.FromString(piece.graph), constants), threads=1)

        with ThreadPoolExecutor(THREADS) as pool:
            self._sessions = dict(zip(pieces, pool.map(session_of, pieces), strict=True))
        made = {name for node in base.graph.node for name in node.output}
        read = dict.fromkeys(name for piece in pieces for name in piece.reads if name in made)
        self._run_base = _tapped(filled(base, constants), list(read), threads=1)
        self._outputs = [item.name for item in base.graph.output]

    def outputs(self, crop: np.ndarray) -> Iterator[tuple[str, Outputs]]:
        """Each graph's name and its outputs for a crop (1, 3, H, W) float32."""
        known = self._run_base(crop)
        for name, pieces in self.pieces.items():
            values = ChainMap[str, np.ndarray]({}, known)
            for piece in pieces:
                fed = {tensor: values[tensor] for tensor in piece.reads}
                values.update(zip(piece.gives, self._sessions[piece].run(piece.gives, fed), strict=True))
            yield name, {output: values[output] for output in self._outputs}


def changed_pieces(
    base: onnx.ModelProto, graph: onnx.ModelProto, constants: Constants, starts: Collection[str] = ()
) -> tuple[Piece, ...]:
    """What of `graph` must be computed where all tensors of `base` are known, cut at `starts`.

    A node is unchanged if the base has the same node, with only unchanged tensors to read. Constants and tensors of
    the same name must mean the same in both, as in graphs of one `Variants`.
    """
    known = {node.output[0]: node for node in base.graph.node}
    made: set[str] = set()
    segments: list[list[onnx.NodeProto]] = [[]]
    pairs: list[onnx.NodeProto] = []  # that stand before a cut are computed behind it, where they are read
    for node in graph.graph.node:
        changed = bool(made.intersection(node.input)) or known.get(node.output[0]) != node
        if node.output[0] in starts:
            segments.append([])
        if node.op_type not in PAIR:
            segments[-1] += pairs
            pairs = []
        if changed:
            made.update(node.output)
            (pairs if node.op_type in PAIR else segments[-1]).append(node)
    segments[-1] += pairs
    wanted = {item.name for item in graph.graph.output}
    pieces = []
    for nodes in reversed(segments):
        if nodes:
            pieces.append(_piece(graph, nodes, wanted, constants))
            wanted.update(pieces[-1].reads)
    return tuple(reversed(pieces))


def _piece(
    graph: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], wanted: Collection[str], constants: Constants
) -> Piece:
    made = dict.fromkeys(name for node in nodes for name in node.output)
    read = dict.fromkeys(name for node in nodes for name in node.input)
    reads = tuple(name for name in read if name and name not in made and name not in constants)
    gives = tuple(name for name in made if name in wanted)
    part = onnx.ModelProto(ir_version=graph.ir_version, opset_import=graph.opset_import)
    part.graph.name = graph.graph.name
    part.graph.node.extend(nodes)
    part.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in reads)
    part.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in gives)
    return Piece(part.SerializeToString(deterministic=True), reads, gives)


def segment_starts(model: onnx.ModelProto, layers: Collection[str], segments: int = SEGMENTS) -> frozenset[str]:
    """First outputs of the layers before which to cut a graph in about so many parts, where few tensors are in use."""
    nodes = model.graph.node
    constants = {item.name for item in model.graph.initializer}
    last_read = {name: index for index, node in enumerate(nodes) for name in node.input if name not in constants}
    change = [0] * (len(nodes) + 1)  # of the number of tensors in use, from node to node
    for index, node in enumerate(nodes):
        for name in node.output:
            change[index + 1] += 1
            change[last_read.get(name, index) + 1] -= 1
    in_use = list(accumulate(change))
    size = len(nodes) / segments
    found = set()
    for cut in range(1, segments):
        near = range(round((cut - 0.5) * size), round((cut + 0.5) * size))
        places = [index for index in near if nodes[index].output[0] in layers]
        if places:
            found.add(nodes[min(places, key=lambda index: (in_use[index], index))].output[0])
    return frozenset(found)


def exact_session(model: onnx.ModelProto, threads: int = 0) -> Any:
    """An ONNX Runtime session in which Q/DQ pairs are what ONNX defines: no INT8 kernel takes their place."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_tapped(
    model: onnx.ModelProto, crops: Sequence[np.ndarray], tensors: Sequence[str] = ()
) -> Iterator[dict[str, np.ndarray]]:
    """Named tensors of a graph and its outputs for each crop (1, 3, H, W), which is there under the input's name."""
    return map(_tapped(model, tensors), crops)


def _tapped(
    model: onnx.ModelProto, tensors: Sequence[str], threads: int = 0
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    taken = model.graph.input[0].name
    outputs = [item.name for item in model.graph.output]
    wanted = [name for name in dict.fromkeys([*tensors, *outputs]) if name != taken]
    tapped = copy_of(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    session = exact_session(tapped, threads)
    return lambda crop: {taken: crop, **dict(zip(wanted, session.run(wanted, {taken: crop}), strict=True))}
