"""The reference implementations' weights, which are a function of their keys, and their outputs."""

from __future__ import annotations

import json
import math
import zlib

import numpy as np
import torch

from tests.shared_data import SHARED


def golden_state(name: str) -> dict[str, torch.Tensor]:
    """The state dict of a reference implementation, in its own names and order."""
    shapes = json.loads((SHARED / "golden" / f"{name}.keys.json").read_text())
    return {key: golden_weight(key, shape) for key, shape in shapes.items()}


def golden_weight(key: str, shape: list[int]) -> torch.Tensor:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    kind = key.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if kind == "running_var":
        values = rng.uniform(0.5, 1.5, shape)
    elif kind == "weight" and len(shape) == 1:
        values = rng.uniform(0.3, 0.6, shape)
    else:
        scale = 0.1 if kind in ("running_mean", "bias") else math.sqrt(1 / math.prod(shape[1:]))
        values = rng.normal(0, scale, shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def golden_heatmaps(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The input crops and the reference implementation's heat maps."""
    crops, outputs = golden_outputs(name)
    return crops, outputs["heatmaps"]


def golden_outputs(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The input and each of the reference implementation's outputs, by name."""
    with np.load(SHARED / "golden" / f"{name}.npz") as stored:
        inputs = np.random.default_rng(0).standard_normal(tuple(stored["input_shape"])).astype(np.float32)
        return inputs, {key: stored[key] for key in stored.files if key != "input_shape"}
