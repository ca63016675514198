"""Weights that are a function of their published names: the same ones anywhere, trained by nobody."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch


def golden_weight(key: str, shape: Sequence[int]) -> torch.Tensor:
    """A tensor of a state dict as a function of its published name: the reference outputs' weights."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    kind = key.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return torch.zeros(tuple(shape), dtype=torch.int64)
    if kind == "running_var":
        values = rng.uniform(0.5, 1.5, shape)
    elif kind == "weight" and len(shape) == 1:
        values = rng.uniform(0.3, 0.6, shape)
    else:
        scale = 0.1 if kind in ("running_mean", "bias") else math.sqrt(1 / math.prod(shape[1:]))
        values = rng.normal(0, scale, shape)
    return torch.from_numpy(np.asarray(values, np.float32))
