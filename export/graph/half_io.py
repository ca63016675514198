"""FP16 inputs and outputs for a finished FP16 or INT8 file: what crosses the GPU's memory at both ends is halved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto

from edgepose.errors import ExportError
from edgepose.export.graph.edit import attributes_of, consumers_of, copy_of, replace_nodes
from edgepose.files import sha256_of, whole_file, write_json
from edgepose.model.passport import passport_path, read_passport


def halve_io(path: Path) -> None:
    """Rewrite a passported file so that its inputs and outputs are FP16 where the network has them so anyway.

    It computes what it did: the Cast behind an input and the one before an output are left out, and whoever feeds and
    reads the file rounds instead. The passport follows.

    Raises:
        ModelFileError: the file or its passport is missing or damaged.
        ExportError: the network has neither an input nor an output in FP16: it is an FP32 file.
        OSError: it cannot be written.
    """
    passport = read_passport(path)
    model = with_half_io(onnx.load(path))
    with whole_file(passport_path(path)) as passport_file, whole_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
        write_json(passport_file, replace(passport, sha256=sha256_of(temporary)).to_json())


def with_half_io(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with those inputs and outputs in FP16 that a Cast leads to or comes from; ExportError if none is."""
    result = copy_of(model)
    readers = consumers_of(result)
    renamed: dict[str, str] = {}  # what a Cast made of an input, or an output of -> the input or output
    dropped: set[str] = set()  # by what they make
    halved = 0
    for value in result.graph.input:
        casts = readers.get(value.name, [])
        if casts and all(_casts_to(node, TensorProto.FLOAT16) for node in casts):
            renamed |= {node.output[0]: value.name for node in casts}
            dropped |= {node.output[0] for node in casts}
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
            halved += 1
    half = _half_tensors(model)
    makers = {name: node for node in result.graph.node for name in node.output}
    for value in result.graph.output:
        node = makers.get(value.name)
        # an output that the network reads as well, in FP32, stays
        if node is not None and _casts_to(node, TensorProto.FLOAT) and node.input[0] in half - set(renamed):
            if readers.get(value.name):
                continue
            renamed[node.input[0]] = value.name
            dropped.add(value.name)
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
            halved += 1
    if not halved:
        raise ExportError("no input or output of this network is FP16 inside: take the .fp16.onnx or the .int8.onnx")
    kept = [node for node in result.graph.node if not dropped & set(node.output)]
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    replace_nodes(result, kept)
    del result.graph.value_info[:]
    onnx.checker.check_model(result, full_check=True)
    return result


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and attributes_of(node)["to"] == kind


def _half_tensors(model: onnx.ModelProto) -> set[str]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    return {info.name for info in inferred.value_info if info.type.tensor_type.elem_type == TensorProto.FLOAT16}
