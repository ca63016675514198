"""Bias correction: rounding a convolution's weights shifts its output's mean; its float bias takes the shift back.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, with
input means seen on calibration crops.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx

from edgepose.calibration.qdq import rounded
from edgepose.export.graph.edit import arrays_of, attributes_of, copy_of, drop_unused, set_weights


def correct_biases(model: onnx.ModelProto, layers: Collection[str], means: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy of a prepared graph whose `layers`, once their weights are INT8, give the mean output of FP32 weights.

    Args:
        layers: names of what will be quantised; only convolutions have their biases corrected.
        means: tensor -> (C,) the usual mean of each channel; layers that read another tensor stay as they are.
    """
    corrected = copy_of(model)
    arrays = arrays_of(model)
    for node in corrected.graph.node:
        if node.op_type != "Conv" or node.output[0] not in layers or node.input[0] not in means:
            continue
        weight = arrays[node.input[1]]
        groups = int(attributes_of(node).get("group", 1))
        error = (rounded(weight) - weight).sum(axis=(2, 3), dtype=np.float64)  # (out, in / groups)
        inputs = means[node.input[0]].reshape(groups, 1, -1)
        shift = (error.reshape(groups, -1, error.shape[1]) * inputs).sum(axis=2).ravel()
        bias = arrays[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight))
        set_weights(corrected, node, weight, bias - shift)
    drop_unused(corrected)
    return corrected
