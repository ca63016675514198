"""nn.Module -> ONNX, through torch's TorchScript exporter, in a form that every run repeats to the byte."""

from __future__ import annotations

import io
import warnings

import onnx
import torch
from torch import nn

from edgepose.model.passport import ModelSpec

OPSET = 19  # the first in which QuantizeLinear takes float16 scales; TensorRT 10.3 reads up to 20
IR_VERSION = 9  # the one that belongs to opset 19; ONNX Runtime 1.18 reads up to 10

INPUT, OUTPUT, BATCH = "crops", "heatmaps", "n"


def to_onnx(network: nn.Module, spec: ModelSpec) -> onnx.ModelProto:
    """Trace the network in evaluation mode.

    Returns:
        crops (n, 3, H, W) float32 -> heatmaps (n, C, h, w) float32 with n dynamic, at opset `OPSET`.
    """
    network.eval()
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice to use its other exporter: docs/decisions says why not
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, *spec.input_hw),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
        )
    model = onnx.load_from_string(buffer.getvalue())
    set_interface(model, spec)
    return normalize(model)


def set_interface(model: onnx.ModelProto, spec: ModelSpec, batch: int | str = BATCH) -> None:
    """Declare the shapes of the one input and output; the batch is dynamic unless it is a number."""
    for value, shape in (
        (model.graph.input[0], (batch, 3, *spec.input_hw)),
        (model.graph.output[0], (batch, spec.output_channels, *spec.heatmap_hw)),
    ):
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, shape))


def normalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without what means nothing and differs between runs: notes, inner shapes, the producer."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = IR_VERSION
    result.producer_name, result.producer_version = "edgepose", ""
    result.doc_string, result.graph.doc_string, result.graph.name = "", "", "edgepose"
    del result.metadata_props[:]
    del result.graph.metadata_props[:]
    del result.graph.value_info[:]
    for index, node in enumerate(result.graph.node):
        node.doc_string = ""
        del node.metadata_props[:]
        node.name = node.name or f"{node.op_type}_{index}"  # messages and tables name nodes
    for tensor in result.graph.initializer:
        tensor.doc_string = ""
    return result
