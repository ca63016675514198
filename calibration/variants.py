"""Graphs that differ in which layers and tensors are INT8, made of constants that are computed once for all of them.

`mixes.quantise` rounds every weight anew, copies all constants and checks the graph: seconds for a large network, and
a study of it wants hundreds of graphs. Here a graph has nodes alone, whose constants are known by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
from onnx import numpy_helper

from edgepose.calibration.biases import correct_biases
from edgepose.calibration.mixes import Ground
from edgepose.calibration.qdq import output_axis, pair_constants, quantised_inputs, rounded, with_pairs
from edgepose.export.graph.edit import arrays_of

Constants = Mapping[str, onnx.TensorProto]
Places = Mapping[str, Collection[tuple[str, int]]]


class Variants:
    """The graphs of one ground.

    Attributes:
        ground: what they are made from.
        constants: of all of them: the same name is the same content in each.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._nodes = [_copy(node) for node in ground.model.graph.node]
        corrected = correct_biases(ground.model, ground.layers, ground.means)
        arrays, biases = arrays_of(ground.model), arrays_of(corrected)
        self._inputs: dict[str, list[str]] = {}  # of an INT8 layer, its first one aside
        made = pair_constants(ground.ranges)
        for node, changed in zip(ground.model.graph.node, corrected.graph.node, strict=True):
            name = node.output[0]
            if name not in ground.layers:
                continue
            weight = rounded(arrays[node.input[1]], output_axis(node))
            made.append(numpy_helper.from_array(weight, f"{name}.rounded"))
            self._inputs[name] = [f"{name}.rounded"]
            if len(changed.input) > 2:
                made.append(numpy_helper.from_array(biases[changed.input[2]], f"{name}.corrected"))
                self._inputs[name].append(f"{name}.corrected")
        self.constants: Constants = {item.name: item for item in (*ground.model.graph.initializer, *made)}

    def graph(self, layers: Collection[str], without: Collection[str] = ()) -> onnx.ModelProto:
        """`layers` in INT8, no pair on the tensors of `without`; without constants."""
        places = quantised_inputs(self.ground.model, layers)
        return self._graph(layers, {name: readers for name, readers in places.items() if name not in without})

    def paired(self, places: Places) -> onnx.ModelProto:
        """Pairs on these tensors, every layer as in FP32; without constants."""
        return self._graph((), places)

    def _graph(self, layers: Collection[str], places: Places) -> onnx.ModelProto:
        model = self.ground.model
        nodes = with_pairs(self._nodes, places, model.graph.input[0].name)
        for node in nodes:
            if node.output[0] in layers:
                node.input[1:] = self._inputs[node.output[0]]
        made = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
        made.graph.name = model.graph.name
        made.graph.node.extend(nodes)
        made.graph.input.extend(model.graph.input)
        made.graph.output.extend(model.graph.output)
        return made


def filled(model: onnx.ModelProto, constants: Constants) -> onnx.ModelProto:
    """A copy of a graph without constants, with those that its nodes read."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    read = dict.fromkeys(name for node in model.graph.node for name in node.input)
    whole.graph.initializer.extend(constants[name] for name in read if name in constants)
    return whole


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
