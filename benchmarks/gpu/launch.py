"""The kernels on this machine's GPU, for arrays of the CPU; through the same door, with the same arguments as infer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edgepose.benchmarks.gpu.rows import SkippedError
from edgepose.cuda import graphs
from edgepose.cuda.launch import (
    blur_weights,
    crop_grid,
    decode_arguments,
    decode_grid,
    frame_table,
    normalise_factors,
    peaks_grid,
    placed,
    simcc_grid,
    to_image_factors,
    volume_grid,
)
from edgepose.cuda.nvcc import compile_kernels
from edgepose.errors import BuildError
from edgepose.machine.gpu import Gpu
from edgepose.model.heads.volume import Volume
from edgepose.model.spec import ModelSpec
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions

KERNELS = "kernels.fatbin"  # compiled beforehand, where there is no nvcc


def kernel_code(gpu: Gpu, folder: Path | None = None) -> bytes:
    """The kernels for this GPU: compiled here, or where there is no nvcc those of a folder."""
    try:
        return compile_kernels([gpu.target]).fatbin
    except BuildError as error:
        if folder is None or not (folder / KERNELS).is_file():
            raise SkippedError(f"{error}; or give a folder with {KERNELS} by --models") from error
        return (folder / KERNELS).read_bytes()


@dataclass(frozen=True)
class Launch:
    """A kernel with its arguments, ready to be put on the stream; `memory` keeps them where they are.

    Attributes:
        outputs: address, shape and dtype of each array that it writes.
    """

    go: Callable[[], None]
    outputs: Sequence[tuple[int, tuple[int, ...], type]]
    memory: Sequence[object]


class Kernels:
    """Kernels loaded on the GPU. Made and used within `open_kernels`."""

    def __init__(self, code: bytes) -> None:
        from edgepose.cuda import memory  # pycuda

        self._memory, self.module = memory, memory.load_module(code)
        self.stream = memory.Stream()

    def run(self, launch: Launch) -> list[np.ndarray]:
        """Launch it once, and give what it wrote."""
        launch.go()
        arrays: list[np.ndarray] = [np.empty(shape, dtype) for _, shape, dtype in launch.outputs]
        for array, (address, _, _) in zip(arrays, launch.outputs, strict=True):
            self.stream.download(array, address)
        self.stream.wait()
        return arrays

    def crop(self, frame: Frame, regions: Regions, spec: ModelSpec, dtype: type, *, mirrored: bool = True) -> Launch:
        """Crops (N, 3, H, W), and the mirrored ones where wanted."""
        count, shape = len(regions), (len(regions), 3, *spec.image.size_hw)
        pixels = self.upload(frame.pixels)
        table, frame_of, factors, normalise = (
            self.upload(array)
            for array in (
                frame_table([placed(frame, pixels.address)]),
                np.zeros(count, np.int32),
                to_image_factors(regions, spec.image.size_hw),
                normalise_factors(spec),
            )
        )
        crops = [self._memory.DeviceMemory(int(np.prod(shape)) * np.dtype(dtype).itemsize) for _ in range(1 + mirrored)]
        kernel = self._memory.Kernel(self.module, f"crop_{_letters(dtype)}", "PPPPiPPii")
        block, grid = crop_grid(spec, count)
        arguments = (
            table.address,
            frame_of.address,
            factors.address,
            normalise.address,
            int(spec.image.color_order == "bgr"),
            crops[0].address,
            crops[1].address if mirrored else 0,
            *spec.image.size_hw,
        )
        return Launch(
            lambda: self.stream.launch(kernel, block, grid, 0, *arguments),
            [(memory.address, shape, dtype) for memory in crops],
            (pixels, table, frame_of, factors, normalise, *crops),
        )

    def decode(
        self,
        heatmaps: np.ndarray,
        spec: ModelSpec,
        flipped: np.ndarray | None = None,
        regions: Regions | None = None,
    ) -> Launch:
        """Key points (N, K, 3), in heat-map px, or in image px where regions are given."""
        shape = (len(heatmaps), spec.num_keypoints, 3)
        maps, order, weights = (
            self.upload(array) for array in (heatmaps, np.array(spec.skeleton.flip_order, np.int32), blur_weights(spec))
        )
        second = None if flipped is None else self.upload(flipped)
        to_image = None if regions is None else self.upload(to_image_factors(regions, spec.heatmaps.size_hw))
        keypoints = self._memory.DeviceMemory(int(np.prod(shape)) * 4)
        kernel = self._memory.Kernel(self.module, f"decode_{_letters(heatmaps.dtype.type)}", "PPPPPPiiiiiiif")
        block, grid, shared = decode_grid(spec, len(heatmaps))
        arguments = (
            maps.address,
            second.address if second else 0,
            order.address,
            weights.address,
            to_image.address if to_image else 0,
            keypoints.address,
            spec.num_keypoints,
            *spec.heatmaps.size_hw,
            *decode_arguments(spec),
        )
        return Launch(
            lambda: self.stream.launch(kernel, block, grid, shared, *arguments),
            [(keypoints.address, shape, np.float32)],
            (maps, order, weights, second, to_image, keypoints),
        )

    def peaks(self, heatmaps: np.ndarray, window: int, threshold: float, top_k: int) -> Launch:
        """Peaks (N, C, top_k, 3) and their counts (N, C)."""
        shape, counts_shape = (*heatmaps.shape[:2], top_k, 3), heatmaps.shape[:2]
        maps = self.upload(heatmaps)
        peaks = self._memory.DeviceMemory(int(np.prod(shape)) * 4)
        counts = self._memory.DeviceMemory(int(np.prod(counts_shape)) * 4)
        kernel = self._memory.Kernel(self.module, f"peaks_{_letters(heatmaps.dtype.type)}", "PPPiiifi")
        block, grid = peaks_grid(int(np.prod(counts_shape)))
        arguments = (maps.address, peaks.address, counts.address, *heatmaps.shape[2:], window, threshold, top_k)
        return Launch(
            lambda: self.stream.launch(kernel, block, grid, 0, *arguments),
            [(peaks.address, shape, np.float32), (counts.address, counts_shape, np.int32)],
            (maps, peaks, counts),
        )

    def simcc(self, vectors: Sequence[np.ndarray], mirrored: Sequence[np.ndarray], order: Sequence[int]) -> Launch:
        """Key points (N, K, 3) in bins, and depths (N, K) of a range of 1, of vectors along x, y and z of one type.

        Args:
            mirrored: the same of mirrored crops; none without a flip test.
        """
        count, points, _ = vectors[0].shape
        given = [self.upload(each) for each in (*vectors, *mirrored)]
        at = [memory.address for memory in given] + [0] * (3 - len(mirrored))
        flip_order = self.upload(np.array(order, np.int32))
        found, depths = (self._memory.DeviceMemory(count * points * size) for size in (12, 4))
        letters, sizes = _letters(vectors[0].dtype.type), [each.shape[2] for each in vectors]
        simcc = self._memory.Kernel(self.module, f"simcc_{letters}", "PPPPPPPiiif")
        depth = self._memory.Kernel(self.module, f"depth_{letters}", "PPPPPiif")
        block, grid = simcc_grid(points, count)
        first = (at[0], at[1], at[3], at[4], flip_order.address, 0, found.address, points, sizes[0], sizes[1], 1.0)
        second = (at[2], at[5], flip_order.address, found.address, depths.address, points, sizes[2], 1.0)

        def go() -> None:
            self.stream.launch(simcc, block, grid, 0, *first)
            self.stream.launch(depth, block, grid, 0, *second)

        outputs = [(found.address, (count, points, 3), np.float32), (depths.address, (count, points), np.float32)]
        return Launch(go, outputs, (*given, flip_order, found, depths))

    def volume(self, volume: np.ndarray, head: Volume) -> Launch:
        """Key points (N, K, 4) of volumes (N, K * D, h, w)."""
        shape = (len(volume), volume.shape[1] // head.volume_dhw[0], 4)
        given, found = self.upload(volume), self._memory.DeviceMemory(int(np.prod(shape)) * 4)
        kernel = self._memory.Kernel(self.module, f"volume_{_letters(volume.dtype.type)}", "PPiiif")
        block, grid = volume_grid(shape[0] * shape[1])
        arguments = (given.address, found.address, *head.volume_dhw, head.depth_m)
        return Launch(
            lambda: self.stream.launch(kernel, block, grid, 0, *arguments),
            [(found.address, shape, np.float32)],
            (given, found),
        )

    def copy(self, nbytes: int) -> Launch:
        """A copy on the GPU that moves `nbytes` in all: it reads half as many and writes as many."""
        half = max(1, nbytes // 2)
        source, target = self._memory.DeviceMemory(half), self._memory.DeviceMemory(half)
        cuda = graphs.load_driver()

        def go() -> None:
            status = cuda.cuMemcpyDtoDAsync_v2(
                ctypes.c_uint64(target.address),
                ctypes.c_uint64(source.address),
                ctypes.c_size_t(half),
                ctypes.c_void_p(self.stream.handle),
            )
            if status != 0:
                raise RuntimeError(f"cuMemcpyDtoDAsync gave CUDA error {status}")

        return Launch(go, (), (source, target))

    def time_us(self, launches: Sequence[Launch], repeats: int) -> float:
        """Microseconds of one launch: the median over `repeats` of all launches in a row, by CUDA events.

        They are replayed as one CUDA graph, since Python cannot launch as fast as such kernels run.
        """

        def all_of_them() -> None:
            for launch in launches:
                launch.go()

        all_of_them()  # the first launch loads the kernel
        self.stream.wait()
        graph = graphs.Graph(self.stream.handle, all_of_them)
        try:
            times = []
            for _ in range(repeats):
                start, end = self._memory.make_events(2)
                self.stream.mark(start)
                graph.launch(self.stream.handle)
                self.stream.mark(end)
                end.synchronize()
                times.append(end.time_since(start) * 1000 / len(launches))
        finally:
            graph.close()
        return median(times)

    def upload(self, array: np.ndarray) -> Any:
        """Memory on the GPU with a copy of an array."""
        array = np.ascontiguousarray(array)
        memory = self._memory.DeviceMemory(array.nbytes)
        self.stream.upload(memory.address, array)
        self.stream.wait()
        return memory


@contextmanager
def open_kernels(folder: Path | None = None) -> Iterator[Kernels]:
    """The kernels on this machine's GPU, its primary context current in the body."""
    from edgepose.cuda.memory import open_device

    device = open_device()
    code = kernel_code(device.gpu, folder)
    with device.active():
        kernels = Kernels(code)
        try:
            yield kernels
        finally:
            del kernels


def _letters(dtype: type) -> str:
    return "f16" if dtype is np.float16 else "f32"
