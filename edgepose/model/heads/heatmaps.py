"""Heat maps of one person: a map for each key point, or a map and two of offsets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

DECODERS = (  # decode.cu knows them and the guards by their index
    "argmax", "quarter", "dark", "udp", "udp-combined", "udp-v0", "udp-original", "udp-combined-v0",
)  # fmt: skip
COMBINED = ("udp-combined", "udp-combined-v0")  # each key point's map brings two of offsets
PLAIN = tuple(decoder for decoder in DECODERS if decoder not in COMBINED)
QUARTER_GUARDS = ("joint", "independent", "interior")
LARGEST_BLUR = 31  # px; decode.cu keeps its window in shared memory


@dataclass(frozen=True)
class Refine:
    """The second pass of a network that is run again on a closer crop around each key point (two_pass.py).

    Attributes:
        share: side of the closer crop, as a share of the first one's.
        decoder: how the second pass's peaks are read: one of PLAIN.
    """

    share: float
    decoder: str

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:  # False for NaN
            raise ValueError(f"refine's share must be a number over 0 and under 1, got {self.share}")
        if self.decoder not in PLAIN:
            raise ValueError(f"refine's decoder must be one of {', '.join(PLAIN)}, got {self.decoder!r}")


@dataclass(frozen=True)
class Heatmaps:
    """One map a key point, whose peak is the key point: `heatmaps` (N, K, h, w).

    Attributes:
        size_hw: height and width of the maps, px.
        decoder: how decode.decode_heatmaps reads a peak: one of PLAIN.
        blur_kernel: side of the Gaussian of "dark" and all kinds of "udp", heat-map px, odd, at most 31.
        quarter_guard: border rule of "quarter": "joint" (SimpleBaseline, HRNet, mmpose v0), "independent" (mmpose v1)
            or "interior" (pytorch-pose's Stacked Hourglass).
        flip_shift: columns the mirrored heat map is moved right before averaging, in the flip test.
        refine: the second pass, if the network was trained for one.
    """

    kind: ClassVar[str] = "heatmaps"
    maps_per_keypoint: ClassVar[int] = 1
    offset_radius: ClassVar[float] = 0.0  # there are no offsets

    size_hw: tuple[int, int]
    decoder: str = "quarter"
    blur_kernel: int = 11
    quarter_guard: str = "joint"
    flip_shift: int = 1
    refine: Refine | None = None

    def __post_init__(self) -> None:
        if isinstance(self.refine, Mapping):  # from JSON
            object.__setattr__(self, "refine", Refine(**self.refine))
        if not isinstance(self.refine, (Refine, type(None))):
            raise ValueError(f"refine must be an object of share and decoder, got {self.refine!r}")
        _check(self, PLAIN)
        if self.quarter_guard not in QUARTER_GUARDS:
            raise ValueError(f"quarter_guard must be one of {', '.join(QUARTER_GUARDS)}, got {self.quarter_guard!r}")

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the network's outputs, without the batch."""
        return {"heatmaps": (len(spec.skeleton), *self.size_hw)}


@dataclass(frozen=True)
class HeatmapsWithOffsets:
    """Three maps a key point: where it roughly is, and the offsets in x and y from there: `heatmaps` (N, 3 K, h, w).

    Huang et al., "The Devil is in the Details", CVPR 2020.

    Attributes:
        size_hw: height and width of the maps, px.
        decoder: one of COMBINED.
        blur_kernel: side of the Gaussian, heat-map px, odd, at most 31.
        offset_radius: offsets are in units of this share of max(size_hw).
        flip_shift: columns the mirrored heat map is moved right before averaging, in the flip test.
    """

    kind: ClassVar[str] = "heatmaps-with-offsets"
    maps_per_keypoint: ClassVar[int] = 3
    quarter_guard: ClassVar[str] = "joint"  # no quarter step is taken
    refine: ClassVar[Refine | None] = None  # there is no second pass

    size_hw: tuple[int, int]
    decoder: str = "udp-combined"
    blur_kernel: int = 11
    offset_radius: float = 0.0546875
    flip_shift: int = 1

    def __post_init__(self) -> None:
        _check(self, COMBINED)
        if not 0 < self.offset_radius < 100:  # False for NaN
            raise ValueError(f"offset_radius must be a number over 0 and under 100, got {self.offset_radius}")

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the network's outputs, without the batch."""
        return {"heatmaps": (3 * len(spec.skeleton), *self.size_hw)}


def _check(head: Heatmaps | HeatmapsWithOffsets, decoders: tuple[str, ...]) -> None:
    check_hw("size_hw", head.size_hw)
    if head.decoder not in decoders:
        raise ValueError(f"decoder must be one of {', '.join(decoders)}, got {head.decoder!r}")
    if type(head.flip_shift) is not int or head.flip_shift not in (0, 1):  # not True, not 1.0
        raise ValueError(f"flip_shift must be 0 or 1, got {head.flip_shift!r}")
    blur = head.blur_kernel
    if not (type(blur) is int and 1 <= blur <= LARGEST_BLUR and blur % 2 == 1):
        raise ValueError(f"blur_kernel must be an odd number from 1 to {LARGEST_BLUR}, got {blur!r}")


def check_hw(name: str, size_hw: tuple[int, int]) -> None:
    """ValueError unless it is a height and a width of 2 to 8192 px."""
    if (
        not isinstance(size_hw, tuple)
        or len(size_hw) != 2
        or not all(type(side) is int and 2 <= side <= 8192 for side in size_hw)
    ):
        raise ValueError(f"{name} must be two whole numbers of pixels (height, width) from 2 to 8192, got {size_hw}")


def check_finite(name: str, values: Any, count: int) -> None:
    """ValueError unless these are `count` finite numbers."""
    right = isinstance(values, tuple) and len(values) == count
    if not right or not all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) for value in values
    ):
        raise ValueError(f"{name} must be {count} finite numbers, got {values}")
