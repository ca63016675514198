"""What the channels of a network's tensors look like on typical crops: their largest magnitudes and their means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx

from edgepose.calibration.ranges import Probe
from edgepose.errors import CalibrationError

CROPS = 128  # at most so many are looked at; bounds memory


@dataclass(frozen=True)
class ChannelStatistics:
    """One tensor on a number of crops.

    Attributes:
        largest: (crops, C) the largest magnitude of each channel.
        mean: (crops, C) its mean.
    """

    largest: np.ndarray
    mean: np.ndarray


def channel_statistics(model: onnx.ModelProto, crops: Iterable[np.ndarray]) -> dict[str, ChannelStatistics]:
    """Statistics of every tensor that a convolution or an addition reads, over at most 128 crops (1, 3, H, W).

    Raises:
        CalibrationError: a tensor has a value that is not finite, or there is no crop.
    """
    constant = {item.name for item in model.graph.initializer}
    read: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Add"):
            read |= dict.fromkeys(name for name in node.input[: 2 if node.op_type == "Add" else 1])
    probe = Probe(model, [name for name in read if name not in constant])
    largest: dict[str, list[np.ndarray]] = {}
    mean: dict[str, list[np.ndarray]] = {}
    for _, crop in zip(range(CROPS), crops, strict=False):
        for name, value in probe.run(crop).items():
            if value.ndim == 4:
                largest.setdefault(name, []).append(np.abs(value).max(axis=(0, 2, 3)))
                mean.setdefault(name, []).append(value.mean(axis=(0, 2, 3)))
    if not largest:
        raise CalibrationError("no crop to look at; wanted: at least one person")
    return {name: ChannelStatistics(np.stack(largest[name]), np.stack(mean[name])) for name in largest}
