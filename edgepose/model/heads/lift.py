"""A lifter's head: the key points of some frames in, one frame's positions in space out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgepose.model.skeletons import Skeleton

UNITS = ("screen", "person", "statistics")
STATISTICS = ("input_mean", "input_std", "output_mean", "output_std")
MOST_FRAMES = 2187


@dataclass(frozen=True)
class Lift:
    """How a lifter's key points are scaled before they go in, and which frame and which points come out.

    The ONNX input `points` is (n, frames, K, 2), the output `xyz` (n, K', 3) metres, x to the right, y down and z away
    from the camera, relative to the root. K' is of the spec's skeleton, one less where the network leaves out the root.

    Attributes:
        frames: length of the window.
        causal: the result belongs to the window's last frame; else to its middle one.
        points: name of the skeleton that goes in; the spec's own comes out.
        units: "screen" (VideoPose3D): x / w * 2 - 1, y / w * 2 - h / w, of the image's width w and height h;
            "person": relative to the root in each frame, in units of the window's root mean square distance from it;
            "statistics" (Martinez): (image px - mean) / deviation, and the output times deviation plus mean, in metres.
        root: the key point that lies at (0, 0, 0).
        root_given: whether the network gives the root too.
        statistics: for "statistics": `input_mean` and `input_std` of K * 2 numbers, `output_mean` and `output_std` of
            K' * 3. A checkpoint does not hold them; without them the network's output has no meaning.
    """

    kind: ClassVar[str] = "lift"

    frames: int
    causal: bool = False
    points: str = "h36m17"
    units: str = "screen"
    root: str = "pelvis"
    root_given: bool = True
    statistics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.frames) is not int or not 1 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"frames must be a whole number from 1 to {MOST_FRAMES}, got {self.frames!r}")
        if self.units not in UNITS:
            raise ValueError(f"units must be one of {', '.join(UNITS)}, got {self.units!r}")
        for key in ("causal", "root_given"):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(f"{key} must be true or false, got {getattr(self, key)!r}")
        for key in ("points", "root"):
            if not (isinstance(getattr(self, key), str) and getattr(self, key)):
                raise ValueError(f"{key} must be a name, got {getattr(self, key)!r}")
        self._check_statistics()

    def _check_statistics(self) -> None:
        if not self.statistics:
            return
        if self.units != "statistics" or set(self.statistics) != set(STATISTICS):
            raise ValueError(f"statistics must be {', '.join(STATISTICS)}, with units 'statistics', or none")
        for key, values in self.statistics.items():
            if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
                raise ValueError(f"{key} must be finite numbers")
            if key.endswith("_std") and not all(value > 0 for value in values):
                raise ValueError(f"{key} must be positive")
        for part in ("input", "output"):
            means, deviations = len(self.statistics[f"{part}_mean"]), len(self.statistics[f"{part}_std"])
            if means != deviations:
                raise ValueError(f"{part}_mean has {means} numbers, {part}_std {deviations}")

    @property
    def points_skeleton(self) -> Skeleton:
        """The skeleton that goes in; ModelFileError if there is none of its name."""
        return Skeleton.from_json(self.points)

    def inputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the network's inputs, without the batch."""
        return {"points": (self.frames, len(self.points_skeleton), 2)}

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the network's outputs, without the batch.

        Raises:
            ValueError: the root is not among the spec's key points, or statistics are of other numbers of points.
        """
        if self.root not in spec.skeleton.keypoints:
            raise ValueError(f"root {self.root} is not among the key points of {spec.skeleton.name}")
        points = self.points_skeleton
        if self.units == "person" and self.root not in points.keypoints:
            raise ValueError(f"root {self.root} is not among the key points of {points.name}, and units are 'person'")
        found = len(spec.skeleton) - (not self.root_given)
        for part, count in (("input", 2 * len(points)), ("output", 3 * found)):
            if self.statistics and len(self.statistics[f"{part}_mean"]) != count:
                given = len(self.statistics[f"{part}_mean"])
                raise ValueError(f"{part}_mean and {part}_std must be {count} numbers each, got {given}")
        return {"xyz": (found, 3)}
