"""The CUDA kernels' own source as functions of this process: see cpu_grid.h."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

from edgepose.cuda.launch import (
    PlacedFrame,
    blur_weights,
    crop_grid,
    decode_arguments,
    decode_grid,
    frame_table,
    normalise_factors,
    peaks_grid,
    simcc_grid,
    to_image_factors,
    volume_grid,
)
from edgepose.cuda.nvcc import FOLDER
from edgepose.machine.nvcc import find_nvcc
from edgepose.model.heads.volume import Volume
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions
from tests.once import once


def cuda_headers() -> Path:
    """The folder of the toolkit's headers, which hold the FP16 type."""
    include = Path(find_nvcc()).resolve().parent.parent / "include"
    return include if (include / "cuda_fp16.h").is_file() else Path("/usr/local/cuda/include")


@cache
def kernels_on_cpu() -> ctypes.CDLL:
    """The kernels as functions of this process, compiled once in a run of the tests."""
    return ctypes.CDLL(str(once("kernels.so", compile_for_cpu)))


def compile_for_cpu(library: Path) -> None:
    """Compile on_cpu.cpp, which holds the kernels, to a library."""
    here = Path(__file__).parent
    command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", "-DEDGEPOSE_ON_CPU", "-pthread"]
    subprocess.run(
        [*command, "-isystem", cuda_headers(), f"-I{FOLDER}", f"-I{here}", here / "on_cpu.cpp", "-o", library],
        check=True,
    )


def before_a_guard_page(array: np.ndarray) -> np.ndarray:
    """A copy that ends where memory does: a read beyond it ends the process."""
    page = mmap.PAGESIZE
    size = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    copy = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    copy[...] = array
    end = ctypes.c_void_p(copy.ctypes.data + array.nbytes)
    assert ctypes.CDLL(None, use_errno=True).mprotect(end, ctypes.c_size_t(page), 0) == 0
    return copy


def pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def launch(block: tuple[int, int, int], grid: tuple[int, int, int]) -> ctypes.Array[ctypes.c_int]:
    return (ctypes.c_int * 6)(*block, *grid)


def run_decode(
    kernels: ctypes.CDLL,
    heatmaps: np.ndarray,
    spec: ModelSpec,
    flipped: np.ndarray | None = None,
    regions: Regions | None = None,
) -> np.ndarray:
    """Key points in heat-map px, or in image px where regions are given."""
    keypoints = np.full((len(heatmaps), spec.num_keypoints, 3), 99, np.float32)
    flip_order, weights = np.array(spec.skeleton.flip_order, np.int32), blur_weights(spec)
    function = kernels.run_decode_f16 if heatmaps.dtype == np.float16 else kernels.run_decode_f32
    to_image = None if regions is None else to_image_factors(regions, spec.heatmaps.size_hw)
    decoder, guard, shift, kernel, offset_px = decode_arguments(spec)
    function(
        pointer(heatmaps),
        pointer(flipped),
        pointer(flip_order),
        pointer(weights),
        pointer(to_image),
        pointer(keypoints),
        spec.num_keypoints,
        *spec.heatmaps.size_hw,
        decoder,
        guard,
        shift,
        kernel,
        ctypes.c_float(offset_px),
        launch(*decode_grid(spec, len(heatmaps))[:2]),
    )
    return keypoints


def run_crop(
    kernels: ctypes.CDLL,
    frame: np.ndarray,
    frame_hw: tuple[int, int],
    frame_format: str,
    regions: Regions,
    spec: ModelSpec,
    dtype: type = np.float32,
    yuv: str = "bt601",
) -> tuple[np.ndarray, np.ndarray]:
    """Crops and mirrored crops."""
    pixels, pitch = frame.ctypes.data, frame.strides[0]
    placed = PlacedFrame(pixels, pitch, frame_hw, frame_format, yuv, pixels + frame_hw[0] * pitch, pitch)
    return run_crop_of(kernels, [placed], np.zeros(len(regions), np.int32), regions, spec, dtype)


