"""The stages of the GPU's data path, as launches on one stream: crop, network, decode.

Crops and outputs are one set for all frames, since the stream keeps frames apart. Network and decoding, which are the
same launches with the same addresses for each frame of so many people, are one CUDA graph.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.cuda.graphs import Graph, GraphError
from edgepose.cuda.launch import Tables, crop_grid, normalise_factors
from edgepose.cuda.memory import DeviceMemory, Kernel, Stream, load_module
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.trt.network import Network, Tensor
from edgepose.trt.readers import Constants, check_outputs, letters, reader_of

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

    Raises:
        ValueError: outputs that no kernel can read.
    """

    def __init__(self, path: Path, passport: Passport, trt: Any, kernels: bytes, *, use_graphs: bool) -> None:
        self.use_graphs = use_graphs
        self._path, self._spec = path, passport.spec
        self._graphs: dict[tuple[int, bool, str], Graph] = {}
        with ExitStack() as resources:
            self.stream = Stream()  # first: on a lost device it fails with the device's error, a plan with its own
            self.network = Network(path, passport, trt)
            resources.callback(self.network.close)
            self._load(resources, kernels)
            resources.callback(self._close_graphs)
            self._resources = resources.pop_all()

    def _load(self, resources: ExitStack, kernels: bytes) -> None:
        spec, network, most = self._spec, self.network, self.network.max_batch
        types = {name: tensor.dtype for name, tensor in network.outputs.items()}
        check_outputs(spec, types, most)  # before there is a module, which an error would hold
        module = load_module(kernels)
        constants = Constants(self.stream)
        resources.callback(constants.free)
        self._reader = reader_of(module, spec, types, constants)
        self._crop = Kernel(module, f"crop_{letters(network.inputs['crops'].dtype)}", "PPPPiPPii")
        # twice: a batch, and one of mirrored crops where both do not fit into one
        self._memory = {
            name: _allocate(resources, 2 * _aligned(most * tensor.row_bytes)) for name, tensor in self._tensors.items()
        }
        self.tables = _allocate(resources, Tables(most, most).nbytes)
        self.keypoints = _allocate(resources, most * spec.num_keypoints * 12)
        self._normalise = constants.put(normalise_factors(spec))

    @property
    def _tensors(self) -> Mapping[str, Tensor]:
        """The crops and what comes of them."""
        return {**self.network.inputs, **self.network.outputs}

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
            self._memory["crops"].address,
            self._mirrored(count)["crops"] if flip_test else 0,
            *self._spec.image.size_hw,
        )

    def run_network(self, count: int, flip_test: bool) -> None:
        """What comes of the crops: one run where crops and mirror images fit into the engine's batch, else two."""
        one_run = flip_test and 2 * count <= self.network.max_batch
        self._run(2 * count if one_run else count, self._straight())
        if flip_test and not one_run:
            self._run(count, self._mirrored(count))

    def _run(self, count: int, addresses: Mapping[str, int]) -> None:
        self.network.run(count, addresses, self.stream.handle)

    def decode(self, count: int, flip_test: bool, spec: ModelSpec) -> None:
        """Key points of what came of them, as `spec` says."""
        mirrored = self._mirrored(count) if flip_test else {}
        outputs = {**self._straight(), **{f"flipped {name}": address for name, address in mirrored.items()}}
        to_image = self.tables.address + Tables(count, 0).grid
        self._reader.launch(self.stream, spec, count, outputs, to_image, self.keypoints.address)

    def graph(self, count: int, flip_test: bool, spec: ModelSpec) -> Graph | None:
        """`run_network` and `decode` as one graph; None where it is not recorded, or none are wanted."""
        return self._graphs.get((count, flip_test, spec.decoder)) if self.use_graphs else None

    def record(self, count: int, flip_test: bool, spec: ModelSpec) -> None:
        """Record that graph. Both have been put on the stream before: TensorRT allocates in a first run."""

        def work() -> None:
            self.run_network(count, flip_test)
            self.decode(count, flip_test, spec)

        self.stream.wait()  # the first run must have ended, not only begun
        try:
            self._graphs[count, flip_test, spec.decoder] = Graph(self.stream.handle, work)
        except GraphError as error:
            self.use_graphs = False
            logger.warning("%s runs without CUDA graphs, launch by launch: %s", self._path, error)

    def outputs(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """(N, 3, H, W) float32 crops -> the network's outputs by name, float32, for any N; waits for them."""
        network, given = self.network, self.network.inputs["crops"].dtype
        found = {name: np.empty((len(crops), *tensor.shape), tensor.dtype) for name, tensor in network.outputs.items()}
        for start in range(0, len(crops), network.max_batch):
            part = np.ascontiguousarray(crops[start : start + network.max_batch], given)
            self.stream.upload(self._memory["crops"].address, part)
            self._run(len(part), self._straight())
            for name, values in found.items():
                self.stream.download(values[start : start + len(part)], self._memory[name].address)
            self.stream.wait()
        return {name: values.astype(np.float32, copy=False) for name, values in found.items()}

    def read_crops(self, count: int) -> np.ndarray:
        """The crops on the GPU, (count, 3, H, W) float32; waits for them."""
        tensor = self.network.inputs["crops"]
        crops = np.empty((count, *tensor.shape), tensor.dtype)
        self.stream.download(crops, self._memory["crops"].address)
        self.stream.wait()
        return crops.astype(np.float32, copy=False)

    def decode_given(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The network's outputs of N people by name, float32 -> (N, K, 3) float32 as `decode` reads them.

        N is 1 to max_batch.
        """
        for name, values in outputs.items():
            given = np.ascontiguousarray(values, self.network.outputs[name].dtype)
            self.stream.upload(self._memory[name].address, given)
            self.stream.wait()  # not every driver has read pageable memory when the call returns
        count = len(next(iter(outputs.values())))
        found = np.empty((count, self._spec.num_keypoints, 3), np.float32)
        self.decode(count, False, self._spec)
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

    def _straight(self) -> dict[str, int]:
        """Where the crops and what comes of them lie."""
        return {name: memory.address for name, memory in self._memory.items()}

    def _mirrored(self, count: int) -> dict[str, int]:
        """The same of mirrored crops: behind the others if a batch holds both."""
        most = self.network.max_batch
        behind = 2 * count <= most
        return {
            name: address + (count * row if behind else _aligned(most * row))
            for name, address in self._straight().items()
            for row in [self._tensors[name].row_bytes]
        }


def _allocate(resources: ExitStack, nbytes: int) -> DeviceMemory:
    memory = DeviceMemory(nbytes)
    resources.callback(memory.free)
    return memory


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
