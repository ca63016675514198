"""Whether a runtime computes a Q/DQ graph as ONNX defines it, operator by operator.

Whole heat maps cannot tell: one value that lies on the edge between two levels and is rounded the other way moves all
that follows, and two FP32 programs that only add up in another order end several per cent apart. So each stretch
between two quantisations is computed by ONNX Runtime, without its optimisations, from the runtime's own results.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepose.calibration.qdq import insert_qdq, quantisable_layers, quantised_inputs
from edgepose.calibration.ranges import find_ranges
from edgepose.export.graph.deconvolutions import without_deconvolutions
from edgepose.export.graph.edit import arrays_of, replace_nodes
from edgepose.export.graph.fold import fold

# Of a step. Levels end at 127, and FP32 adds up some hundred products to a few units in 2**-24 of the largest.
EDGE = 1e-3


def quantised(model: onnx.ModelProto, crops: np.ndarray) -> onnx.ModelProto:
    """A graph's INT8 form, FP32 where it is not INT8, with the ranges of these crops."""
    prepared = without_deconvolutions(fold(model))
    layers = quantisable_layers(prepared)
    tensors = list(quantised_inputs(prepared, layers))
    ranges = find_ranges(prepared, (crop[None] for crop in crops), tensors, "mse")
    return insert_qdq(prepared, ranges, layers)


def in_fp32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose FP16 numbers are FP32: a runtime that computes all in FP32 means the same by both."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    tensors = [*copy.graph.initializer, *(item.t for node in copy.graph.node for item in node.attribute)]
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in copy.graph.node:
        for item in node.attribute:
            if node.op_type == "Cast" and item.i == TensorProto.FLOAT16:
                item.i = TensorProto.FLOAT
    return copy


def check_levels(path: Path, crops: np.ndarray, *, exact: bool) -> int:
    """Compare OpenVINO with ONNX's definition on a quantised file; the number of values that were compared.

    Every quantised value must be the level that the definition gives, or the next one where the value before it is
    within EDGE of the border between both; what the last stretch makes must agree to 1e-4 of its largest value.
    """
    model = in_fp32(onnx.load(path))
    arrays = arrays_of(model)
    pairs = {
        node.output[0]: (before.input[0], float(arrays[node.input[1]]))
        for before in model.graph.node
        for node in model.graph.node
        if before.op_type == "QuantizeLinear" and node.op_type == "DequantizeLinear" and node.input[0] in before.output
    }
    found = run_openvino(path, crops, exact, list(pairs))
    levels = {name: found[name].astype(np.float64) / step for name, (_, step) in pairs.items()}
    for name, values in levels.items():  # FP16, in which some come out, has 11 bits
        np.testing.assert_allclose(values, np.rint(values), atol=127 / 2**11, err_msg=f"{name}: not in whole steps")
    feeds = {name: (np.rint(levels[name]) * step).astype(np.float32) for name, (_, step) in pairs.items()}
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    cut.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in pairs)
    kept = [node for node in model.graph.node if node.op_type != "QuantizeLinear" and node.output[0] not in pairs]
    replace_nodes(cut, kept)
    befores = list(dict.fromkeys(before for before, _ in pairs.values()))
    wanted = _run_cut(cut, {model.graph.input[0].name: crops, **feeds}, befores)
    for name, (before, step) in pairs.items():
        exactly = wanted[before].astype(np.float64) / step
        apart = np.rint(levels[name]) - np.clip(np.rint(exactly), -128, 127)
        other = apart != 0
        to_border = np.abs(np.abs(exactly - np.rint(exactly)) - 0.5)
        assert np.abs(apart).max() <= 1, f"{name}: {np.abs(apart).max():.0f} levels off"
        assert to_border[other].max(initial=0) < EDGE, f"{name}: {other.sum()} levels, {to_border[other].max():.2g} off"
    output = model.graph.output[0].name
    scale = np.abs(wanted[output]).max()
    np.testing.assert_allclose(found["heatmaps"] / scale, wanted[output] / scale, atol=1e-4)
    return sum(found[name].size for name in pairs)


def run_openvino(path: Path, crops: np.ndarray, exact: bool, tensors: list[str] | None = None) -> dict[str, np.ndarray]:
    """The heat maps and the named tensors that a file gives for crops."""
    from edgepose.backends.openvino_graph import openvino, read_onnx, settings

    model = read_onnx(path, exact=exact)
    model.add_outputs(tensors or [])
    model.reshape({model.inputs[0]: list(crops.shape)})
    results = openvino.Core().compile_model(model, "CPU", settings(1)).create_infer_request().infer([crops])
    return {name: np.array(results[i]) for i, name in enumerate(["heatmaps", *(tensors or [])])}


def _run_cut(model: onnx.ModelProto, feeds: dict[str, np.ndarray], tensors: list[str]) -> dict[str, np.ndarray]:
    import onnxruntime

    known = {item.name for item in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    used = {item.name for item in session.get_inputs()}
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: v for k, v in feeds.items() if k in used}), strict=True))
