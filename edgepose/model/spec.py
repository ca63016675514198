"""What a network's input and output mean: how it is fed and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from edgepose.errors import ModelFileError
from edgepose.model.heads import Head, Shape, head_from_json, head_to_json
from edgepose.model.heads.heatmaps import (
    COMBINED,
    Heatmaps,
    HeatmapsWithOffsets,
    Refine,
    check_finite,
    check_hw,
)
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.volume import Volume
from edgepose.model.plain import from_plain, to_plain
from edgepose.model.skeletons import COCO17, NO_KEYPOINTS, Skeleton

ALIGNMENTS = ("corner", "udp", "darkpose", "half-pixel")
RESIZES = ("crop", "letterbox", "plain")
ANCHORS = ("corner", "center")
OF_EVERYBODY = ("fields", "tags", "detections")  # kinds of heads that cannot be of a crop of one person
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # 255 * (0.485, 0.456, 0.406)
IMAGENET_STD = (58.395, 57.12, 57.375)  # 255 * (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Input:
    """The picture that goes into a network.

    Attributes:
        size_hw: its height and width, px.
        color_order: order of its three channels: "rgb" or "bgr".
        mean, std: per channel *of the input* (so after the colour order), grey levels 0..255:
            input = (pixel - mean) / std.
        resize: "crop": a region of the image, `Region` says which; "letterbox": the whole image, its shape kept, the
            rest filled; "plain": the whole image, stretched.
        anchor: of "letterbox": the image lies in the upper left "corner" or in the "center".
        fill: of "letterbox": grey level, 0..255, of the rest.
    """

    size_hw: tuple[int, int]
    color_order: str = "rgb"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resize: str = "crop"
    anchor: str = "corner"
    fill: int = 114

    def __post_init__(self) -> None:
        check_hw("size_hw", self.size_hw)
        for key, allowed in (("color_order", ("rgb", "bgr")), ("resize", RESIZES), ("anchor", ANCHORS)):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {getattr(self, key)!r}")
        for key in ("mean", "std"):
            check_finite(key, getattr(self, key), 3)
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        if type(self.fill) is not int or not 0 <= self.fill <= 255:
            raise ValueError(f"fill must be a grey level from 0 to 255, got {self.fill!r}")


@dataclass(frozen=True)
class Region:
    """Which part of the image around a person's box becomes the input.

    Attributes:
        padding: the box is enlarged by this factor before the aspect ratio is fixed.
        alignment: what geometry.Regions does between pixel grids: one of ALIGNMENTS.
    """

    padding: float = 1.25
    alignment: str = "corner"

    def __post_init__(self) -> None:
        if not 0 < self.padding < 100:  # False for NaN
            raise ValueError(f"padding must be a number over 0 and under 100, got {self.padding}")
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"alignment must be one of {', '.join(ALIGNMENTS)}, got {self.alignment!r}")


@dataclass(frozen=True)
class ModelSpec:
    """How a network wants its input and how its output is read.

    Attributes:
        name: the model's name.
        input: the picture it takes; None for a network that takes none.
        head: what its outputs mean: one of heads.KINDS.
        skeleton: names and pairs of its key points; NO_KEYPOINTS where it finds none.
        region: which part of the image it takes, where `input.resize` is "crop"; else None.
    """

    name: str
    input: Input | None
    head: Head
    skeleton: Skeleton = COCO17
    region: Region | None = field(default=None)

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name):
            raise ValueError(f"name must be text, got {self.name!r}")
        if self.input is None and not hasattr(self.head, "inputs"):
            raise ValueError(f"a head of kind {self.head.kind} reads a picture: input is missing")
        crops = self.input is not None and self.input.resize == "crop"
        if crops != (self.region is not None):
            raise ValueError('region goes with an input of resize "crop", and with no other')
        if crops and self.head.kind in OF_EVERYBODY:
            raise ValueError(
                f"a head of kind {self.head.kind} finds everybody in a whole image: input wants a resize of "
                f'"letterbox" or "plain", and has "crop" (the default)'
            )
        self.head.outputs(self)  # says so where head and skeleton do not fit

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.skeleton)

    @property
    def image(self) -> Input:
        """The picture it takes.

        Raises:
            ModelFileError: it takes none.
        """
        if self.input is None:
            raise ModelFileError(f"{self.name} takes no picture (its head is {self.head.kind})")
        return self.input

    @property
    def crop(self) -> Region:
        """Which part of the image it takes.

        Raises:
            ModelFileError: it takes whole images.
        """
        if self.region is None:
            raise ModelFileError(f"{self.name} takes no crops of people (its head is {self.head.kind})")
        return self.region

    @property
    def heatmaps(self) -> Heatmaps | HeatmapsWithOffsets:
        """How its heat maps of one person are read.

        Raises:
            ModelFileError: it gives something else.
        """
        if not isinstance(self.head, (Heatmaps, HeatmapsWithOffsets)):
            raise ModelFileError(f"{self.name} gives no heat maps of one person (its head is {self.head.kind})")
        return self.head

    @property
    def refine(self) -> Refine | None:
        """The second pass of a network that was trained to be run twice; None for others."""
        return self.head.refine if isinstance(self.head, Heatmaps) else None

    @property
    def gives_depth(self) -> bool:
        """Whether each key point of a crop brings its depth, from which positions in space follow."""
        return isinstance(self.head, Volume) or (isinstance(self.head, SimCC) and self.head.depth_bins > 0)

    @property
    def num_maps(self) -> int:
        """Channels of `heatmaps`: K, or 3 K with offsets; ModelFileError where it gives no heat maps of one person."""
        return self.num_keypoints * self.heatmaps.maps_per_keypoint

    @property
    def decoder(self) -> str:
        """How its outputs are read: the heat maps' decoder, or else the head's kind."""
        return str(getattr(self.head, "decoder", self.head.kind))

    @property
    def channels(self) -> int:
        """Of its first output: K, or 3 K where each key point brings two offsets."""
        return self.num_keypoints * getattr(self.head, "maps_per_keypoint", 1)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """The px in which key points are read: of its heat maps or volume, or of its input where it has none."""
        if isinstance(self.head, Volume):
            return self.head.volume_dhw[1:]
        size: tuple[int, int] = getattr(self.head, "size_hw", self.image.size_hw)
        return size

    @property
    def grid_unit(self) -> str:
        """What `grid_hw` counts, for people: "heat-map px", "px of the volume" or "input px"."""
        if isinstance(self.head, (Heatmaps, HeatmapsWithOffsets)):
            return "heat-map px"
        return "px of the volume" if isinstance(self.head, Volume) else "input px"

    @property
    def outputs_in_words(self) -> str:
        """What the network of a person's crop gives, for people."""
        return "vectors" if isinstance(self.head, SimCC) else "heat maps"

    @property
    def inputs(self) -> dict[str, Shape]:
        """Names of the network's inputs, and their shapes without the batch."""
        if self.input is None:
            named: dict[str, Shape] = self.head.inputs(self)  # type: ignore[attr-defined]  # of what is no picture
            return named
        return {"images" if self.region is None else "crops": (3, *self.input.size_hw)}

    @property
    def outputs(self) -> dict[str, Shape]:
        """Names of the network's outputs, and their shapes without the batch."""
        return self.head.outputs(self)

    def changed(self, **entries: Any) -> ModelSpec:
        """Another spec, with entries of input, region and head named as if there were one level.

        Args:
            entries: `name`, `skeleton`; `input_hw` and fields of `Input`; `box_padding` and `alignment`; `heatmap_hw`
                and fields of the head. A decoder of the other kind of heat maps makes the head that kind; what only
                the other kind has is without effect.
        """
        whole = {key: entries.pop(key) for key in ("name", "skeleton") if key in entries}
        picture = {key: entries.pop(key) for key in _INPUT_ENTRIES if key in entries}
        region = {new: entries.pop(old) for old, new in _REGION_ENTRIES.items() if old in entries}
        if "input_hw" in entries:
            picture["size_hw"] = entries.pop("input_hw")
        if "heatmap_hw" in entries:
            entries["size_hw"] = entries.pop("heatmap_hw")
        return replace(
            self,
            **whole,
            input=replace(self.image, **picture) if picture else self.input,
            region=replace(self.crop, **region) if region else self.region,
            head=_head_with(self.head, entries) if entries else self.head,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        data = {"name": self.name, "input": to_plain(self.input), "region": to_plain(self.region)}
        data = {key: value for key, value in data.items() if value is not None}
        skeleton = {} if self.skeleton == NO_KEYPOINTS else {"skeleton": self.skeleton.to_json()}
        return {**data, "head": head_to_json(self.head), **skeleton}

    @classmethod
    def from_json(cls, data: Any) -> ModelSpec:
        """Read what `to_json` wrote, or what a user wrote by hand; also format 1, which had heat maps only.

        Raises:
            ModelFileError: anything else.
        """
        if not isinstance(data, Mapping):
            raise ModelFileError(f"a model spec must be a JSON object, got {type(data).__name__}")
        if "head" not in data:
            return _from_format_1(data)
        known = {item.name for item in fields(cls)}
        unknown, missing = sorted(set(data) - known), sorted({"name", "head"} - set(data))
        if unknown or missing:
            found = [f"unknown {', '.join(unknown)}"] * bool(unknown)
            found += [f"missing {', '.join(missing)}"] * bool(missing)
            raise ModelFileError(f"model spec: {'; '.join(found)}; a spec has: {', '.join(sorted(known))}")
        picture = from_plain(Input, data["input"], "spec's input") if data.get("input") is not None else None
        region = from_plain(Region, data["region"], "spec's region") if data.get("region") is not None else None
        if region is None and picture is not None and picture.resize == "crop":
            region = Region()
        skeleton = Skeleton.from_json(data["skeleton"]) if "skeleton" in data else NO_KEYPOINTS
        try:
            return cls(data["name"], picture, head_from_json(data["head"]), skeleton, region)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"model spec: {error}") from error


