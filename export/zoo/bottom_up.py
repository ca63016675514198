"""The bottom-up networks that edgepose can export: names, recipes, published files.

Sources of files and accuracies: mmpose's model index (v0.29), HigherHRNet's and lightweight OpenPose's README. mmpose's
were measured with the flip test at 512 px of the shorter side; here the longer side has the input's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from edgepose.export.zoo.licences import licence_of
from edgepose.export.zoo.model import MMPOSE, ChoiceError
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.skeletons import COCO17, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec

if TYPE_CHECKING:
    from torch import nn

BOTTOM_UP = f"{MMPOSE}/bottom_up"


@dataclass(frozen=True)
class BottomUpModel:
    """One network with one recipe.

    Attributes:
        name: what `--model` takes.
        spec: how it is fed and read, at its usual input size; its head is Fields or Tags.
        build: makes the network.
        stride: input px of a map's; `multiple`: the input's sides are multiples of it.
        gflops: of one picture of the usual size; a multiply-add is two operations.
        params: number of trainable values.
        url, sha256_prefix: of the published file, which `--weights auto` fetches; empty where there is none.
        ap: published AP on COCO val2017; None where none was published.
        by_hand: a published file without a hash to check.
    """

    name: str
    spec: ModelSpec
    build: Callable[[], nn.Module]
    stride: int
    multiple: int
    gflops: float
    params: int
    url: str = ""
    sha256_prefix: str = ""
    ap: float | None = None
    by_hand: str = ""

    @property
    def accuracy(self) -> str:
        """The published result as `AP 0.654`; "-" if there is none."""
        return "-" if self.ap is None else f"AP {self.ap:.3f}"

    @property
    def licence(self) -> str:
        """Of its weights, by its SPDX name; "-" if nobody published any."""
        return licence_of(self.name, self.url)

    def at(self, input_hw: tuple[int, int] | None) -> ModelSpec:
        """The spec for another input size, which names it; None for the usual one.

        Raises:
            ChoiceError: a side that the network cannot take.
        """
        if input_hw is None:
            return self.spec
        if any(side <= 0 or side % self.multiple for side in input_hw):
            raise ChoiceError(
                f"{self.name} takes sides that are multiples of {self.multiple}, not {input_hw[0]}x{input_hw[1]}"
            )
        maps = (input_hw[0] // self.stride, input_hw[1] // self.stride)
        spec = self.spec.changed(input_hw=input_hw, size_hw=maps)
        return replace(spec, name=f"{self.name}_{input_hw[0]}x{input_hw[1]}")


@cache
def bottom_up_models() -> tuple[BottomUpModel, ...]:
    """All of them, in the order in which `edgepose models` lists them."""
    return (
        _openpose(1, 15.31, 4_091_698),
        _openpose(3, 27.01, 7_308_964),
        _tagged(32, 81.56, 28_536_674, "hrnet_w32_coco_512x512-bcb8c247_20200816.pth", 0.654),
        _tagged(48, 167.41, 63_596_578, "hrnet_w48_coco_512x512-cf72fcdf_20200816.pth", 0.665),
        _higher(32, 92.41, 28_645_331, "higher_hrnet32_coco_512x512-8ae85183_20200713.pth", 0.677),
        _higher(48, 191.32, 63_827_139, "higher_hrnet48_coco_512x512-60fedcbc_20200712.pth", 0.686),
    )


def bottom_up_names() -> list[str]:
    """What `edgepose export --model` takes for one of them."""
    return [model.name for model in bottom_up_models()]


def find_bottom_up_model(name: str) -> BottomUpModel:
    """The network of that name.

    Raises:
        ChoiceError: there is none; the message lists what there is.
    """
    for model in bottom_up_models():
        if model.name == name:
            return model
    raise ChoiceError(f"unknown network {name!r}; known: {', '.join(bottom_up_names())}")


def _openpose(refinements: int, gflops: float, params: int) -> BottomUpModel:
    """Its repository trains with three refinement stages, and publishes the accuracy of the first alone."""

    def build() -> nn.Module:
        from edgepose.export.networks.lightweight_openpose import LightweightOpenPose  # torch: not for a list of names

        return LightweightOpenPose(refinements=refinements)

    name = "lightweight_openpose" + (f"_{refinements}" if refinements > 1 else "")
    picture = Input((256, 456), "bgr", (128.0,) * 3, (256.0,) * 3, "letterbox", "center", 128)
    spec = ModelSpec(name, picture, Fields((32, 57)), OPENPOSE18)
    by_hand = "checkpoint_iter_370000.pth (lightweight-human-pose-estimation.pytorch)" if refinements == 1 else ""
    return BottomUpModel(name, spec, build, 8, 8, gflops, params, ap=0.4 if by_hand else None, by_hand=by_hand)


def _tagged(width: int, gflops: float, params: int, file: str, ap: float) -> BottomUpModel:
    def build() -> nn.Module:
        from edgepose.export.networks.associative_embedding import TaggedHRNet  # torch: as above

        return TaggedHRNet(width, len(COCO17))

    name = f"hrnet_w{width}_ae"
    spec = ModelSpec(name, _whole(), Tags((128, 128), upsample=4), COCO17)
    return BottomUpModel(name, spec, build, 4, 32, gflops, params, f"{BOTTOM_UP}/{file}", _prefix(file), ap)


def _higher(width: int, gflops: float, params: int, file: str, ap: float) -> BottomUpModel:
    def build() -> nn.Module:
        from edgepose.export.networks.associative_embedding import HigherHRNet  # torch: as above

        return HigherHRNet(width, len(COCO17))

    name = f"higher_hrnet_w{width}"
    spec = ModelSpec(name, _whole(), Tags((256, 256), upsample=2, refinement="original"), COCO17)
    return BottomUpModel(name, spec, build, 2, 32, gflops, params, f"{BOTTOM_UP}/{file}", _prefix(file), ap)


def _whole() -> Input:
    return Input((512, 512), resize="letterbox", anchor="center", fill=0)


def _prefix(file: str) -> str:
    return file.rsplit("_", 1)[0].rsplit("-", 1)[1]
