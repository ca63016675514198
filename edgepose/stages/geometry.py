"""Boxes, regions and pixel grids: the only file that knows an alignment convention.

A *region* is the part of the image that becomes one crop. A *grid* is a raster laid over it: the network's
input (`input_hw`) or its heat map (`heatmap_hw`). Coordinates are pixel centres at integers, in every grid.

Four published conventions say how a grid lies on the region (formulas by their sources):

* "corner": pixel i of n covers region position i * size / n
  (microsoft/human-pose-estimation.pytorch `get_affine_transform`; mmpose `get_warp_matrix`).
* "udp": the first and last pixel lie on the region's edges, i * size / (n - 1)
  (Huang et al., "The Devil is in the Details", CVPR 2020; mmpose `get_udp_warp_matrix`).
* "darkpose": grid centre (n - 1) / 2 on the box's centre pixel, one scale from the width,
  (size - 1) / (n - 1) (ilovepose/DarkPose `get_affine_transform`).
* "half-pixel": pixels have an area, i of n covers from i * size / n to (i + 1) * size / n; its centre lies half a
  pixel further, in the grid as in the image (Newell et al., ECCV 2016, whose crops are resized parts of the image
  and whose predictions get half a heat-map pixel before they are scaled; bearpaw/pytorch-pose `final_preds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepose.model.spec import ModelSpec

FARTHEST = 1e6  # image px; float32 keeps a sixteenth of a pixel there
SMALLEST_SIZE = 1e-3  # image px


@dataclass(frozen=True)
class Regions:
    """Where N crops lie in the image.

    Attributes:
        center_xy: (N, 2) float64, image px.
        size_wh: (N, 2) float64, padded and of the input's aspect ratio, image px.
        alignment: one of passport.ALIGNMENTS.
    """

    center_xy: np.ndarray
    size_wh: np.ndarray
    alignment: str

    def __len__(self) -> int:
        return len(self.center_xy)

    @classmethod
    def around(cls, boxes_xyxy: np.ndarray, spec: ModelSpec) -> Regions:
        """The region of each box: enlarged by the spec's padding, the shorter side stretched to the input's aspect.

        Args:
            boxes_xyxy: (N, 4), left, top, right, bottom, image px; right - left is COCO's box width.
                Boxes may reach outside the image; what lies there is black.

        Raises:
            ValueError: not (N, 4), or a box is not finite or has no area: `usable_boxes` finds those beforehand.
        """
        boxes = _as_boxes(boxes_xyxy)
        usable = usable_boxes(boxes)
        if not usable.all():
            bad = int(np.flatnonzero(~usable)[0])
            raise ValueError(f"box {bad} {boxes[bad].tolist()} is not finite or has no area")
        input_h, input_w = spec.image.size_hw
        size = boxes[:, 2:] - boxes[:, :2]
        center = boxes[:, :2] + size / 2
        if spec.crop.alignment == "darkpose":
            center = boxes[:, :2] + (size - 1) / 2
        elif spec.crop.alignment == "half-pixel":
            center = center - 0.5
        aspect = input_w / input_h
        width = np.maximum(size[:, 0], size[:, 1] * aspect)
        return cls(center, np.stack([width, width / aspect], axis=1) * spec.crop.padding, spec.crop.alignment)

    def rows(self, index: np.ndarray | slice) -> Regions:
        """Some of the regions."""
        return Regions(self.center_xy[index], self.size_wh[index], self.alignment)

    def px_per_step(self, grid_hw: tuple[int, int]) -> np.ndarray:
        """(N, 2) image px per grid px, x and y."""
        grid_wh = np.array(grid_hw[::-1], dtype=np.float64)
        if self.alignment in ("corner", "half-pixel"):
            return self.size_wh / grid_wh
        if self.alignment == "udp":
            return self.size_wh / (grid_wh - 1)
        width = np.maximum(self.size_wh[:, :1] - 1, SMALLEST_SIZE)  # a region of a pixel or less has no steps in it
        return np.repeat(width / (grid_wh[0] - 1), 2, axis=1)

    def _grid_center(self, grid_hw: tuple[int, int]) -> np.ndarray:
        """(2,) the grid coordinate that lies on the region's centre."""
        grid_wh = np.array(grid_hw[::-1], dtype=np.float64)
        return grid_wh / 2 if self.alignment == "corner" else (grid_wh - 1) / 2

    def to_image(self, xy: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
        """Grid px (N, ..., 2) -> image px, float32. The inverse of `to_grid`."""
        step, center = self._broadcast(self.px_per_step(grid_hw), xy), self._broadcast(self.center_xy, xy)
        return ((xy - self._grid_center(grid_hw)) * step + center).astype(np.float32)

    def to_grid(self, xy: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
        """Image px (N, ..., 2) -> grid px, float32. The inverse of `to_image`."""
        step, center = self._broadcast(self.px_per_step(grid_hw), xy), self._broadcast(self.center_xy, xy)
        return ((xy - center) / step + self._grid_center(grid_hw)).astype(np.float32)

    def to_grid_matrices(self, grid_hw: tuple[int, int]) -> np.ndarray:
        """(N, 2, 3) float64 affine matrices, image px -> grid px, as cv2.warpAffine takes them."""
        scale = 1 / self.px_per_step(grid_hw)
        matrices = np.zeros((len(self), 2, 3))
        matrices[:, 0, 0], matrices[:, 1, 1] = scale[:, 0], scale[:, 1]
        matrices[:, :, 2] = self._grid_center(grid_hw) - self.center_xy * scale
        return matrices

    @staticmethod
    def _broadcast(per_region: np.ndarray, xy: np.ndarray) -> np.ndarray:
        """(N, 2) -> (N, 1, ..., 1, 2), to meet xy of (N, ..., 2)."""
        return per_region.reshape(len(per_region), *[1] * (np.ndim(xy) - 2), 2)


def join_regions(regions: Sequence[Regions]) -> tuple[Regions, np.ndarray]:
    """The regions of several frames behind each other, and (N,) int32: which frame each lies in.

    Raises:
        ValueError: there is no frame, or their alignments differ.
    """
    alignments = {each.alignment for each in regions}
    if len(alignments) != 1:
        raise ValueError(f"regions of one alignment wanted, got {len(regions)} frames of {sorted(alignments)}")
    together = Regions(
        np.concatenate([each.center_xy for each in regions]),
        np.concatenate([each.size_wh for each in regions]),
        alignments.pop(),
    )
    return together, np.repeat(np.arange(len(regions), dtype=np.int32), [len(each) for each in regions])


def split_rows(rows: np.ndarray, regions: Sequence[Regions]) -> list[np.ndarray]:
    """What was found for joined regions, frame by frame: the inverse of `join_regions`."""
    return np.split(rows, np.cumsum([len(each) for each in regions])[:-1])


def usable_boxes(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N,) bool: which of (N, 4) boxes are finite and have an area, also when they are rounded to float32."""
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf, 1e300
        boxes = _as_boxes(boxes_xyxy).astype(np.float32).astype(np.float64)
        size = boxes[:, 2:] - boxes[:, :2]
    fine = np.concatenate([np.abs(boxes) < FARTHEST, size >= SMALLEST_SIZE], axis=1)  # False for NaN
    return np.asarray(fine.all(axis=1))


def boxes_in_view(boxes_xyxy: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """(N,) bool: which of (N, 4) boxes are usable and not wholly outside an image of that height and width."""
    boxes = _as_boxes(boxes_xyxy)
    height, width = image_hw
    inside = (boxes[:, 0] < width) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    return usable_boxes(boxes) & inside


def _as_boxes(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N, 4) float64; an empty list is no box."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    if boxes.size == 0:
        return np.empty((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4): left, top, right, bottom; got {boxes.shape}")
    return boxes
