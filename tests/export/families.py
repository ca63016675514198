"""What the tests of all network families ask."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import nn

from edgepose.export.graph.simplify import simplify
from edgepose.export.to_onnx import to_onnx
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import heatmap_spec


def without_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """mmpose's names without `backbone.` and `head.`."""
    return {key.removeprefix("backbone.").removeprefix("head."): tensor for key, tensor in state.items()}


def forward(network: nn.Module, crops: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(network.eval()(torch.from_numpy(crops)))


def relative_difference(heatmaps: np.ndarray, expected: np.ndarray) -> float:
    assert heatmaps.shape == expected.shape
    return float(np.abs(heatmaps - expected).max() / np.abs(expected).max())


def counts(network: nn.Module) -> tuple[int, int, int]:
    """Entries of the state dict, those that are not a counter, and trainable values.

    A network made under `torch.device("meta")` costs no memory.
    """
    keys = list(network.state_dict())
    entries = [key for key in keys if not key.endswith("num_batches_tracked")]
    return len(keys), len(entries), sum(parameter.numel() for parameter in network.parameters())


def graph_of(network: nn.Module, input_hw: tuple[int, int], stride: int = 4) -> onnx.ModelProto:
    """The graph that `edgepose export` makes of the network: traced, simplified, batch dynamic."""
    with torch.inference_mode():
        channels = network.eval()(torch.zeros(1, 3, *input_hw)).shape[1]
    skeleton = Skeleton("points", tuple(f"point{index}" for index in range(channels)), ())
    spec = heatmap_spec("toy", input_hw, (input_hw[0] // stride, input_hw[1] // stride), skeleton)
    return simplify(to_onnx(network, spec))


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def values_stored(model: onnx.ModelProto) -> int:
    """How many numbers the graph's weights are."""
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
