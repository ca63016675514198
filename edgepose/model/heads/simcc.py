"""The head of RTMPose and SimCC: for each key point one vector along x and one along y."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class SimCC:
    """Vectors of bins; the highest bin of each is the key point's place (Li et al., "SimCC", ECCV 2022).

    Attributes:
        split_ratio: bins for each px of the network's input.
        sigma: of the Gaussians that training drew, in bins along x and along y; () where it is not known. Nothing
            reads it but people.
        depth_bins: length of a third vector, of the depth (RTMW3D); 0 where there are two.
        depth_range: the depth of the last bin, in metres from the root; the first bin's is its negative.
    """

    kind: ClassVar[str] = "simcc"

    split_ratio: float = 2.0
    sigma: tuple[float, ...] = ()
    depth_bins: int = 0
    depth_range: float = 2.1744869  # metres: mmpose's SimCC3DLabel, from its training sets

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", tuple(self.sigma))  # a list, where it comes from JSON
        if not (math.isfinite(self.split_ratio) and self.split_ratio > 0):
            raise ValueError(f"a SimCC head has split_ratio {self.split_ratio}: wanted bins a px, such as 2")
        if self.sigma and not (len(self.sigma) == 2 and all(0 < value < math.inf for value in self.sigma)):
            raise ValueError(f"a SimCC head has sigma {self.sigma}: wanted two positive numbers, or none")
        if self.depth_bins < 0 or not 0 < self.depth_range < math.inf:
            raise ValueError(
                f"a SimCC head has depth_bins {self.depth_bins} and depth_range {self.depth_range}: "
                f"wanted bins of 0 or more, and metres above 0"
            )

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the network's outputs, without the batch; ValueError where the bins are not whole."""
        keypoints, (along_x, along_y) = len(spec.skeleton), self.bins(spec.image.size_hw)
        depth = {"simcc_z": (keypoints, self.depth_bins)} if self.depth_bins else {}
        return {"simcc_x": (keypoints, along_x), "simcc_y": (keypoints, along_y), **depth}

    def bins(self, input_hw: tuple[int, int]) -> tuple[int, int]:
        """Lengths of the vectors along x and along y for an input (H, W).

        Raises:
            ValueError: the split ratio makes no whole number of them.
        """
        along_x, along_y = (size * self.split_ratio for size in (input_hw[1], input_hw[0]))
        if not (along_x.is_integer() and along_y.is_integer()):
            raise ValueError(
                f"split_ratio {self.split_ratio} makes {along_x:g} and {along_y:g} bins of an input of "
                f"{input_hw[0]}x{input_hw[1]}: wanted whole numbers"
            )
        return int(along_x), int(along_y)
