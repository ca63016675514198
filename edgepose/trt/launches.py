"""The stages of the GPU's data path, as launches on one stream: crop, network, decode.

Crops and heat maps are one set for all frames, since the stream keeps frames apart. Network and decoding, which are the
same launches with the same addresses for each frame of so many people, are one CUDA graph.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.cuda.graphs import Graph, GraphError
from edgepose.cuda.launch import Tables, blur_weights, crop_grid, decode_arguments, decode_grid, normalise_factors
from edgepose.cuda.memory import DeviceMemory, Kernel, Stream, load_module
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.trt.network import Network

_ALIGNMENT = 256  # bytes; TensorRT's of a tensor

logger = logging.getLogger(__name__)


class Stages:
    """Crop, network and decoding, for up to max_batch people at a time.

    Args:
        path, passport: the plan's, already checked.
        trt: the TensorRT module.
        kernels: compiled for this GPU.
        use_graphs: replay CUDA graphs; may be changed between calls.

    Attributes:
        stream: where all of it goes.
        network: the engine.
        tables: on the GPU, the `Tables` of a run.
        keypoints: on the GPU, (N, K, 3) float32.
    """

    def __init__(self, path: Path, passport: Passport, trt: Any, kernels: bytes, *, use_graphs: bool) -> None:
        self.use_graphs = use_graphs
        self._path, self._spec = path, passport.spec
        self._graphs: dict[tuple[int, bool, str], Graph] = {}
        self._weights: dict[str, DeviceMemory] = {}
        with ExitStack() as resources:
            self.stream = Stream()  # first: on a lost device it fails with the device's error, a plan with its own
            self.network = Network(path, passport, trt)
            resources.callback(self.network.close)
            self._load(resources, kernels)
            resources.callback(self._close_graphs)
            self._resources = resources.pop_all()

    def _load(self, resources: ExitStack, kernels: bytes) -> None:
        spec, network, most = self._spec, self.network, self.network.max_batch
        decode_grid(spec, most)  # says so where the kernel cannot take such heat maps
        module = load_module(kernels)
        crops, heatmaps = network.inputs["crops"], network.outputs["heatmaps"]
        self._crop = Kernel(module, f"crop_{_letters(crops.dtype)}", "PPPPiPPii")
        self._decode = Kernel(module, f"decode_{_letters(heatmaps.dtype)}", "PPPPPPiiiiiiif")
        self._crop_bytes, self._maps_bytes = crops.row_bytes, heatmaps.row_bytes
        # twice: a batch, and one of mirrored crops where both do not fit into one
        self._crops = _allocate(resources, 2 * _aligned(most * self._crop_bytes))
        self._heatmaps = _allocate(resources, 2 * _aligned(most * self._maps_bytes))
        self.tables = _allocate(resources, Tables(most, most).nbytes)
        self.keypoints = _allocate(resources, most * spec.num_keypoints * 12)
        self._normalise = self._constant(resources, normalise_factors(spec))
        self._flip_order = self._constant(resources, np.array(spec.skeleton.flip_order, np.int32))
        self._weights[spec.heatmaps.decoder] = self._constant(resources, blur_weights(spec))

    def crop(self, count: int, flip_test: bool) -> None:
        """Cut out the `count` people that `tables` tells of, and their mirror images."""
        block, grid = crop_grid(self._spec, count)
        tables, start = Tables(count, 0), self.tables.address
        self.stream.launch(
            self._crop,
            block,
            grid,
            0,
            start + tables.frames,
            start + tables.frame_of,
            start,
            self._normalise.address,
            int(self._spec.image.color_order == "bgr"),
            self._crops.address,
            self._crops.address + self._second(count)[0] if flip_test else 0,
            *self._spec.image.size_hw,
        )

    def run_network(self, count: int, flip_test: bool) -> None:
        """Heat maps of the crops: one run where crops and mirror images fit into the engine's batch, else two."""
        crops, heatmaps = self._crops.address, self._heatmaps.address
        one_run = flip_test and 2 * count <= self.network.max_batch
        self._run(2 * count if one_run else count, crops, heatmaps)
        if flip_test and not one_run:
            second = self._second(count)
            self._run(count, crops + second[0], heatmaps + second[1])

    def _run(self, count: int, crops: int, heatmaps: int) -> None:
        self.network.run(count, {"crops": crops, "heatmaps": heatmaps}, self.stream.handle)

    def decode(self, count: int, flip_test: bool, spec: ModelSpec) -> None:
        """Key points of the heat maps, as `spec` says."""
        block, grid, shared = decode_grid(spec, count)
        self.stream.launch(
            self._decode,
            block,
            grid,
            shared,
            self._heatmaps.address,
            self._heatmaps.address + self._second(count)[1] if flip_test else 0,
            self._flip_order.address,
            self._weights_of(spec).address,
            self.tables.address + Tables(count, 0).heatmaps,
            self.keypoints.address,
            spec.num_keypoints,
            *spec.heatmaps.size_hw,
            *decode_arguments(spec),
        )

    def graph(self, count: int, flip_test: bool, spec: ModelSpec) -> Graph | None:
        """`run_network` and `decode` as one graph; None where it is not recorded, or none are wanted."""
        return self._graphs.get((count, flip_test, spec.heatmaps.decoder)) if self.use_graphs else None

    def record(self, count: int, flip_test: bool, spec: ModelSpec) -> None:
        """Record that graph. Both have been put on the stream before: TensorRT allocates in a first run."""

        def work() -> None:
            self.run_network(count, flip_test)
            self.decode(count, flip_test, spec)

        self.stream.wait()  # the first run must have ended, not only begun
        try:
            self._graphs[count, flip_test, spec.heatmaps.decoder] = Graph(self.stream.handle, work)
        except GraphError as error:
            self.use_graphs = False
            logger.warning("%s runs without CUDA graphs, launch by launch: %s", self._path, error)

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) float32 crops -> (N, C, h, w) float32 heat maps, for any N; waits for them."""
        network, spec = self.network, self._spec
        heatmaps = np.empty((len(crops), spec.num_maps, *spec.heatmaps.size_hw), network.outputs["heatmaps"].dtype)
        for start in range(0, len(crops), network.max_batch):
            part = np.ascontiguousarray(crops[start : start + network.max_batch], network.inputs["crops"].dtype)
            self.stream.upload(self._crops.address, part)
            self._run(len(part), self._crops.address, self._heatmaps.address)
            self.stream.download(heatmaps[start : start + len(part)], self._heatmaps.address)
            self.stream.wait()
        return heatmaps.astype(np.float32, copy=False)

    def read_crops(self, count: int) -> np.ndarray:
        """The crops on the GPU, (count, 3, H, W) float32; waits for them."""
        tensor = self.network.inputs["crops"]
        crops = np.empty((count, *tensor.shape), tensor.dtype)
        self.stream.download(crops, self._crops.address)
        self.stream.wait()
        return crops.astype(np.float32, copy=False)

    def decode_given(self, heatmaps: np.ndarray) -> np.ndarray:
        """(N, C, h, w) float32 heat maps -> (N, K, 3) float32 as `decode` reads them; N is 1 to max_batch."""
        tensor, keypoints = self.network.outputs["heatmaps"], self._spec.num_keypoints
        found = np.empty((len(heatmaps), keypoints, 3), np.float32)
        given = np.ascontiguousarray(heatmaps, tensor.dtype)
        self.stream.upload(self._heatmaps.address, given)
        self.decode(len(heatmaps), False, self._spec)
        self.stream.download(found, self.keypoints.address)
        self.stream.wait()
        return found

    def close(self) -> None:
        """Free everything; none of it may be running. A second call does nothing."""
        self._resources.close()

    def _close_graphs(self) -> None:
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()

    def _second(self, count: int) -> tuple[int, int]:
        """Byte offsets of the mirrored crops and of their heat maps: behind the others if a batch holds both."""
        if 2 * count <= self.network.max_batch:
            return count * self._crop_bytes, count * self._maps_bytes
        most = self.network.max_batch
        return _aligned(most * self._crop_bytes), _aligned(most * self._maps_bytes)

    def _weights_of(self, spec: ModelSpec) -> DeviceMemory:
        if spec.heatmaps.decoder not in self._weights:
            self._weights[spec.heatmaps.decoder] = self._constant(self._resources, blur_weights(spec))
        return self._weights[spec.heatmaps.decoder]

    def _constant(self, resources: ExitStack, values: np.ndarray) -> DeviceMemory:
        """A copy on the GPU."""
        memory = _allocate(resources, values.nbytes)
        self.stream.upload(memory.address, values)
        self.stream.wait()  # not every driver has read pageable memory when the call returns
        return memory


def _allocate(resources: ExitStack, nbytes: int) -> DeviceMemory:
    memory = DeviceMemory(nbytes)
    resources.callback(memory.free)
    return memory


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _letters(dtype: np.dtype[Any]) -> str:
    return "f16" if dtype == np.float16 else "f32"
