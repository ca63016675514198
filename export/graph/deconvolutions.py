"""A ConvTranspose as a convolution that computes the same.

A stride-2 4x4 ConvTranspose with padding 1 is a 2x2 convolution with four times the channels, one per output
phase, whose result is interleaved by DepthToSpace and cut by one pixel on each side. INT8 ConvTranspose is slow or
wrong in several runtimes; INT8 Conv is neither.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgepose.export.graph.edit import (
    arrays_of,
    attributes_of,
    consumers_of,
    copy_of,
    drop_unused,
    name_nodes,
    replace_nodes,
    set_weights,
)

ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")  # element by element, so they commute with DepthToSpace and Slice


def without_deconvolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a folded graph with Conv, DepthToSpace and Slice in the place of ConvTranspose."""
    rewritten = copy_of(model)
    rewrite_deconvolutions(rewritten)
    drop_unused(rewritten)
    name_nodes(rewritten)
    onnx.checker.check_model(rewritten)
    return rewritten


def rewrite_deconvolutions(model: onnx.ModelProto) -> None:
    """Replace each 4x4, stride 2, padding 1 ConvTranspose by Conv, DepthToSpace and Slice; the same values.

    An activation behind it moves to the Conv, where runtimes fuse it.
    """
    arrays, readers = arrays_of(model), consumers_of(model)
    rewritten: list[onnx.NodeProto] = []
    moved: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "ConvTranspose" or not _is_upsampling(node, arrays):
            if node.output[0] not in moved:
                rewritten.append(node)
            continue
        following = readers.get(node.output[0], [])
        activation = following[0] if len(following) == 1 and following[0].op_type in ACTIVATIONS else None
        if activation is not None:
            moved.add(activation.output[0])
        rewritten += _as_convolution(model, node, activation, arrays)
    replace_nodes(model, rewritten)


def _is_upsampling(node: onnx.NodeProto, arrays: dict[str, np.ndarray]) -> bool:
    values = attributes_of(node)
    wanted = {"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1], "output_padding": [0, 0]}
    plain = all(list(values.get(key, want)) == want for key, want in wanted.items())
    return (
        plain
        and "pads" in values
        and "strides" in values
        and "output_shape" not in values
        and values.get("auto_pad", b"NOTSET") == b"NOTSET"
        and all(name in arrays for name in node.input[1:])
        and arrays[node.input[1]].shape[2:] == (4, 4)
    )


def _as_convolution(
    model: onnx.ModelProto, node: onnx.NodeProto, activation: onnx.NodeProto | None, arrays: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    weight = arrays[node.input[1]]  # (in, out / groups, 4, 4)
    groups = int(attributes_of(node).get("group", 1))
    per_group = weight.reshape(groups, -1, *weight.shape[1:]).transpose(0, 2, 1, 3, 4)  # groups, out, in, 4, 4
    # Row p of the padded result takes taps (3, 1) for an odd and (2, 0) for an even row of the kernel, so that
    # DepthToSpace's phase 0 comes from kernel rows 2, 0 and phase 1 from rows 3, 1.
    taps = ([2, 0], [3, 1])
    kernels = np.stack([per_group[..., rows, :][..., columns] for rows in taps for columns in taps], axis=2)
    kernels = kernels.reshape(-1, per_group.shape[2], 2, 2)
    bias = arrays[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernels) // 4, np.float32)
    name, last = node.output[0], (activation or node).output[0]
    conv = helper.make_node(
        "Conv", [node.input[0]], [f"{name}.phases"], f"{node.name or name}.phases", pads=[1, 1, 1, 1], group=groups
    )
    set_weights(model, conv, kernels, np.repeat(bias, 4))
    nodes = [conv]
    if activation is not None:
        active = onnx.NodeProto()
        active.CopyFrom(activation)
        active.input[0], active.output[0] = conv.output[0], f"{name}.active"
        nodes.append(active)
    crop = {"starts": [1, 1], "ends": [-1, -1], "axes": [2, 3]}
    for key, value in crop.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"{name}.crop_{key}"))
    interleave = helper.make_node(
        "DepthToSpace", [nodes[-1].output[0]], [f"{name}.interleaved"], f"{name}.interleave", blocksize=2, mode="CRD"
    )
    crop_inputs = [interleave.output[0], *(f"{name}.crop_{key}" for key in crop)]
    return [*nodes, interleave, helper.make_node("Slice", crop_inputs, [last], f"{name}.crop")]
