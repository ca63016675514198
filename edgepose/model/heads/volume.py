"""A volume of one likelihood for each key point: where it is in the crop, and how deep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Volume:
    """How a network of integral regression (Sun et al., ECCV 2018) is read.

    Its output is (n, K * D, h, w): D layers of depth for each key point, the nearest first.

    Attributes:
        volume_dhw: D, h and w, in cells.
        depth_m: how deep the volume is, metres; the root key point lies in its middle.
    """

    kind: ClassVar[str] = "volume"

    volume_dhw: tuple[int, int, int]
    depth_m: float = 2.0

    def __post_init__(self) -> None:
        sizes = self.volume_dhw
        if len(sizes) != 3 or not all(type(side) is int and 2 <= side <= 1024 for side in sizes):
            raise ValueError(f"volume_dhw must be three whole numbers of cells (depth, height, width), got {sizes}")
        if not 0 < self.depth_m < 100:  # False for NaN
            raise ValueError(f"depth_m must be a number of metres over 0 and under 100, got {self.depth_m}")

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the network's outputs, without the batch."""
        depth, height, width = self.volume_dhw
        return {"volume": (len(spec.skeleton) * depth, height, width)}
