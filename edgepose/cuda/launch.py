"""What the kernels are launched with: grids and arguments that a ModelSpec stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgepose.model.engine_info import LARGEST_COUNT
from edgepose.model.heads.heatmaps import COMBINED, DECODERS, QUARTER_GUARDS, HeatmapsWithOffsets
from edgepose.model.spec import ModelSpec
from edgepose.stages.frames import FORMATS, Frame, yuv_factors
from edgepose.stages.geometry import Regions

LARGEST_BLUR = 31  # px; decode.cu keeps its window in shared memory
LARGEST_WHOLE = 10240  # px of a heat map that WHOLE blur: 40 KiB, which with decode.cu's own fit into 48 KiB
WHOLE = (*COMBINED, "udp-original")  # decoders that blur the whole map, in shared memory

FRAME = np.dtype(  # crop.cu's Frame
    [(name, np.uint64) for name in ("pixels", "chroma")]
    + [(name, np.int32) for name in ("pitch", "chroma_pitch", "height", "width", "format")]
    + [(name, np.float32) for name in ("luma_floor", "luma_scale", "red_v", "green_u", "green_v", "blue_u")]
    + [("unused", np.int32)]
)
FOUND = np.dtype([("place", np.int32), ("value", np.float32)])  # maps.cu's Found
FEW_PEOPLE, FEW_ROWS, MANY_ROWS = 16, 2, 4  # measured on an H200: docs/decisions/kernels.md
AT_ONCE = 1 << 14  # questions to maps in one launch
SOME = 1 << 10  # of what was found in maps, which come down with their number

Shape = tuple[int, int, int]  # x, y, z, as CUDA counts blocks and threads


def normalise_factors(spec: ModelSpec) -> np.ndarray:
    """(6,) float32: factor, then summand, per channel of the crops: (pixel - mean) / std in one multiply-add."""
    std, mean = np.array(spec.image.std), np.array(spec.image.mean)
    return np.concatenate([1 / std, -mean / std]).astype(np.float32)


def blur_weights(spec: ModelSpec) -> np.ndarray:
    """The Gaussian of the spec's decoder, float32; (1,) where it has none; where it blurs offsets, theirs follows.

    Raises:
        ValueError: a blur too wide for the kernel's shared memory.
    """
    if spec.heatmaps.decoder in ("argmax", "quarter"):
        return np.ones(1, np.float32)
    if spec.heatmaps.blur_kernel > LARGEST_BLUR:
        raise ValueError(f"blur_kernel must be at most {LARGEST_BLUR} on a GPU, got {spec.heatmaps.blur_kernel}")
    sides = (
        [2 * spec.heatmaps.blur_kernel + 1]
        if isinstance(spec.head, HeatmapsWithOffsets)
        else [spec.heatmaps.blur_kernel]
    )
    if spec.heatmaps.decoder == "udp-combined-v0":
        sides.append(spec.heatmaps.blur_kernel)
    return np.concatenate([cv2.getGaussianKernel(side, 0)[:, 0] for side in sides]).astype(np.float32)


def decode_arguments(spec: ModelSpec) -> tuple[int, int, int, int, np.float32]:
    """What decode.cu takes after the sizes: decoder, border guard, flip shift, blur kernel, offset px."""
    offset_px = np.float32(spec.heatmaps.offset_radius * max(spec.heatmaps.size_hw))
    guard = QUARTER_GUARDS.index(spec.heatmaps.quarter_guard)
    return DECODERS.index(spec.heatmaps.decoder), guard, spec.heatmaps.flip_shift, spec.heatmaps.blur_kernel, offset_px


def to_image_factors(regions: Regions, grid_hw: tuple[int, int]) -> np.ndarray:
    """(N, 4) float32: image x = x * [0] + [2], image y = y * [1] + [3], for x and y in px of the grid."""
    matrices = regions.to_grid_matrices(grid_hw)
    scale = 1 / matrices[:, [0, 1], [0, 1]]
    return np.concatenate([scale, -matrices[:, :, 2] * scale], axis=1).astype(np.float32)


@dataclass(frozen=True)
class PlacedFrame:
    """A frame where the GPU reads it.

    Attributes:
        address: of its first row; of NV12 that of the luma.
        pitch: bytes from a row to the next.
        hw: height and width, px.
        format, yuv: as of a Frame.
        chroma, chroma_pitch: of NV12's rows of u and v.
    """

    address: int
    pitch: int
    hw: tuple[int, int]
    format: str
    yuv: str
    chroma: int = 0
    chroma_pitch: int = 0


def placed(frame: Frame, address: int) -> PlacedFrame:
    """A frame whose pixels were copied to an address, row behind row."""
    pitch = frame.pixels.shape[1] * (1 if frame.format == "nv12" else 3)
    return PlacedFrame(address, pitch, frame.hw, frame.format, frame.yuv, address + frame.hw[0] * pitch, pitch)


def frame_table(frames: Sequence[PlacedFrame]) -> np.ndarray:
    """(F,) FRAME: what crop.cu is told of each frame."""
    rows = []
    for each in frames:
        places = (each.address, each.chroma, each.pitch, each.chroma_pitch)
        rows.append((*places, *each.hw, FORMATS.index(each.format), *yuv_factors(each.yuv), 0))
    return np.array(rows, FRAME)


class Tables:
    """What changes from run to run, as one piece of memory: where people and frames lie.

    Args:
        count: of people; frames: how many.

    Attributes:
        grid, frame_of, frames: bytes from the begin on of the factors of the px that key points are read in, of
            (count,) int32 which frame a person is in, and of the frames' FRAMEs. The crops' factors lie at the begin.
        nbytes: of all.
    """

    def __init__(self, count: int, frames: int) -> None:
        self.grid = 16 * count
        self.frame_of = 2 * self.grid
        self.frames = self.frame_of + -(-4 * count // 16) * 16
        self.nbytes = self.frames + FRAME.itemsize * frames

    def fill(
        self, memory: np.ndarray, regions: Regions, spec: ModelSpec, frame_of: np.ndarray, frames: Sequence[PlacedFrame]
    ) -> np.ndarray:
        """Write all into the begin of (n,) uint8; the part that was written."""
        parts = (
            (0, to_image_factors(regions, spec.image.size_hw)),
            (self.grid, to_image_factors(regions, spec.grid_hw)),
            (self.frame_of, np.asarray(frame_of, np.int32)),
            (self.frames, frame_table(frames)),
        )
        for start, values in parts:
            memory[start : start + values.nbytes] = np.frombuffer(values.tobytes(), np.uint8)
        return memory[: self.nbytes]


def crop_grid(spec: ModelSpec, count: int) -> tuple[Shape, Shape]:
    """Block and grid of a launch of crop.cu for `count` people, 1 to 65535: none is no launch.

    A thread makes FEW_ROWS rows of a crop, and more where there are people enough to keep a GPU busy.
    """
    _check_count(count)
    height, width = spec.image.size_hw
    rows = FEW_ROWS if count <= FEW_PEOPLE else MANY_ROWS
    return (32, 8, 1), (-(-width // 64), -(-height // (8 * rows)), count)


def decode_grid(spec: ModelSpec, count: int) -> tuple[Shape, Shape, int]:
    """Block, grid and bytes of dynamic shared memory of a launch of decode.cu for `count` people, 1 to 65535.

    Raises:
        ValueError: heat maps of a WHOLE decoder too large for a block's shared memory.
    """
    _check_count(count)
    height, width = spec.heatmaps.size_hw
    whole = spec.heatmaps.decoder in WHOLE
    if whole and height * width > LARGEST_WHOLE:
        raise ValueError(
            f"{spec.heatmaps.decoder}: heat maps of at most {LARGEST_WHOLE} px on a GPU, got {height} x {width}"
        )
    return (128, 1, 1), (count * spec.num_keypoints, 1, 1), 4 * height * width if whole else 0


def peaks_grid(maps: int) -> tuple[Shape, Shape]:
    """Block and grid of a launch of peaks.cu for `maps` heat maps, at least one."""
    if maps < 1:
        raise ValueError(f"one launch takes at least one map, got {maps}")
    return (256, 1, 1), (maps, 1, 1)


def enlarge_grid(maps: tuple[int, int, int]) -> tuple[Shape, Shape]:
    """Block and grid of a launch of maps.cu's enlarging: number, height and width of the enlarged maps."""
    count, height, width = maps
    _check_count(count)
    return (32, 8, 1), (-(-width // 32), -(-height // 8), count)


def flat_grid(count: int, threads: int) -> tuple[Shape, Shape]:
    """Block and grid of a launch with a thread for each of `count` things, at least one."""
    if count < 1:
        raise ValueError(f"one launch takes at least one thread, got {count}")
    return (threads, 1, 1), (-(-count // threads), 1, 1)


def questions_grid(count: int) -> tuple[Shape, Shape]:
    """Block and grid of a launch of maps.cu's search for missing key points, a block for each of `count`."""
    return (128, 1, 1), flat_grid(count, 1)[1]


def simcc_grid(num_keypoints: int, count: int) -> tuple[Shape, Shape]:
    """Block and grid of a launch of simcc.cu for `count` people, 1 to 65535."""
    _check_count(count)
    return (128, 1, 1), (count * num_keypoints, 1, 1)


def volume_grid(volumes: int) -> tuple[Shape, Shape]:
    """Block and grid of a launch of volume.cu for `volumes` volumes (people times key points), at least one."""
    if volumes < 1:
        raise ValueError(f"one launch takes at least one volume, got {volumes}")
    return (256, 1, 1), (volumes, 1, 1)


def _check_count(count: int) -> None:
    if not 1 <= count <= LARGEST_COUNT:
        raise ValueError(f"one launch takes 1 to {LARGEST_COUNT} people, got {count}")
