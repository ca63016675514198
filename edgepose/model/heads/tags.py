"""Heat maps and tags (associative embedding): key points of all people, and a number that says whose each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

REFINEMENTS = ("mmpose", "original")
COCO17_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)  # from the head and the trunk to the limbs


@dataclass(frozen=True)
class Tags:
    """A heat map for each key point, and `tag_size` maps of tags, which are alike where it is the same person's.

    Newell et al., "Associative Embedding", NIPS 2017; Cheng et al., "HigherHRNet", CVPR 2020.

    Attributes:
        size_hw: height and width of the maps, px.
        order: key points in the order in which they are grouped, each once.
        tag_size: numbers in a tag.
        upsample: maps are enlarged so many times, by linear interpolation, before peaks are looked for.
        window: side of the square in which a peak is the highest, px of the enlarged map, odd.
        peak_threshold: a peak is higher.
        tag_threshold: key points of one person have tags nearer than this to their mean.
        top_k: most peaks of a map.
        max_people: most people.
        refinement: "mmpose" (v1: a quarter px towards the higher neighbour, key points that filled are not moved) or
            "original" (HigherHRNet's repository: a quarter px also where neighbours are equal, and for all).
        center_shift: added to x and y, px of the enlarged map: 0.5 where both repositories take a pixel's number for
            its left edge.
        fill: a key point that a person lacks is taken where its map and tag fit best, however low.
    """

    kind: ClassVar[str] = "tags"

    size_hw: tuple[int, int]
    order: tuple[int, ...] = COCO17_ORDER
    tag_size: int = 1
    upsample: int = 1
    window: int = 5
    peak_threshold: float = 0.1
    tag_threshold: float = 1.0
    top_k: int = 30
    max_people: int = 30
    refinement: str = "mmpose"
    center_shift: float = 0.5
    fill: bool = True

    def __post_init__(self) -> None:
        for key in ("size_hw", "order"):  # lists, where they come from JSON
            object.__setattr__(self, key, tuple(getattr(self, key)))
        if len(self.size_hw) != 2 or not all(_is_count(side, 2, 8192) for side in self.size_hw):
            raise ValueError(f"size_hw must be two whole numbers of pixels from 2 to 8192, got {self.size_hw}")
        if not self.order or sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"order must name each key point once, got {self.order}")
        for key, low, high in (
            ("tag_size", 1, 64),
            ("upsample", 1, 16),
            ("window", 1, 63),
            ("top_k", 1, 256),
            ("max_people", 1, 1024),
        ):
            if not _is_count(getattr(self, key), low, high):
                raise ValueError(f"{key} must be a whole number from {low} to {high}, got {getattr(self, key)!r}")
        if self.window % 2 == 0:
            raise ValueError(f"window must be odd, got {self.window}")
        for key in ("peak_threshold", "tag_threshold"):
            if not 0 < getattr(self, key) < 1000:  # False for NaN
                raise ValueError(f"{key} must be a number over 0 and under 1000, got {getattr(self, key)!r}")
        if not 0 <= self.center_shift <= 1:
            raise ValueError(f"center_shift must be a number from 0 to 1, got {self.center_shift!r}")
        if self.refinement not in REFINEMENTS:
            raise ValueError(f"refinement must be one of {', '.join(REFINEMENTS)}, got {self.refinement!r}")

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Name -> shape of one image's output. ValueError if the order is of another number of key points."""
        keypoints = len(spec.skeleton)
        if len(self.order) != keypoints:
            raise ValueError(
                f"order names {len(self.order)} key points, skeleton {spec.skeleton.name!r} has {keypoints}"
            )
        return {"heatmaps": (keypoints, *self.size_hw), "tags": (keypoints * self.tag_size, *self.size_hw)}


def _is_count(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high  # not True, not 1.0
