"""Heat maps to key points: the numpy reference of the CUDA kernel.

Positions are in heat-map px, integers at pixel centres. Published ways to read a peak:

* "argmax": the highest pixel.
* "quarter": a quarter of a pixel from it towards the higher neighbour, in x and in y (microsoft/human-pose-estimation
  .pytorch `get_final_preds`; mmpose v1 `refine_keypoints`; bearpaw/pytorch-pose `final_preds`: they differ on the
  border, see Heatmaps.quarter_guard).
* "dark": one Newton step on the log of the blurred map, with differences over two pixels
  (Zhang et al., "Distribution-Aware Coordinate Representation", CVPR 2020; mmpose `refine_keypoints_dark`).
* "udp": the same with differences over one pixel and the border repeated
  (Huang et al., "The Devil is in the Details", CVPR 2020; mmpose v1 `refine_keypoints_dark_udp`).
* "udp-v0": the same of a map blurred with its border mirrored and not scaled (mmpose v0 `post_dark_udp`).
* "udp-original": the same, and the blurred map scaled from 0 to the peak (HuangJunJie2017/UDP-Pose `post`).
* "udp-combined": the offsets that the network gives at the highest pixel of its blurred map (the same paper;
  mmpose v1 `UDPHeatmap`).
* "udp-combined-v0": the same with blurred offsets (mmpose v0 `keypoints_from_heatmaps`, UDP-Pose `get_final_preds`).
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from edgepose.model.heads.heatmaps import HeatmapsWithOffsets
from edgepose.model.spec import ModelSpec

DARK_FLOOR = 1e-10  # blurred values are raised to this before the logarithm
UDP_FLOOR, UDP_CEILING = 1e-3, 50.0


def decode_heatmaps(heatmaps: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Find each heat map's peak, by the spec's decoder.

    Args:
        heatmaps: (N, C, h, w) float32 or float16; C = spec.num_maps: K maps, or of a head
            HeatmapsWithOffsets K times a map and its x and y offsets. N may be 0.

    Returns:
        (N, K, 3) float32 of x, y, score: x and y in heat-map px, the score the peak's value (with offsets after
        the blur, else before it). Of equal peaks the first in memory wins. A map with no positive value has position
        (0, 0) and its peak as the score; one with a NaN or an infinite peak has position (0, 0) and score 0.
    """
    expected = (spec.num_maps, *spec.heatmaps.size_hw)
    if heatmaps.ndim != 4 or heatmaps.shape[1:] != expected or heatmaps.dtype not in (np.float32, np.float16):
        raise ValueError(
            f"heatmaps must be (N, {', '.join(map(str, expected))}) float32 or float16, "
            f"got {heatmaps.shape} {heatmaps.dtype}"
        )
    heatmaps = np.ascontiguousarray(heatmaps, dtype=np.float32)
    if isinstance(spec.head, HeatmapsWithOffsets):
        keypoints = _peaks_with_offsets(heatmaps, spec)
    else:
        keypoints = _peaks(heatmaps.reshape(-1, *spec.heatmaps.size_hw), spec)
    return keypoints.reshape(len(heatmaps), spec.num_keypoints, 3)


