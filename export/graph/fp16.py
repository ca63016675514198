"""FP32 ONNX -> FP16 ONNX. The precision is in the graph: half-precision tensors, and a Cast wherever it changes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgepose.errors import ExportError

FP16_MAX = 65504.0


def to_fp16(model: onnx.ModelProto, *, keep_fp32: Collection[str] = ()) -> onnx.ModelProto:
    """Store weights and compute activations in half precision; the graph's inputs and outputs stay float32.

    All inputs of an operator get one type, as strongly typed TensorRT networks require. Where an operator's schema
    forbids float16 (QuantizeLinear before opset 19), it is computed in single precision between two Casts.
    From opset 19 on the scales of QuantizeLinear and DequantizeLinear become float16; int8 tensors stay as they are.
    Names of tensors and nodes stay, so that a calibration table fits both graphs.

    Args:
        model: a graph without control flow and without custom operators.
        keep_fp32: names of nodes to compute in single precision nevertheless.

    Raises:
        ExportError: a weight lies beyond float16's range, a scale vanishes in it, or the graph cannot be typed.
    """
    try:
        result = _Converter(model, keep_fp32).convert()
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, onnx.defs.SchemaError) as error:
        raise ExportError(f"no FP16 form of this graph could be made: {error}") from error
    return result


class _Converter:
    """One walk over the nodes that knows which tensors are float, and which of those are half by now."""

    def __init__(self, model: onnx.ModelProto, keep_fp32: Collection[str]) -> None:
        self.model = model
        self.keep_fp32 = frozenset(keep_fp32)
        self.opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.float_names = _float_tensors(model)
        self.half_names: set[str] = set()
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.nodes: list[NodeProto] = []
        self.new_weights: dict[str, TensorProto] = {}
        self.retyped: dict[tuple[str, int], str] = {}  # (float tensor, wanted type) -> its name in that type

    def convert(self) -> onnx.ModelProto:
        for node in self.model.graph.node:
            if node.op_type == "Constant" and node.output[0] in self.float_names:
                self.weights[node.output[0]] = _constant(node)
            else:
                self._convert_node(node)
        for output in self.model.graph.output:
            if output.name in self.half_names:
                self._restore_output(output.name)
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        for field in (result.graph.node, result.graph.initializer, result.graph.value_info):
            del field[:]
        result.graph.node.extend(self.nodes)
        result.graph.initializer.extend(self.new_weights.values())
        return result

    def _convert_node(self, node: NodeProto) -> None:
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            raise ExportError(f"{node.op_type} {node.name} is control flow, which TensorRT cannot type in FP16")
        schema = onnx.defs.get_schema(node.op_type, self.opsets[node.domain], node.domain)
        takes_half = {
            item.type_param_str: "tensor(float16)" in item.allowed_type_strs for item in schema.type_constraints
        }
        inputs = [(name, _slot(schema.inputs, index)) for index, name in enumerate(node.input)]
        # a type parameter that excludes half excludes it for the whole node; a literal tensor(float) only for its slot
        half = node.name not in self.keep_fp32 and all(
            takes_half.get(slot, True) for name, slot in inputs if name in self.float_names
        )
        new = NodeProto()
        new.CopyFrom(node)
        for index, (name, slot) in enumerate(inputs):
            if name in self.float_names:
                in_half = half and takes_half.get(slot, False)
                new.input[index] = self._in_type(name, TensorProto.FLOAT16 if in_half else TensorProto.FLOAT, node)
            elif name in self.weights:
                self.new_weights[name] = self.weights[name]
        for index, name in enumerate(node.output):
            if half and name in self.float_names and takes_half.get(_slot(schema.outputs, index), False):
                self.half_names.add(name)
                _retype_attributes(new)
        self.nodes.append(new)

    def _in_type(self, name: str, wanted: int, node: NodeProto) -> str:
        """The name of float tensor `name` in the wanted type: itself, a converted weight, or a Cast's output."""
        if name not in self.weights and (name in self.half_names) == (wanted == TensorProto.FLOAT16):
            return name
        if (name, wanted) not in self.retyped:
            suffix = "fp16" if wanted == TensorProto.FLOAT16 else "fp32"
            new_name = f"{name}_{suffix}"
            if name in self.weights:
                new_name = new_name if name in self.new_weights else name
                convert = _half_weight if wanted == TensorProto.FLOAT16 else _renamed
                self.new_weights[new_name] = convert(self.weights[name], new_name, node)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [new_name], f"{name}_to_{suffix}", to=wanted))
            self.retyped[name, wanted] = new_name
        return self.retyped[name, wanted]

    def _restore_output(self, name: str) -> None:
        """Graph output `name` has become half: rename it inside and cast it back under its own name."""
        inside = f"{name}_fp16"
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, used in enumerate(names):
                    if used == name:
                        names[index] = inside
        self.nodes.append(helper.make_node("Cast", [inside], [name], f"{name}_to_fp32", to=TensorProto.FLOAT))


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    names = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _slot(parameters: object, index: int) -> str:
    """The type string of an operator's input or output; the last parameter may be variadic."""
    listed = list(parameters)  # type: ignore[call-overload]
    return str(listed[min(index, len(listed) - 1)].type_str)


def _constant(node: NodeProto) -> TensorProto:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    array = numpy_helper.to_array(value) if attribute.name == "value" else np.array(value, np.float32)
    return numpy_helper.from_array(array, node.output[0])


def _renamed(tensor: TensorProto, name: str, node: NodeProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor), name)


def _half_weight(tensor: TensorProto, name: str, node: NodeProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if node.op_type in ("Clip", "Pad"):
        values = np.clip(values, -FP16_MAX, FP16_MAX)  # "no limit" is written as float32's largest number
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if largest > FP16_MAX:
        raise ExportError(
            f"{tensor.name} of {node.op_type} {node.name} reaches {largest:.3g}; FP16 ends at {FP16_MAX:.0f}"
        )
    half = values.astype(np.float16)
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not (half > 0).all():
        raise ExportError(f"scale {tensor.name} has an entry of {float(values.min()):.3g}, which is 0 in FP16")
    return numpy_helper.from_array(half, name)


def _retype_attributes(node: NodeProto) -> None:
    """Make the type that Cast and ConstantOfShape carry in an attribute half."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to":
            attribute.i = TensorProto.FLOAT16
        elif node.op_type == "ConstantOfShape" and attribute.name == "value":
            attribute.t.CopyFrom(_half_weight(attribute.t, attribute.t.name, node))
