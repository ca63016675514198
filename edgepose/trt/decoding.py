"""Plans whose key points have a depth: volumes and RTMW3D's vectors are read on the GPU. Only key points come back."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edgepose.cuda.launch import simcc_grid, volume_grid
from edgepose.cuda.memory import DeviceMemory, HostMemory, Kernel, load_module
from edgepose.cuda.nvcc import read_kernels
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.volume import Volume
from edgepose.model.passport import Passport
from edgepose.model.shapes import check_arrays
from edgepose.stages.crop import mirror
from edgepose.stages.one_person import volume_keypoints
from edgepose.trt.runtime import TensorRtRuntime


class DecodingRuntime(TensorRtRuntime):
    """A runtime that also decodes, with the kernels beside the plan. Crops are the CPU's.

    Raises:
        EngineMismatchError: as of TensorRtRuntime, or the kernels are missing or another plan's.
        ModelFileError, BackendError: as of TensorRtRuntime.
    """

    def __init__(self, path: Path, passport: Passport) -> None:
        self._kernels = read_kernels(path, passport)
        super().__init__(path, passport)

    def _prepare(self, resources: ExitStack) -> None:
        spec, most = self.passport.spec, self._network.max_batch
        module = load_module(self._kernels)
        types = {tensor.dtype for tensor in self._network.outputs.values()}
        self._same_types = len(types) == 1  # the kernels read all vectors of one type
        letters = "f16" if np.dtype(np.float16) in types else "f32"
        self._launches: dict[str, Kernel] = {}
        resources.callback(self._launches.clear)  # pycuda frees the module in the context that is current then
        if isinstance(spec.head, SimCC):
            self._launches["simcc"] = Kernel(module, f"simcc_{letters}", "PPPPPPPiiif")
            if spec.head.depth_bins:
                self._launches["depth"] = Kernel(module, f"depth_{letters}", "PPPPPiif")
        else:
            self._launches["volume"] = Kernel(module, f"volume_{letters}", "PPiiif")
        nbytes = most * spec.num_keypoints * 16  # three floats and a depth, or four floats
        self._found, self._found_pinned = DeviceMemory(nbytes), HostMemory(nbytes)
        order = np.array(spec.skeleton.flip_order, np.int32)
        self._flip_order = DeviceMemory(order.nbytes)
        for memory in (self._found, self._found_pinned, self._flip_order):
            resources.callback(memory.free)
        self._stream.upload(self._flip_order.address, order)
        self._stream.wait()  # not every driver has read pageable memory when the call returns

    def decodes(self, *, flip_test: bool) -> bool:
        """Whether `keypoints` can: the flip test wants a crop and its mirror image in one run."""
        return self._same_types and self._network.max_batch >= 1 + flip_test

    def keypoints(self, crops: np.ndarray, *, flip_test: bool = False) -> np.ndarray:
        """What `decode_outputs`, or with the flip test `decode_flipped_outputs`, reads from the outputs of these crops.

        Args:
            crops: (N, 3, H, W) float32. N may be 0.

        Returns:
            (N, K, 3) or (N, K, 4) float32, in px of the grid that those functions name.

        Raises:
            ValueError: crops of another shape or dtype; the runtime is closed; or it does not decode so.
            BackendError: the GPU or TensorRT failed.
        """
        self._check_open()
        if not self.decodes(flip_test=flip_test):
            raise ValueError(f"{self.path} cannot be decoded on the GPU so: see decodes()")
        spec = self.passport.spec
        count, step = check_arrays({"crops": crops}, spec), self._network.max_batch // (1 + flip_test)
        found = np.empty((count, spec.num_keypoints, 3 + spec.gives_depth), np.float32)
        read = self._read_simcc if isinstance(spec.head, SimCC) else self._read_volumes
        with self._guarded():
            for start in range(0, count, step):
                part = crops[start : start + step]
                self._put({"crops": np.concatenate([part, mirror(part)]) if flip_test else part})
                found[start : start + step] = read(len(part), flip_test)
        return found

    def _read_simcc(self, count: int, flip_test: bool) -> np.ndarray:
        """Key points of the first `count` rows of vectors, merged with as many behind them in a flip test."""
        spec, head = self.passport.spec, self.passport.spec.head
        assert isinstance(head, SimCC)
        straight = {name: self._on_gpu[name].address for name in self._network.outputs}
        mirrored = {
            name: straight[name] + count * tensor.row_bytes if flip_test else 0
            for name, tensor in self._network.outputs.items()
        }
        points, at = spec.num_keypoints, self._found.address
        block, grid = simcc_grid(points, count)
        self._stream.launch(
            self._launches["simcc"],
            block,
            grid,
            0,
            *(vectors[name] for vectors in (straight, mirrored) for name in ("simcc_x", "simcc_y")),
            self._flip_order.address,
            0,
            at,
            points,
            *head.bins(spec.image.size_hw),
            np.float32(1 / head.split_ratio),
        )
        depths = at + count * points * 12
        if head.depth_bins:
            self._stream.launch(
                self._launches["depth"],
                block,
                grid,
                0,
                straight["simcc_z"],
                mirrored["simcc_z"],
                self._flip_order.address,
                at,
                depths,
                points,
                head.depth_bins,
                np.float32(head.depth_range),
            )
        values = self._download(count * points * (3 + spec.gives_depth))
        keypoints = values[: count * points * 3].reshape(count, points, 3)
        if not head.depth_bins:
            return keypoints
        return np.concatenate([keypoints, values[count * points * 3 :].reshape(count, points, 1)], axis=2)

    def _read_volumes(self, count: int, flip_test: bool) -> np.ndarray:
        """Key points of the first `count` volumes, and in a flip test the mean with as many behind them."""
        spec, head = self.passport.spec, self.passport.spec.head
        assert isinstance(head, Volume)
        rows = count * (1 + flip_test)
        block, grid = volume_grid(rows * spec.num_keypoints)
        depth_m = np.float32(head.depth_m)
        addresses = (self._on_gpu["volume"].address, self._found.address)
        self._stream.launch(self._launches["volume"], block, grid, 0, *addresses, *head.volume_dhw, depth_m)
        found = self._download(rows * spec.num_keypoints * 4).reshape(rows, spec.num_keypoints, 4)
        return volume_keypoints(found[:count], found[count:] if flip_test else None, spec)

    def _download(self, floats: int) -> np.ndarray:
        """(floats,) of what was found; waits for it. The next call writes over it."""
        values = self._found_pinned.array.view(np.float32)[:floats]
        self._stream.download(values, self._found.address)
        self._stream.wait()
        return values
