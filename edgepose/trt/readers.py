"""What reads a network's outputs on the GPU into key points of the image, in one launch: each kind of head has its own.

A reader is made once for a plan. Its launch is part of the CUDA graph, so it must be the same for each frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from edgepose.cuda.launch import blur_weights, decode_arguments, decode_grid, simcc_grid
from edgepose.cuda.memory import DeviceMemory, Kernel, Stream
from edgepose.model.heads.simcc import SimCC
from edgepose.model.spec import ModelSpec

Addresses = Mapping[str, int]  # of outputs on the GPU, by name
Types = Mapping[str, "np.dtype[Any]"]  # of outputs, by name


class Constants:
    """Arrays that stay on the GPU as long as a plan is open."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._memory = stream, list[DeviceMemory]()

    def put(self, values: np.ndarray) -> DeviceMemory:
        """A copy on the GPU."""
        memory = DeviceMemory(values.nbytes)
        self._memory.append(memory)
        self._stream.upload(memory.address, values)
        self._stream.wait()  # not every driver has read pageable memory when the call returns
        return memory

    def free(self) -> None:
        """Free them all; none may be in use."""
        while self._memory:
            self._memory.pop().free()


class Reader(Protocol):
    """Launches what turns outputs into key points."""

    def launch(
        self, stream: Stream, spec: ModelSpec, count: int, outputs: Addresses, to_image: int, keypoints: int
    ) -> None:
        """Read outputs into key points.

        Args:
            spec: the plan's, or with another decoder.
            count: of people, 1 to 65535.
            outputs: of the crops by name, and in a flip test those of the mirrored crops as "flipped NAME".
            to_image: address of (count, 4) float32 as of `to_image_factors`, from the spec's `grid_hw`.
            keypoints: address for (count, K, 3) float32.
        """
        ...


class HeatmapReader:
    """Heat maps, by decode.cu.

    Args:
        module: the plan's kernels.
        spec: the plan's.
        types: of the outputs, by name.
        constants: bring arrays to the GPU.
    """

    def __init__(self, module: Any, spec: ModelSpec, types: Types, constants: Constants) -> None:
        self._kernel = Kernel(module, f"decode_{letters(types['heatmaps'])}", "PPPPPPiiiiiiif")
        self._constants = constants
        self._flip_order = constants.put(np.array(spec.skeleton.flip_order, np.int32))
        self._weights = {spec.decoder: constants.put(blur_weights(spec))}

    def launch(
        self, stream: Stream, spec: ModelSpec, count: int, outputs: Addresses, to_image: int, keypoints: int
    ) -> None:
        """As of `Reader`."""
        if spec.decoder not in self._weights:
            self._weights[spec.decoder] = self._constants.put(blur_weights(spec))
        block, grid, shared = decode_grid(spec, count)
        stream.launch(
            self._kernel,
            block,
            grid,
            shared,
            outputs["heatmaps"],
            outputs.get("flipped heatmaps", 0),
            self._flip_order.address,
            self._weights[spec.decoder].address,
            to_image,
            keypoints,
            spec.num_keypoints,
            *spec.heatmaps.size_hw,
            *decode_arguments(spec),
        )


class VectorReader:
    """SimCC's vectors along x and y, by simcc.cu.

    Args:
        module, spec, types, constants: as of `HeatmapReader`.
    """

    def __init__(self, module: Any, spec: ModelSpec, types: Types, constants: Constants) -> None:
        self._kernel = Kernel(module, f"simcc_{letters(types['simcc_x'])}", "PPPPPPPiiif")
        self._flip_order = constants.put(np.array(spec.skeleton.flip_order, np.int32))

    def launch(
        self, stream: Stream, spec: ModelSpec, count: int, outputs: Addresses, to_image: int, keypoints: int
    ) -> None:
        """As of `Reader`."""
        head = spec.head
        assert isinstance(head, SimCC)
        block, grid = simcc_grid(spec.num_keypoints, count)
        stream.launch(
            self._kernel,
            block,
            grid,
            0,
            *(outputs.get(name, 0) for name in ("simcc_x", "simcc_y", "flipped simcc_x", "flipped simcc_y")),
            self._flip_order.address,
            to_image,
            keypoints,
            spec.num_keypoints,
            *head.bins(spec.image.size_hw),
            np.float32(1 / head.split_ratio),
        )


def check_outputs(spec: ModelSpec, types: Types, most: int) -> None:
    """ValueError where no kernel can read such outputs of `most` people."""
    if not isinstance(spec.head, SimCC):
        decode_grid(spec, most)
        blur_weights(spec)
    elif types["simcc_x"] != types["simcc_y"]:
        raise ValueError(
            f"simcc_x are {types['simcc_x']} and simcc_y {types['simcc_y']}, and the kernel takes both alike: "
            f"export the network again"
        )


def reader_of(module: Any, spec: ModelSpec, types: Types, constants: Constants) -> Reader:
    """The reader of a plan's head: of heat maps, or of SimCC's vectors without a depth."""
    return (VectorReader if isinstance(spec.head, SimCC) else HeatmapReader)(module, spec, types, constants)


def letters(dtype: np.dtype[Any]) -> str:
    """How kernels for a type end."""
    return "f16" if dtype == np.float16 else "f32"