def merge_flipped(heatmaps: np.ndarray, flipped: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Average the heat maps of crops with those of their mirror images: the published flip test.

    Args:
        heatmaps: (N, C, h, w) of the crops.
        flipped: (N, C, h, w) of the mirrored crops, as the network gave them.

    Returns:
        (N, C, h, w) float32. The mirrored maps are turned back, left and right key points change places, x offsets
        change sign, and the head's flip_shift moves them right; column 0 then keeps its old value.
    """
    if heatmaps.shape != flipped.shape:
        raise ValueError(
            f"heat maps and those of the mirrored crops differ in shape: {heatmaps.shape}, {flipped.shape}"
        )
    count, channels, height, width = heatmaps.shape
    per_point = channels // spec.num_keypoints  # 1, or 3 where each map brings two offsets
    turned = flipped.reshape(count, spec.num_keypoints, per_point, height, width)
    turned = turned[:, spec.skeleton.flip_order, :, :, ::-1].astype(np.float32)
    if isinstance(spec.head, HeatmapsWithOffsets):
        turned[:, :, 1] *= -1
    turned = turned.reshape(heatmaps.shape)
    if spec.heatmaps.flip_shift:
        turned[..., 1:] = turned[..., :-1].copy()
    turned += heatmaps
    turned *= 0.5
    return turned


def _peaks(maps: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """(M, h, w) maps -> (M, 3) x, y, score."""
    count, height, width = maps.shape
    best = maps.reshape(count, height * width).argmax(axis=1)
    at = best + np.arange(count) * (height * width)
    y, x = np.divmod(best, width)
    score = maps.reshape(-1).take(at)
    keypoints = np.empty((count, 3), np.float32)
    keypoints[:, 0], keypoints[:, 1], keypoints[:, 2] = x, y, score
    if spec.heatmaps.decoder == "quarter":
        keypoints[:, :2] += _quarter_step(maps, best, at, spec.heatmaps.quarter_guard)
    elif spec.heatmaps.decoder != "argmax":
        keypoints[:, :2] += _newton_step(maps, x, y, score, spec)
    _clear_meaningless(keypoints)
    return keypoints


def _clear_meaningless(keypoints: np.ndarray) -> None:
    """Put key points (M, 3) without a positive, finite score at (0, 0); a score that is not finite becomes 0."""
    score = keypoints[:, 2]
    meaningful = (score > 0) & (score < np.inf)  # False for NaN
    if not meaningful.all():
        keypoints[~meaningful, :2] = 0
        score[~np.isfinite(score)] = 0


def _quarter_step(maps: np.ndarray, best: np.ndarray, at: np.ndarray, guard: str) -> np.ndarray:
    """(M, 2) steps of -1/4, 0 or 1/4 px towards the higher neighbour; `best` lies in its map, `at` in all of them."""
    _, height, width = maps.shape
    after, before = maps.reshape(-1).take(
        at + np.array([[[1], [width]], [[-1], [-width]]]), mode="clip"
    )  # (2, M): x, y
    step: np.ndarray = np.subtract(after > before, after < before, dtype=np.float32)
    step *= _quarter_lengths(height, width, guard).take(best, axis=1)
    return step.T


@cache
def _quarter_lengths(height: int, width: int, guard: str) -> np.ndarray:
    """(2, h w) float32: how long the step in x and in y is at each pixel, 0 where the border rule forbids it."""
    x, y = np.arange(width), np.arange(height)[:, None]
    first = 0 if guard == "interior" else 1
    inside_x, inside_y = (x > first) & (x < width - 1), (y > first) & (y < height - 1)
    joint = inside_x & inside_y
    allowed = (inside_x & (y > 0), inside_y & (x > 0)) if guard == "independent" else (joint, joint)
    return np.where(np.stack(allowed), 0.25, 0).astype(np.float32).reshape(2, height * width)


def _newton_step(maps: np.ndarray, x: np.ndarray, y: np.ndarray, peak: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """(M, 2) steps to the top of the parabola through the log of the blurred map.

    Only the values that the step reads are blurred, but for "udp-original", which subtracts the map's lowest. What is
    published for "dark" and "udp" scales the blurred map so that its maximum is the peak again; that is a constant in
    the log, and so matters only where the clamp binds. It cannot bind where the unscaled values pass, since a blur
    never raises the maximum.
    """
    dark = spec.heatmaps.decoder == "dark"
    floor, ceiling = (DARK_FLOOR, np.inf) if dark else (UDP_FLOOR, UDP_CEILING)
    with np.errstate(all="ignore"):  # maps without a peak: not finite, and then no step
        if spec.heatmaps.decoder == "udp-original":
            blurred = _scaled_around(maps, x, y, peak, spec.heatmaps.blur_kernel)
        elif spec.heatmaps.decoder == "udp-v0":
            blurred = _blurred_around(maps, x, y, spec.heatmaps.blur_kernel, reach=1, mirrored=True)
        else:
            blurred = _blurred_around(maps, x, y, spec.heatmaps.blur_kernel, reach=2 if dark else 1)
            for index in np.flatnonzero((blurred.min(axis=(1, 2)) < floor) | (peak > ceiling)):
                blurred[index] *= peak[index] / _blurred_map(maps[index], spec.heatmaps.blur_kernel).max()
        logs = np.log(np.clip(blurred, floor, ceiling))
        if dark:
            step = _two_pixel_step(logs, maps, x, y)
        else:
            eps = 0.0 if spec.heatmaps.decoder == "udp-original" else float(np.finfo(np.float32).eps)
            step = _one_pixel_step(logs, maps, x, y, eps)
    return np.where(np.isfinite(step).all(axis=1, keepdims=True), step, 0).astype(np.float32)


def _two_pixel_step(logs: np.ndarray, maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """DARK: (M, 5, 5) logs around the peak -> (M, 2); no step within two pixels of the border."""
    _, height, width = maps.shape
    dx, dy = (logs[:, 2, 3] - logs[:, 2, 1]) / 2, (logs[:, 3, 2] - logs[:, 1, 2]) / 2
    dxx = (logs[:, 2, 4] - 2 * logs[:, 2, 2] + logs[:, 2, 0]) / 4
    dyy = (logs[:, 4, 2] - 2 * logs[:, 2, 2] + logs[:, 0, 2]) / 4
    dxy = (logs[:, 3, 3] - logs[:, 1, 3] - logs[:, 3, 1] + logs[:, 1, 1]) / 4
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    return np.where(inside[:, None], _solve(dx, dy, dxx, dyy, dxy), 0)


def _one_pixel_step(logs: np.ndarray, maps: np.ndarray, x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    """UDP: (M, 3, 3) logs around the peak -> (M, 2); outside the map its border is repeated.

    `eps` is added to the Hessian's diagonal, as published.
    """
    _, height, width = maps.shape
    for outside, last_x, last_y in ((0, 0, 0), (2, width - 1, height - 1)):
        logs[x == last_x, :, outside] = logs[x == last_x, :, 1]
        logs[y == last_y, outside, :] = logs[y == last_y, 1, :]
    here, left, right = logs[:, 1, 1], logs[:, 1, 0], logs[:, 1, 2]
    above, below = logs[:, 0, 1], logs[:, 2, 1]
    dxy = (logs[:, 2, 2] - right - below + 2 * here - left - above + logs[:, 0, 0]) / 2
    return _solve(
        (right - left) / 2, (below - above) / 2, right - 2 * here + left + eps, below - 2 * here + above + eps, dxy
    )


def _solve(dx: np.ndarray, dy: np.ndarray, dxx: np.ndarray, dyy: np.ndarray, dxy: np.ndarray) -> np.ndarray:
    """-(Hessian)^-1 gradient, (M, 2); not finite where the Hessian is singular."""
    determinant = dxx * dyy - dxy * dxy
    step: np.ndarray = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1) / determinant[:, None]
    return step


def _blurred_around(
    maps: np.ndarray, x: np.ndarray, y: np.ndarray, kernel: int, reach: int, *, mirrored: bool = False
) -> np.ndarray:
    """(M, 2 reach + 1, 2 reach + 1) values round each (x, y) of the blurred maps.

    Beyond their border there is black or, mirrored, what lies as far inside of it; the edge itself is not repeated.
    """
    count, height, width = maps.shape
    radius = kernel // 2 + reach
    around = np.arange(-radius, radius + 1)
    rows, columns = y[:, None] + around, x[:, None] + around
    if mirrored:
        rows, columns = _reflected(rows, height), _reflected(columns, width)
    starts = np.arange(count)[:, None] * (height * width) + rows * width
    windows = maps.reshape(-1).take(starts[:, :, None] + columns[:, None, :], mode="clip")
    if not mirrored:
        border = np.flatnonzero((x < radius) | (x >= width - radius) | (y < radius) | (y >= height - radius))
        inside_y, inside_x = (
            (rows[border] >= 0) & (rows[border] < height),
            (columns[border] >= 0) & (columns[border] < width),
        )
        windows[border] = np.where(inside_y[:, :, None] & inside_x[:, None, :], windows[border], 0)
    blurred: np.ndarray = windows.reshape(count, (2 * radius + 1) ** 2) @ _blur_weights(kernel, reach)
    return blurred.reshape(count, 2 * reach + 1, 2 * reach + 1)


def _reflected(index: np.ndarray, size: int) -> np.ndarray:
    """Positions on a line of `size` pixels whose ends are mirrors: ... 2 1 0 1 2 ..."""
    folded = np.abs(index) % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)


def _scaled_around(maps: np.ndarray, x: np.ndarray, y: np.ndarray, peak: np.ndarray, kernel: int) -> np.ndarray:
    """(M, 3, 3) values round each (x, y) of the maps blurred and scaled so that they go from 0 to the old peak."""
    blurred = _mirror_blurred(maps, kernel)
    lowest, highest = blurred.min(axis=(1, 2)), blurred.max(axis=(1, 2))
    around = np.arange(-1, 2)
    rows, columns = _reflected(y[:, None] + around, maps.shape[1]), _reflected(x[:, None] + around, maps.shape[2])
    values = blurred[np.arange(len(maps))[:, None, None], rows[:, :, None], columns[:, None, :]]
    scaled: np.ndarray = (values - lowest[:, None, None]) * (peak / (highest - lowest))[:, None, None]
    return scaled


@cache
def _blur_weights(kernel: int, reach: int) -> np.ndarray:
    """Matrix that blurs a flat window and keeps the values up to `reach` from its middle."""
    side = 2 * reach + 1
    line = np.zeros((side, kernel + side - 1))
    for shift in range(side):
        line[shift, shift : shift + kernel] = _gaussian(kernel)
    return np.ascontiguousarray(np.kron(line, line).T, dtype=np.float32)


def _gaussian(kernel: int) -> np.ndarray:
    """OpenCV's blur weights, which are a table for kernels of 3, 5, 7 and 9 and a formula for others."""
    return np.asarray(cv2.getGaussianKernel(kernel, 0))[:, 0]


def _blurred_map(heatmap: np.ndarray, kernel: int) -> np.ndarray:
    """One whole map blurred with black beyond its border."""
    line = _gaussian(kernel)
    return np.asarray(cv2.sepFilter2D(heatmap, cv2.CV_32F, line, line, borderType=cv2.BORDER_CONSTANT))


def _mirror_blurred(maps: np.ndarray, side: int) -> np.ndarray:
    """Whole maps (M, h, w) blurred with their border mirrored."""
    blurred = np.empty(maps.shape, np.float32)
    for source, target in zip(maps, blurred, strict=True):
        cv2.GaussianBlur(source, (side, side), 0, dst=target)
    return blurred


def _peaks_with_offsets(heatmaps: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """(N, 3K, h, w) -> (N K, 3): the highest pixel of each blurred map, plus its offsets."""
    height, width = spec.heatmaps.size_hw
    maps = heatmaps.reshape(-1, 3, height, width)
    blurred = _mirror_blurred(maps[:, 0], 2 * spec.heatmaps.blur_kernel + 1)
    best = blurred.reshape(len(maps), height * width).argmax(axis=1)
    y, x = np.divmod(best, width)
    people = np.arange(len(maps))
    score = blurred[people, y, x]
    offsets = maps[people, 1:, y, x]
    if spec.heatmaps.decoder == "udp-combined-v0":
        for axis in (0, 1):
            offsets[:, axis] = _mirror_blurred(maps[:, 1 + axis], spec.heatmaps.blur_kernel)[people, y, x]
    offsets *= spec.heatmaps.offset_radius * max(height, width)
    offsets[~np.isfinite(offsets)] = 0
    keypoints = np.stack([x + offsets[:, 0], y + offsets[:, 1], score], axis=1).astype(np.float32)
    _clear_meaningless(keypoints)
    return keypoints
