"""Heat maps and part affinity fields: key points of all people at once, and vectors that say which belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

# OpenPose's 18 key points (nose neck, right arm, left arm, right leg, left leg, eyes, ears): limbs in the order in
# which they are grouped, and where each limb's field lies, as lightweight OpenPose and tf-pose-estimation have them.
OPENPOSE18_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17),
)  # fmt: skip
OPENPOSE18_FIELDS = (6, 10, 7, 8, 11, 12, 0, 1, 2, 3, 4, 5, 14, 15, 17, 16, 18, 9, 13)


@dataclass(frozen=True)
class Fields:
    """A heat map for each key point and one for the background, and a field of two maps (x, y) for each limb.

    Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017; the defaults are those
    of lightweight OpenPose (Osokin, arXiv 1811.12004).

    Attributes:
        size_hw: height and width of the maps, px.
        limbs: pairs of key points, in the order in which people are put together; each key point but the first of
            all should come second in one pair before it comes first in another.
        fields: of each limb, which field is its own: maps 2 f (x) and 2 f + 1 (y) of `pafs`.
        fill_limbs: how many of the last limbs only add a key point that a person lacks.
        upsample: maps are enlarged so many times, by cubic interpolation, before peaks are looked for.
        peak_threshold: a peak is at least so high.
        peak_distance: of two peaks nearer than this the left one stays, px of the enlarged map.
        top_k: most peaks of a map.
        samples: points at which the field is read along a limb.
        field_threshold: a sample counts if the field along the limb is higher.
        samples_share: a limb is one if more than this share of the samples counts.
        min_keypoints: a person has at least so many (those that only filled do not count).
        min_score: a person's score for each of them is at least this.
        joined: the network has one output, `heatmaps`, with the fields behind the heat maps.
    """

    kind: ClassVar[str] = "fields"

    size_hw: tuple[int, int]
    limbs: tuple[tuple[int, int], ...] = OPENPOSE18_LIMBS
    fields: tuple[int, ...] = OPENPOSE18_FIELDS
    fill_limbs: int = 2
    upsample: int = 4
    peak_threshold: float = 0.1
    peak_distance: float = 6.0
    top_k: int = 256
    samples: int = 10
    field_threshold: float = 0.05
    samples_share: float = 0.8
    min_keypoints: int = 3
    min_score: float = 0.2
    joined: bool = False

    def __post_init__(self) -> None:
        for key in ("size_hw", "limbs", "fields"):  # lists, where they come from JSON
            object.__setattr__(self, key, tuple(tuple(v) if isinstance(v, list) else v for v in getattr(self, key)))
        if len(self.size_hw) != 2 or not all(_is_count(side, 2, 8192) for side in self.size_hw):
            raise ValueError(f"size_hw must be two whole numbers of pixels from 2 to 8192, got {self.size_hw}")
        if not self.limbs or not all(
            len(limb) == 2 and all(_is_count(point, 0, 1023) for point in limb) and limb[0] != limb[1]
            for limb in self.limbs
        ):
            raise ValueError(f"limbs must be pairs of different key points, got {self.limbs}")
        if sorted(self.fields) != list(range(len(self.limbs))):
            raise ValueError(f"fields must name each of {len(self.limbs)} fields once, got {self.fields}")
        for key, low, high in (
            ("fill_limbs", 0, len(self.limbs)),
            ("upsample", 1, 16),
            ("top_k", 1, 1024),
            ("samples", 2, 100),
            ("min_keypoints", 1, 1024),
        ):
            if not _is_count(getattr(self, key), low, high):
                raise ValueError(f"{key} must be a whole number from {low} to {high}, got {getattr(self, key)!r}")
        for key in ("peak_threshold", "peak_distance", "field_threshold", "samples_share", "min_score"):
            if not 0 <= getattr(self, key) < 1000:  # False for NaN
                raise ValueError(f"{key} must be a number from 0, under 1000, got {getattr(self, key)!r}")
        if self.samples_share >= 1:
            raise ValueError(f"samples_share must be under 1, which is all samples, got {self.samples_share}")
        if self.peak_threshold == 0:
            raise ValueError("peak_threshold must be over 0: a map's empty parts are no peaks")

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Name -> shape of one image's output. ValueError if the limbs name key points that the skeleton lacks."""
        keypoints = len(spec.skeleton)
        highest = max(max(limb) for limb in self.limbs)
        if highest >= keypoints:
            skeleton = f"skeleton {spec.skeleton.name!r} has {keypoints}"
            raise ValueError(f"limbs name key point {highest} (from 0 on), {skeleton}")
        maps, fields = keypoints + 1, 2 * len(self.limbs)
        if self.joined:
            return {"heatmaps": (maps + fields, *self.size_hw)}
        return {"heatmaps": (maps, *self.size_hw), "pafs": (fields, *self.size_hw)}


def _is_count(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high  # not True, not 1.0


def samples_that_may_fail(head: Fields) -> int:
    """How many of a limb's samples may not count: the most with which more than `samples_share` do."""
    counts = (head.samples - failed for failed in range(head.samples + 1))
    return sum(count / head.samples > head.samples_share for count in counts) - 1
