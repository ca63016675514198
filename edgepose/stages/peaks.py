"""Local maxima of bottom-up heat maps: the numpy reference of the CUDA kernel.

A pixel is a peak if nothing in the square window round it is higher: max-pooling and comparison, as in Newell et al.,
"Associative Embedding" (NIPS 2017, `HeatmapParser.nms`) and HigherHRNet (Cheng et al., CVPR 2020), whose window is 5.
"""

from __future__ import annotations

import numpy as np

LARGEST_TOP_K = 256  # the kernel keeps its candidates in shared memory
NEAREST = 4  # steps to neighbours that are always taken first
COMPARED = 8  # neighbours a pixel, of all pixels; more comparisons take longer than the maxima of all windows


def find_peaks(
    heatmaps: np.ndarray, window: int = 5, threshold: float = 0.1, top_k: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    """Find the highest local maxima of each heat map.

    Args:
        heatmaps: (N, C, h, w) float32 or float16. N may be 0.
        window: side of the square round a peak in which no pixel is higher, px, odd. At the border it is cut off.
        threshold: a peak is higher than this.
        top_k: how many peaks of a map are kept, 1 to 256.

    Returns:
        peaks: (N, C, top_k, 3) float32: x, y (heat-map px) and value. The highest comes first; of equal values the
            first in memory. Rows behind a map's last peak are 0.
        counts: (N, C) int32, how many peaks each map has, at most top_k.

    Every pixel of a plateau is a peak. A peak must be finite. A NaN or +inf also rules out every other peak inside its
    window; -inf does not.
    """
    if heatmaps.ndim != 4 or heatmaps.dtype not in (np.float32, np.float16) or 0 in heatmaps.shape[2:]:
        raise ValueError(f"heatmaps must be (N, C, h, w) float32 or float16, got {heatmaps.shape} {heatmaps.dtype}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd, got {window}")
    if np.isnan(threshold):
        raise ValueError("threshold must be a number, got NaN")
    if not 1 <= top_k <= LARGEST_TOP_K:
        raise ValueError(f"top_k must be 1 to {LARGEST_TOP_K}, got {top_k}")
    count, channels, height, width = heatmaps.shape
    row, index, value = _highest(heatmaps.reshape(-1, height, width), window, np.float32(threshold))
    order = np.lexsort((index, -value, row))
    row, index, value = row[order], index[order], value[order]
    found = np.bincount(row, minlength=count * channels)
    rank = np.arange(len(row)) - (np.cumsum(found) - found)[row]
    kept = rank < top_k
    peaks = np.zeros((count * channels, top_k, 3), np.float32)
    peaks[row[kept], rank[kept]] = np.stack([index % width, index // width, value], axis=1)[kept]
    counts = np.minimum(found, top_k).astype(np.int32)
    return peaks.reshape(count, channels, top_k, 3), counts.reshape(count, channels)


def _highest(maps: np.ndarray, window: int, threshold: np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map, the index in it and the value of each pixel that is a peak; few pixels are higher than the threshold."""
    count, height, width = maps.shape
    radius = window // 2
    reach_y, reach_x = min(radius, height - 1), min(radius, width - 1)
    high, wide = height + 2 * reach_y, width + 2 * reach_x
    bordered = np.empty((count, high, wide), np.float32)
    bordered[:, reach_y : reach_y + height, reach_x : reach_x + width] = maps
    bordered[:, :reach_y], bordered[:, reach_y + height :] = -np.inf, -np.inf  # beyond the border lies nothing
    bordered[:, :, :reach_x], bordered[:, :, reach_x + width :] = -np.inf, -np.inf
    flat = bordered.ravel()
    with np.errstate(invalid="ignore"):
        place = np.flatnonzero(flat > threshold)
    value = flat.take(place)
    if not np.isfinite(value).all():
        place, value = place[np.isfinite(value)], value[np.isfinite(value)]
    steps = [(y, x) for y in range(-reach_y, reach_y + 1) for x in range(-reach_x, reach_x + 1) if (y, x) != (0, 0)]
    steps.sort(key=lambda step: abs(step[0]) + abs(step[1]))  # the nearest rule out most
    for done, (y, x) in enumerate(steps):
        if done >= NEAREST and len(place) * (len(steps) - done) > COMPARED * flat.size:  # plateaus
            highest = _not_lower(_window_maximum(bordered, reach_y, reach_x), place, value)
            place, value = place.take(highest), value.take(highest)
            break
        highest = _not_lower(flat, place + (y * wide + x), value)
        if len(highest) < len(place):
            place, value = place.take(highest), value.take(highest)
    row, inside = np.divmod(place, high * wide)
    at_y, at_x = np.divmod(inside, wide)
    return row, (at_y - reach_y) * width + at_x - reach_x, value


def _not_lower(flat: np.ndarray, place: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Which values are not lower than what is at their place; none that meets a NaN."""
    return np.flatnonzero(value >= flat.take(place))


def _window_maximum(bordered: np.ndarray, reach_y: int, reach_x: int) -> np.ndarray:
    """The highest of the window round each pixel that is not of the border; +inf where it has a NaN."""
    highest = np.where(np.isnan(bordered), np.inf, bordered).astype(np.float32)
    for axis, reach in ((1, reach_y), (2, reach_x)):
        side, wide = 2 * reach + 1, 1
        while wide < side:  # of `wide` pixels from each on
            step = min(wide, side - wide)
            highest = np.maximum(highest, np.roll(highest, -step, axis))
            wide += step
        highest = np.roll(highest, reach, axis)
    return highest