_INPUT_ENTRIES = tuple(item.name for item in fields(Input) if item.name != "size_hw")
_REGION_ENTRIES = {"box_padding": "padding", "alignment": "alignment"}


def _head_with(head: Any, entries: dict[str, Any]) -> Any:
    """The head with other entries, which of heat maps may be those of their other kind."""
    if not isinstance(head, (Heatmaps, HeatmapsWithOffsets)):
        return replace(head, **entries)
    kind = HeatmapsWithOffsets if entries.get("decoder", head.decoder) in COMBINED else Heatmaps
    if kind is HeatmapsWithOffsets and entries.get("refine") is not None:
        raise ValueError(f"refine goes with one map a key point, not with {entries.get('decoder', head.decoder)}")
    of_any = {item.name for one in (Heatmaps, HeatmapsWithOffsets) for item in fields(one)}
    own = {item.name for item in fields(kind)}
    kept = {item.name: getattr(head, item.name) for item in fields(head) if item.name in own}
    return kind(**{**kept, **{key: value for key, value in entries.items() if key in own or key not in of_any}})


def heatmap_spec(
    name: str, input_hw: tuple[int, int], heatmap_hw: tuple[int, int], skeleton: Skeleton = COCO17, **entries: Any
) -> ModelSpec:
    """The spec of a top-down heat-map network.

    Args:
        name: the model's name.
        input_hw, heatmap_hw: heights and widths, px.
        entries: what differs from SimpleBaseline's recipe, named as in `ModelSpec.changed`.
    """
    plain = ModelSpec(name, Input(input_hw), Heatmaps(heatmap_hw), skeleton, Region())
    return plain.changed(**entries)


_FORMAT_1 = (
    "name", "input_hw", "heatmap_hw", "skeleton", "color_order", "mean", "std", "box_padding", "alignment", "decoder",
    "blur_kernel", "quarter_guard", "offset_radius", "flip_shift", "refine",
)  # fmt: skip


def _from_format_1(data: Mapping[str, Any]) -> ModelSpec:
    unknown = sorted(set(data) - set(_FORMAT_1))
    missing = sorted({"name", "input_hw", "heatmap_hw", "skeleton"} - set(data))
    if unknown or missing:
        found = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(missing)
        raise ModelFileError(f"model spec: {'; '.join(found)}; a spec has: {', '.join(sorted(_FORMAT_1))}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    values["skeleton"] = Skeleton.from_json(data["skeleton"])
    try:
        return heatmap_spec(**values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"model spec: {error}") from error
