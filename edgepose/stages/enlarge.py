"""Maps of a bottom-up network at another size: key points are looked for in larger ones than it gives."""

from __future__ import annotations

import cv2
import numpy as np

CUBIC = -0.75  # the kernel's only parameter, as OpenCV has it
INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


def enlarge(maps: np.ndarray, factor: int, interpolation: str) -> np.ndarray:
    """(C, h, w) -> (C, factor h, factor w) float32, between pixel centres; "linear" or "cubic", as cv2.resize."""
    maps = np.asarray(maps, np.float32)
    if factor == 1:
        return maps
    channels, height, width = maps.shape
    large = np.empty((channels, height * factor, width * factor), np.float32)
    for source, target in zip(maps, large, strict=True):
        cv2.resize(source, target.shape[::-1], dst=target, interpolation=INTERPOLATIONS[interpolation])
    return large


def resample(maps: np.ndarray, rows: np.ndarray, columns: np.ndarray, interpolation: str) -> np.ndarray:
    """Read maps between their pixels, at every crossing of rows and columns.

    Args:
        maps: (C, h, w) float32.
        rows, columns: (H,), (W,) px of the maps, integers at pixel centres. Beyond the maps' edges lies 0; within half
            a px of an edge its pixels go on.
        interpolation: "linear" or "cubic", without smoothing where there are fewer than pixels: as
            cv2.resize.

    Returns:
        (C, H, W) float32.
    """
    _, height, width = maps.shape
    down, across = _weights(rows, height, interpolation), _weights(columns, width, interpolation)
    return np.asarray(down @ maps @ across.T)


def _weights(at: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """(P, size) float32: how much each of `size` pixels counts at each of P positions."""
    base = np.floor(at).astype(int)
    part = at - base
    if interpolation == "linear":
        taps = {0: 1 - part, 1: part}
    else:
        taps = {-1: _far(1 + part), 0: _near(part), 1: _near(1 - part), 2: _far(2 - part)}
    weights = np.zeros((len(at), size), np.float32)
    inside = (at >= -0.5) & (at <= size - 0.5)
    for step, weight in taps.items():
        np.add.at(weights, (np.arange(len(at)), np.clip(base + step, 0, size - 1)), np.where(inside, weight, 0))
    return weights


def _near(distance: np.ndarray) -> np.ndarray:
    """The cubic kernel up to 1 px away (Keys, 1981)."""
    return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1


def _far(distance: np.ndarray) -> np.ndarray:
    """The cubic kernel from 1 to 2 px away."""
    return CUBIC * (((distance - 5) * distance + 8) * distance - 4)
