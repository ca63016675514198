"""nn.Module -> ONNX, through torch's TorchScript exporter, in a form that every run repeats to the byte."""

from __future__ import annotations

import io
import warnings

import onnx
import torch
from torch import nn

from edgepose.export.graph.interface import BATCH, OPSET, normalize, set_interface
from edgepose.model.spec import ModelSpec


def to_onnx(network: nn.Module, spec: ModelSpec) -> onnx.ModelProto:
    """Trace the network in evaluation mode.

    Returns:
        The spec's inputs (n, ...) float32 -> its outputs (n, ...) float32 with n dynamic, at opset `OPSET`.
    """
    network.eval()
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice to use its other exporter: docs/decisions says why not
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, *spec.image.size_hw),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            dynamic_axes={name: {0: BATCH} for name in (*spec.inputs, *spec.outputs)},
        )
    model = onnx.load_from_string(buffer.getvalue())
    set_interface(model, spec)
    return normalize(model)
