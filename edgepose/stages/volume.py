"""Integral regression (Sun et al., ECCV 2018): a key point is where its volume's softmax is on average.

The CUDA twin is cuda/volume.cu.
"""

from __future__ import annotations

import numpy as np

from edgepose.model.heads.volume import Volume

SPREAD = 0.1  # of the volume's side: a key point as uncertain as that has score 1/e


def decode_volume(volume: np.ndarray, head: Volume) -> np.ndarray:
    """Find each key point's mean place, as mks0601's 3DMPPE PoseNet reads its own.

    The score is edgepose's own, since the paper has none: exp(-(s / 0.1)^2), where s is the root mean square of the
    standard deviations along the three axes as shares of the volume's sides. One sharp peak scores 1, two peaks far
    apart or a flat volume about 0.

    Args:
        volume: (N, K * D, h, w) float32 or float16, any values: a softmax is taken of all D * h * w.

    Returns:
        (N, K, 4) float32: x and y in cells, integers at cell centres; z in metres, relative to the root, larger is
        farther away; score 0 to 1. Cells of -inf count nothing. A volume with NaN or +inf, or of -inf only, gives 0
        for all four.
    """
    depth, height, width = head.volume_dhw
    if volume.ndim != 4 or volume.shape[1] % depth or volume.shape[2:] != (height, width):
        raise ValueError(f"volume must be (N, K * {depth}, {height}, {width}), got {volume.shape}")
    cells = volume.reshape(len(volume), volume.shape[1] // depth, depth, height, width).astype(np.float32, copy=False)
    highest = cells.max(axis=(2, 3, 4), keepdims=True)
    usable = np.isfinite(highest)  # a NaN is the highest
    share = np.exp(np.where(usable, cells, 0) - np.where(usable, highest, 0))  # of the highest cell
    total = share.sum(axis=(2, 3, 4), dtype=np.float64)
    means, spread = [], np.zeros(total.shape)
    for axis, others in ((4, (2, 3)), (3, (2, 4)), (2, (3, 4))):
        side = cells.shape[axis]
        along = share.sum(axis=others, dtype=np.float64) / total[..., None]  # (N, K, side)
        place = np.arange(side) - (side - 1) / 2
        mean = (along * place).sum(axis=2)
        spread += ((along * place**2).sum(axis=2) - mean**2) / side**2 / 3
        means.append(mean + (side - 1) / 2)
    x, y, z = means
    score = np.exp(-np.maximum(spread, 0) / SPREAD**2)
    keypoints = np.stack([x, y, (z / depth - 0.5) * head.depth_m, score], axis=2)
    return np.where(usable[..., 0, 0], keypoints, 0).astype(np.float32)


def merge_mirrored(keypoints: np.ndarray, mirrored: np.ndarray, flip_order: list[int], width: int) -> np.ndarray:
    """The flip test as PoseNet's: the mean of the places found in the crop and in its mirror image.

    Args:
        keypoints, mirrored: (N, K, 4) as `decode_volume` gives them.
        width: of the volume, cells.
    """
    back = mirrored[:, flip_order] * np.array((-1, 1, 1, 1), np.float32)
    back[..., 0] += width - 1
    return np.asarray((keypoints + back) / 2)