def run_crop_of(
    kernels: ctypes.CDLL,
    frames: list[PlacedFrame],
    frame_of: np.ndarray,
    regions: Regions,
    spec: ModelSpec,
    dtype: type = np.float32,
) -> tuple[np.ndarray, np.ndarray]:
    """Crops and mirrored crops of regions in several frames."""
    crops = np.zeros((len(regions), 3, *spec.image.size_hw), dtype)
    mirrored = np.zeros_like(crops)
    factors, normalise = to_image_factors(regions, spec.image.size_hw), normalise_factors(spec)
    table = frame_table(frames)
    function = kernels.run_crop_f16 if dtype == np.float16 else kernels.run_crop_f32
    function(
        pointer(table),
        pointer(frame_of),
        pointer(factors),
        pointer(normalise),
        int(spec.image.color_order == "bgr"),
        pointer(crops),
        pointer(mirrored),
        *spec.image.size_hw,
        launch(*crop_grid(spec, len(regions))),
    )
    return crops, mirrored


def run_peaks(
    kernels: ctypes.CDLL, heatmaps: np.ndarray, window: int, threshold: float, top_k: int
) -> tuple[np.ndarray, np.ndarray]:
    peaks = np.full((*heatmaps.shape[:2], top_k, 3), 99, np.float32)
    counts = np.full(heatmaps.shape[:2], 99, np.int32)
    function = kernels.run_peaks_f16 if heatmaps.dtype == np.float16 else kernels.run_peaks_f32
    function(
        pointer(heatmaps),
        pointer(peaks),
        pointer(counts),
        *heatmaps.shape[2:],
        window,
        ctypes.c_float(threshold),
        top_k,
        launch(*peaks_grid(counts.size)),
    )
    return peaks, counts


def run_simcc(
    kernels: ctypes.CDLL,
    vectors: tuple[np.ndarray, np.ndarray],
    split_ratio: float,
    flipped: tuple[np.ndarray, np.ndarray] | None = None,
    flip_order: list[int] | None = None,
    to_image: np.ndarray | None = None,
) -> np.ndarray:
    """Key points in px of the input, or in image px where `to_image` (N, 4) is given."""
    x, y = vectors
    keypoints = np.full((*x.shape[:2], 3), 99, np.float32)
    order = np.array(flip_order or range(x.shape[1]), np.int32)
    function = kernels.run_simcc_f16 if x.dtype == np.float16 else kernels.run_simcc_f32
    function(
        pointer(x),
        pointer(y),
        *(map(pointer, flipped) if flipped else (pointer(None),) * 2),
        pointer(order),
        pointer(to_image),
        pointer(keypoints),
        x.shape[1],
        x.shape[2],
        y.shape[2],
        ctypes.c_float(1 / split_ratio),
        launch(*simcc_grid(x.shape[1], len(x))),
    )
    return keypoints


def run_depth(
    kernels: ctypes.CDLL,
    z: np.ndarray,
    keypoints: np.ndarray,
    depth_range: float,
    flipped: np.ndarray | None = None,
    flip_order: list[int] | None = None,
) -> np.ndarray:
    """Depths in metres of (N, K, D) vectors, of key points (N, K, 3)."""
    depths = np.full(z.shape[:2], 99, np.float32)
    order = np.array(flip_order or range(z.shape[1]), np.int32)
    function = kernels.run_depth_f16 if z.dtype == np.float16 else kernels.run_depth_f32
    function(
        pointer(z),
        pointer(flipped),
        pointer(order),
        pointer(np.ascontiguousarray(keypoints)),
        pointer(depths),
        z.shape[1],
        z.shape[2],
        ctypes.c_float(depth_range),
        launch(*simcc_grid(z.shape[1], len(z))),
    )
    return depths


def run_volume(kernels: ctypes.CDLL, volume: np.ndarray, head: Volume) -> np.ndarray:
    depth, height, width = head.volume_dhw
    points = volume.shape[1] // depth
    keypoints = np.full((len(volume), points, 4), 99, np.float32)
    function = kernels.run_volume_f16 if volume.dtype == np.float16 else kernels.run_volume_f32
    function(
        pointer(volume),
        pointer(keypoints),
        depth,
        height,
        width,
        ctypes.c_float(head.depth_m),
        launch(*volume_grid(len(volume) * points)),
    )
    return keypoints


def drawn_maps(spec: ModelSpec, people: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    """Peaks on, near and beyond the border, some doubled, over a little noise."""
    generator = np.random.default_rng(seed)
    height, width = spec.heatmaps.size_hw
    y, x = np.mgrid[:height, :width]
    maps = generator.normal(0, 0.01, (people, spec.num_maps, height, width))
    for person in range(people):
        for channel in range(spec.num_maps):
            for _ in range(generator.integers(1, 3)):
                cx, cy = generator.uniform(-1, width), generator.uniform(-1, height)
                maps[person, channel] += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8) * generator.uniform(0.3, 1)
    return maps.astype(dtype)
