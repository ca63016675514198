"""Image and regions to normalised crops: the numpy/cv2 reference of the CUDA kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions

CV2_LARGEST_SIDE = 32766  # px; OpenCV 4's warpAffine keeps source coordinates in 16 bits
CV2_LARGEST_BYTES = (1 << 31) - 1  # a larger source ends its warpAffine in a segmentation fault


def cut_out(image: np.ndarray, regions: Regions, spec: ModelSpec) -> np.ndarray:
    """Cut each region out of the image, scale it to the network's input and normalise it.

    Bilinear, as cv2.warpAffine computes it (published pipelines do the same); black outside the image.

    Args:
        image: (H, W, 3) uint8, RGB.
        regions: N regions of that image.

    Returns:
        (N, 3, h, w) float32, (pixel - mean) / std in the spec's colour order, with (h, w) its input_hw.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) uint8 of at least one pixel, got {image.shape} {image.dtype}")
    image = np.ascontiguousarray(image)  # else cv2 copies it anew for each region
    height, width = spec.image.size_hw
    mean = np.array(spec.image.mean, np.float32).reshape(3, 1, 1)
    std = np.array(spec.image.std, np.float32).reshape(3, 1, 1)
    crops = np.empty((len(regions), 3, height, width), np.float32)
    pixels = np.empty((height, width, 3), np.uint8)
    planes = list(np.empty((3, height, width), np.uint8))
    ordered = planes if spec.image.color_order == "rgb" else planes[::-1]
    for crop, matrix in zip(crops, regions.to_grid_matrices(spec.image.size_hw), strict=True):
        source, source_matrix = _within_cv2_limits(image, matrix, spec.image.size_hw)
        cv2.warpAffine(source, source_matrix, (width, height), dst=pixels, flags=cv2.INTER_LINEAR)
        cv2.split(pixels, planes)  # plane by plane is several times faster than a transposed copy
        for channel, plane in zip(crop, ordered, strict=True):
            channel[...] = plane
        crop -= mean
        crop /= std
    return crops


def cut_out_of(images: Sequence[np.ndarray], frame_of: np.ndarray, regions: Regions, spec: ModelSpec) -> np.ndarray:
    """Cut each region out of its own image, as `cut_out` does.

    Args:
        images: (H, W, 3) uint8 RGB each; they may be of different sizes.
        frame_of: (N,) int: which image a region lies in.
        regions: N regions.

    Returns:
        (N, 3, h, w) float32.
    """
    crops = np.empty((len(regions), 3, *spec.image.size_hw), np.float32)
    for number in np.unique(frame_of):
        inside = frame_of == number
        crops[inside] = cut_out(images[number], regions.rows(inside), spec)
    return crops


def mirror(crops: np.ndarray) -> np.ndarray:
    """(N, 3, H, W) crops with left and right changed over, for the flip test."""
    return np.ascontiguousarray(crops[..., ::-1])


def _within_cv2_limits(
    image: np.ndarray, matrix: np.ndarray, grid_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a huge image that the region needs, with the matrix that goes with it; others as they are."""
    if max(image.shape[:2]) <= CV2_LARGEST_SIDE and image.nbytes <= CV2_LARGEST_BYTES:
        return image, matrix
    scale, offset = matrix[[0, 1], [0, 1]], matrix[:, 2]
    image_wh = np.array(image.shape[1::-1])
    grid_wh = np.array(grid_hw[::-1])
    low = np.clip(np.floor(-offset / scale) - 2, 0, image_wh - 1).astype(int)
    high = np.clip(np.ceil((grid_wh - offset) / scale) + 2, low + 1, image_wh).astype(int)
    step = (high - low - 1) // CV2_LARGEST_SIDE + 1  # over 1 only where a crop px is over 100 image px
    while 3 * math.prod(-(-(high - low) // step)) > CV2_LARGEST_BYTES:
        step *= 2
    part = image[low[1] : high[1] : step[1], low[0] : high[0] : step[0]]
    part_matrix = np.array([[scale[0] * step[0], 0, offset[0]], [0, scale[1] * step[1], offset[1]]])
    part_matrix[:, 2] += scale * low
    return np.ascontiguousarray(part), part_matrix
