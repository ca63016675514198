"""What all CPU backends share: crops cut and heat maps decoded in numpy, only the network is the runtime's."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepose.errors import BackendError, ModelFileError
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.crop import cut_out, mirror
from edgepose.stages.decode import decode_heatmaps, merge_flipped
from edgepose.stages.geometry import Regions
from edgepose.timing import StageTimes

MAX_PEOPLE = 16  # at a time: bounds memory, and a CPU gains nothing from larger batches


class HostBackend(ABC):
    """Crop, network and decode on the CPU. A runtime's class adds `_run`, which gets one batch.

    Args:
        path: the model file, for messages.
        passport: its passport.
        fixed_batch: the only batch size the graph takes; None if any.
    """

    name: str
    arithmetic = "FP32"

    def __init__(self, path: Path, passport: Passport, fixed_batch: int | None) -> None:
        self.path = path
        self.passport = passport
        self.times = StageTimes()
        self._fixed_batch = fixed_batch

    @property
    def spec(self) -> ModelSpec:
        """How the file is fed and read."""
        return self.passport.spec

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) float32 crops -> (N, C, h, w) float32 heat maps. N may be 0.

        Raises:
            ValueError: crops of another shape or dtype, or the backend is closed.
            BackendError: the runtime failed.
        """
        expected = (3, *self.spec.image.size_hw)
        if crops.ndim != 4 or crops.shape[1:] != expected or crops.dtype != np.float32:
            raise ValueError(f"crops must be (N, {_text(expected)}) float32, got {crops.shape} {crops.dtype}")
        crops = np.ascontiguousarray(crops)
        step = self._fixed_batch or 2 * MAX_PEOPLE
        heatmaps = np.empty((len(crops), self.spec.num_maps, *self.spec.heatmaps.size_hw), np.float32)
        with self.times.stage("network"):
            for start in range(0, len(crops), step):
                heatmaps[start : start + step] = self._run_batch(crops[start : start + step])
        return heatmaps

    def keypoints(
        self, image: np.ndarray, regions: Regions, *, flip_test: bool = False, decoder: str | None = None
    ) -> np.ndarray:
        """Image (H, W, 3) uint8 RGB and N regions -> (N, K, 3) float32: x, y in image px, score. N may be 0.

        The flip test runs the crops and their mirror images in one batch.
        """
        spec = self.spec.changed(decoder=decoder or self.spec.heatmaps.decoder)
        keypoints = np.empty((len(regions), self.spec.num_keypoints, 3), np.float32)
        for start in range(0, len(regions), MAX_PEOPLE):
            part = slice(start, start + MAX_PEOPLE)
            some = replace(regions, center_xy=regions.center_xy[part], size_wh=regions.size_wh[part])
            with self.times.stage("crop"):
                crops = cut_out(image, some, spec)
                if flip_test:
                    crops = np.concatenate([crops, mirror(crops)])
            heatmaps = self.heatmaps(crops)
            with self.times.stage("decode"):
                if flip_test:
                    heatmaps = merge_flipped(heatmaps[: len(some)], heatmaps[len(some) :], spec)
                keypoints[part] = decode_heatmaps(heatmaps, spec)
                keypoints[part, :, :2] = some.to_image(keypoints[part, :, :2], spec.heatmaps.size_hw)
        self.times.people += len(regions)
        return keypoints

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""
        self._free()

    @abstractmethod
    def _run(self, crops: np.ndarray) -> np.ndarray:
        """(n, 3, H, W) -> (n, C, h, w), n > 0; of the fixed batch, if there is one. RuntimeError if it fails."""

    @abstractmethod
    def _free(self) -> None:
        """Drop the runtime's objects."""

    def _run_batch(self, crops: np.ndarray) -> np.ndarray:
        count, expected = len(crops), (self.spec.num_maps, *self.spec.heatmaps.size_hw)
        if self._fixed_batch and count < self._fixed_batch:
            crops = np.concatenate([crops, np.zeros((self._fixed_batch - count, *crops.shape[1:]), np.float32)])
        try:
            heatmaps = self._run(crops)
        except RuntimeError as error:
            raise BackendError(f"{self.name} failed on {self.path}: {reason(error)}") from error
        if heatmaps.shape != (len(crops), *expected):
            raise BackendError(
                f"{self.path} gave heatmaps of {_text(heatmaps.shape)} for {len(crops)} crops, its passport says "
                f"{_text(expected)} for each: export or import it again"
            )
        return heatmaps[:count]


def check_shapes(
    path: Path, spec: ModelSpec, crops: Sequence[int | None], heatmaps: Sequence[int | None]
) -> int | None:
    """Compare the graph's shapes (None where it leaves a size open) with the spec.

    Returns:
        The only batch size the graph takes, or None if any.

    Raises:
        ModelFileError: they differ.
    """
    for name, found, wanted in (
        ("crops", crops, (3, *spec.image.size_hw)),
        ("heatmaps", heatmaps, (spec.num_maps, *spec.heatmaps.size_hw)),
    ):
        if len(found) != 4 or any(size not in (None, want) for size, want in zip(found[1:], wanted, strict=True)):
            raise ModelFileError(
                f"{path}: the graph's {name} are {_text(found)}, its passport says N, {_text(wanted)}: "
                f"export or import it again"
            )
    return crops[0]


def reason(error: Exception) -> str:
    """The last line of a runtime's error, without places in its own sources, which the lines before it tell as well.

    Raises:
        MemoryError: that is the reason, and nothing is wrong with the file.
    """
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        raise MemoryError from error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(cc|cpp|h):\d+ ", "", lines[-1])


def _text(shape: Sequence[int | None]) -> str:
    return ", ".join("?" if size is None else str(size) for size in shape)
