"""What a network's input and output mean: how it is fed and how it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgepose.errors import ModelFileError
from edgepose.model.skeletons import COCO17, Skeleton

ALIGNMENTS = ("corner", "udp", "darkpose", "half-pixel")
DECODERS = (  # decode.cu knows them and the guards by their index
    "argmax", "quarter", "dark", "udp", "udp-combined", "udp-v0", "udp-original", "udp-combined-v0",
)  # fmt: skip
COMBINED = ("udp-combined", "udp-combined-v0")  # each key point's map brings two of offsets
QUARTER_GUARDS = ("joint", "independent", "interior")
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # 255 * (0.485, 0.456, 0.406)
IMAGENET_STD = (58.395, 57.12, 57.375)  # 255 * (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Refine:
    """The second pass of a network that is run again on a closer crop around each key point (two_pass.py).

    Attributes:
        share: side of the closer crop, as a share of the first one's.
        decoder: how the second pass's peaks are read: one of DECODERS but not of COMBINED.
    """

    share: float
    decoder: str

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:  # False for NaN
            raise ValueError(f"refine's share must be a number over 0 and under 1, got {self.share}")
        known = [decoder for decoder in DECODERS if decoder not in COMBINED]
        if self.decoder not in known:
            raise ValueError(f"refine's decoder must be one of {', '.join(known)}, got {self.decoder!r}")


@dataclass(frozen=True)
class ModelSpec:
    """How a top-down heat-map network wants its input and how its output is read.

    Attributes:
        name: the model's name.
        input_hw: height and width of `crops`, px.
        heatmap_hw: height and width of `heatmaps`, px.
        color_order: order of the crops' three channels: "rgb" or "bgr".
        mean, std: per channel *of the crops* (so after the colour order), grey levels 0..255:
            crops = (pixel - mean) / std.
        box_padding: the box is enlarged by this factor before the aspect ratio is fixed.
        alignment: what geometry.Regions does between pixel grids: one of ALIGNMENTS.
        decoder: how decode.decode_heatmaps reads a peak: one of DECODERS.
        blur_kernel: side of the Gaussian of "dark" and all kinds of "udp", heat-map px, odd, at most 31.
        quarter_guard: border rule of "quarter": "joint" (SimpleBaseline, HRNet, mmpose v0), "independent" (mmpose v1)
            or "interior" (pytorch-pose's Stacked Hourglass).
        offset_radius: COMBINED decoders: offsets are in units of this share of max(heatmap_hw).
        flip_shift: columns the mirrored heat map is moved right before averaging, in the flip test.
        skeleton: names and pairs of the key points.
        refine: the second pass, if the network was trained for one.
        has_offsets: the decoder is one of COMBINED.
        output_channels: channels of `heatmaps`: K, or 3 K with offsets.
    """

    name: str
    input_hw: tuple[int, int]
    heatmap_hw: tuple[int, int]
    skeleton: Skeleton = COCO17
    color_order: str = "rgb"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    box_padding: float = 1.25
    alignment: str = "corner"
    decoder: str = "quarter"
    blur_kernel: int = 11
    quarter_guard: str = "joint"
    offset_radius: float = 0.0546875
    flip_shift: int = 1
    refine: Refine | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name):
            raise ValueError(f"name must be text, got {self.name!r}")
        for key, allowed in (
            ("color_order", ("rgb", "bgr")),
            ("alignment", ALIGNMENTS),
            ("decoder", DECODERS),
            ("quarter_guard", QUARTER_GUARDS),
        ):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {getattr(self, key)!r}")
        if type(self.flip_shift) is not int or self.flip_shift not in (0, 1):  # not True, not 1.0
            raise ValueError(f"flip_shift must be 0 or 1, got {self.flip_shift!r}")
        for key in ("input_hw", "heatmap_hw"):
            size = getattr(self, key)
            if len(size) != 2 or not all(isinstance(side, int) and 2 <= side <= 8192 for side in size):
                raise ValueError(
                    f"{key} must be two whole numbers of pixels (height, width) from 2 to 8192, got {size}"
                )
        for key in ("mean", "std"):
            if len(getattr(self, key)) != 3 or not all(math.isfinite(value) for value in getattr(self, key)):
                raise ValueError(f"{key} must be three finite numbers, got {getattr(self, key)}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        for key in ("box_padding", "offset_radius"):
            if not 0 < getattr(self, key) < 100:  # False for NaN
                raise ValueError(f"{key} must be a number over 0 and under 100, got {getattr(self, key)}")
        if self.refine is not None and self.has_offsets:
            raise ValueError(f"refine goes with one map a key point, not with {self.decoder}")
        if not (type(self.blur_kernel) is int and 1 <= self.blur_kernel <= 31 and self.blur_kernel % 2 == 1):
            raise ValueError(f"blur_kernel must be an odd number from 1 to 31, got {self.blur_kernel!r}")

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.skeleton)

    @property
    def has_offsets(self) -> bool:
        """Each key point has three maps: where it is, and the offsets in x and in y."""
        return self.decoder in COMBINED

    @property
    def output_channels(self) -> int:
        """Channels of the network's output: K, or 3 K where each key point brings two offsets."""
        return self.num_keypoints * (3 if self.has_offsets else 1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data["skeleton"] = self.skeleton.to_json()
        if self.refine is None:
            del data["refine"]  # an earlier edgepose reads it too
        else:
            data["refine"] = asdict(self.refine)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}

    @classmethod
    def from_json(cls, data: Any) -> ModelSpec:
        """Read what `to_json` wrote, or what a user wrote by hand; ModelFileError on anything else."""
        if not isinstance(data, Mapping):
            raise ModelFileError(f"a model spec must be a JSON object, got {type(data).__name__}")
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(data) - known)
        missing = sorted({"name", "input_hw", "heatmap_hw", "skeleton"} - set(data))
        if unknown or missing:
            found = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(
                missing
            )
            raise ModelFileError(f"model spec: {'; '.join(found)}; a spec has: {', '.join(sorted(known))}")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        values["skeleton"] = Skeleton.from_json(data["skeleton"])
        try:
            if values.get("refine") is not None:
                values["refine"] = Refine(**values["refine"])
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"model spec: {error}") from error
