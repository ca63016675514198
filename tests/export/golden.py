"""The reference implementations' weights, which are a function of their keys, and their outputs."""

from __future__ import annotations

import json

import numpy as np
import torch

from edgepose.benchmarks.studies.golden_weights import golden_weight
from tests.shared_data import SHARED


def golden_state(name: str) -> dict[str, torch.Tensor]:
    """The state dict of a reference implementation, in its own names and order."""
    shapes = json.loads((SHARED / "golden" / f"{name}.keys.json").read_text())
    return {key: golden_weight(key, shape) for key, shape in shapes.items()}


def golden_heatmaps(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The input crops and the reference implementation's heat maps."""
    crops, outputs = golden_outputs(name)
    return crops, outputs["heatmaps"]


def golden_outputs(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The input and each of the reference implementation's outputs, by name."""
    with np.load(SHARED / "golden" / f"{name}.npz") as stored:
        inputs = np.random.default_rng(0).standard_normal(tuple(stored["input_shape"])).astype(np.float32)
        return inputs, {key: stored[key] for key in stored.files if key != "input_shape"}
