"""Crops to compare networks on: drawn people, or smooth colours; always the same ones."""

from __future__ import annotations

import numpy as np

from edgepose.export.drawn.people import make_background, make_pose
from edgepose.export.drawn.rendered import draw_person
from edgepose.model.spec import ModelSpec
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions


def sample_crops(spec: ModelSpec, count: int = 3, *, seed: int = 0) -> np.ndarray:
    """(count, 3, H, W) float32: drawn people, whom trained networks are confident of; for a seed always the same."""
    rng = np.random.default_rng(seed)
    backgrounds = [make_background(rng)]
    people = [draw_person(make_pose(rng), backgrounds, rng) for _ in range(count)]
    crops = [cut_out(person.image, Regions.around(person.box_xyxy[None], spec), spec) for person in people]
    return np.concatenate(crops)


def smooth_crops(spec: ModelSpec, count: int = 3) -> np.ndarray:
    """(count, 3, H, W) float32: smooth random colours, normalised by the spec; always the same ones, to the bit."""
    rng = np.random.default_rng(0)
    height, width = spec.image.size_hw
    coarse = rng.uniform(0, 255, (count, 3, 10, 8))
    rows, columns = np.linspace(0, 9, height), np.linspace(0, 7, width)
    pixels = _interpolate(_interpolate(coarse, rows, axis=2), columns, axis=3)
    mean, std = (np.reshape(values, (1, 3, 1, 1)) for values in (spec.image.mean, spec.image.std))
    return ((pixels - mean) / std).astype(np.float32)


def _interpolate(values: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    low = np.minimum(positions.astype(int), values.shape[axis] - 2)
    shape = [1] * values.ndim
    shape[axis] = -1
    share = (positions - low).reshape(shape)
    return np.take(values, low, axis) * (1 - share) + np.take(values, low + 1, axis) * share
