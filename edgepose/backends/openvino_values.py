"""Every value inside an ONNX, computed exactly on the CPU: what a GPU's layers are held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends.openvino_graph import openvino, read_onnx, settings
from edgepose.backends.runtime import reason
from edgepose.errors import ModelFileError


def exact_values(path: Path, batches: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Run an ONNX of one input on several batches, and tell all its layers' values.

    Args:
        path: FP32, FP16 or INT8; computed in FP32 on what the file holds.
        batches: of one shape, float32.

    Returns:
        For each batch the tensors by their names in the ONNX, float32, without constants. Of an ONNX with a fixed
        batch they have as many rows, those behind the given ones repeat them.

    Raises:
        ModelFileError: OpenVINO cannot read it.
    """
    try:
        model = read_onnx(path, exact=True)
        batch = model.inputs[0].get_partial_shape()[0]
        rows = batch.get_length() if batch.is_static else len(batches[0])
        model.reshape([rows, *batches[0].shape[1:]])
        results = {name for port in model.outputs for name in port.get_names()}
        model.add_outputs([name for name in _names(model) if name not in results])
        request = openvino.Core().compile_model(model, "CPU", settings(None)).create_infer_request()
    except RuntimeError as error:
        raise ModelFileError(f"{path}: OpenVINO cannot read it ({reason(error)}): export it again") from error
    ports = [port.get_names() for port in model.outputs]
    found = []
    for crops in batches:
        arrays = request.infer([np.resize(crops, (rows, *crops.shape[1:]))])  # a fixed batch is filled by repeating
        found.append({name: np.array(arrays[index]) for index, names in enumerate(ports) for name in names})
    return found


def _names(model: Any) -> list[str]:
    """One name of each float tensor that an operator gives; a tensor may bear several."""
    return [
        min(output.get_names())
        for operator in model.get_ordered_ops()
        if operator.get_type_name() not in ("Constant", "Parameter", "Result")
        for output in operator.outputs()
        if output.get_names() and output.get_element_type() == openvino.Type.f32
    ]
