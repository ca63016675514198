"""One network of the zoo: its name, its recipe, its published checkpoint; and what several families share.

Sources of files and accuracies: mmpose's model index (v1 and, where said in the file's name, v0.x).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepose.export.zoo.licences import licence_of
from edgepose.model.heads.simcc import SimCC
from edgepose.model.skeletons import (
    AIC14,
    COCO17,
    CROWDPOSE14,
    FACE106,
    HALPE26,
    HAND21,
    MPII16,
    WHOLEBODY133,
    Skeleton,
)
from edgepose.model.spec import Input, ModelSpec, Region, heatmap_spec

if TYPE_CHECKING:
    from torch import Tensor, nn

MMPOSE = "https://download.openmmlab.com/mmpose"
WEIGHTS = Path(__file__).parents[1] / "weights"

V1 = "v1/body_2d_keypoint/topdown_heatmap/coco/td-hm"

DATASETS: dict[str, Skeleton] = {
    "coco": COCO17,
    "mpii": MPII16,
    "aic": AIC14,
    "crowdpose": CROWDPOSE14,
    "halpe26": HALPE26,
    "wholebody": WHOLEBODY133,
    "hand": HAND21,
    "face106": FACE106,
}
Shape = tuple[str, int, int]  # data set, input height and width

# mmpose v1 checks the border of x and y by themselves.
GUARDS: dict[str, dict[str, Any]] = {
    "original": {"quarter_guard": "joint"},
    "mmpose_v0": {"quarter_guard": "joint"},
    "mmpose_v1": {"quarter_guard": "independent"},
}


class ChoiceError(ValueError):
    """A model, size, style or decoder that the zoo does not have; the message lists what it has."""


@dataclass(frozen=True)
class Published:
    """A published checkpoint.

    Attributes:
        url: where the file is.
        sha256_prefix: first hex digits of its sha256.
        accuracy: published result with flip test: COCO val2017 AP with the 56.4 AP person detector, or MPII
            validation PCKh@0.5; both from 0 to 1.
        metric: what `accuracy` is, where it is neither of these.
    """

    url: str
    sha256_prefix: str
    accuracy: float
    metric: str = ""


@dataclass(frozen=True)
class ByHand:
    """A published checkpoint without a stable address; whoever has it gives it with `--weights`.

    Attributes:
        file: its name, and whose it is.
        accuracy, metric: published result, as in `Published`.
    """

    file: str
    accuracy: float
    metric: str = ""


@dataclass(frozen=True)
class Model:
    """One network at one input size with one recipe.

    Attributes:
        name: what `--model` takes; several entries may share it.
        dataset: one of DATASETS, or "" where there is only one.
        spec: the recipe with which its published checkpoint reached its accuracy.
        build: makes the network, given the stride style (one of `styles`).
        gflops: of one crop, convolutions and matrix products; a multiply-add is two operations. In the first style.
        params: number of trainable values. In the first style.
        published: what `--weights auto` loads; None if nobody published one at a stable address.
        by_hand: what was published without one.
        embedded: a checkpoint inside the package, which `--weights auto` loads instead.
        styles: ways to build it; the first is the default. A checkpoint tells some apart and some not.
        recipes: what a style, or a checkpoint's origin (checkpoint.ORIGINS), changes in the spec.
        adapt: a checkpoint's state dict with the network's own names, where its publishers have several layouts.
    """

    name: str
    dataset: str
    spec: ModelSpec
    build: Callable[[str], nn.Module]
    gflops: float
    params: int
    published: Published | None = None
    by_hand: ByHand | None = None
    embedded: Path | None = None
    styles: tuple[str, ...] = ("pytorch",)
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda state: state

    @property
    def label(self) -> str:
        """Name, dataset and input size, for messages."""
        return f"{self.name} {self.dataset} {self.spec.image.size_hw[0]}x{self.spec.image.size_hw[1]}".replace(
            "  ", " "
        )

    @property
    def accuracy(self) -> str:
        """The published result as `AP 0.718` or `PCKh 0.876`; "-" if there is none."""
        file = self.published or self.by_hand
        metric = (file and file.metric) or ("PCKh" if self.dataset == "mpii" else "AP")
        return f"{metric} {file.accuracy:.3f}" if file else "-"

    @property
    def licence(self) -> str:
        """Of its weights, by its SPDX name; "-" if nobody published any."""
        return licence_of(self.name, self.published.url if self.published else "", embedded=self.embedded is not None)


_V0_BLUR_384 = 17  # `modulate_kernel` of mmpose v0's larger DARK and UDP configurations; v1's have none, so 11


def with_v0_blur(
    recipes: Mapping[str, Mapping[str, Any]], input_hw: tuple[int, int]
) -> Mapping[str, Mapping[str, Any]]:
    """The recipes with what mmpose v0's files want at 384x288: a wider blur, whichever entry their decoder is of."""
    if input_hw[0] != 384:
        return recipes
    return {**recipes, "mmpose_v0": {**recipes["mmpose_v0"], "blur_kernel": _V0_BLUR_384}}


def mmpose_file(path: str, accuracy: float, metric: str = "") -> Published:
    """A file of mmpose's download server, whose name carries the first 8 digits of its sha256."""
    return Published(f"{MMPOSE}/{path}", path.rsplit("_", 1)[0].rsplit("-", 1)[1], accuracy, metric)


def simcc_spec(name: str, shape: Shape) -> ModelSpec:
    """The spec of an entry of mmpose's that gives SimCC vectors, two bins a px."""
    dataset, height, width = shape
    return ModelSpec(name, Input((height, width)), SimCC(split_ratio=2.0), DATASETS[dataset], Region())


def embedded(name: str, build: Callable[[Mapping[str, Any]], nn.Module]) -> Model:
    """A model whose weights are in the package; the file that came out of its training describes it.

    Args:
        build: makes the network from what that file says.
    """
    data = json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))
    recipe = {key: data[key] for key in ("decoder", "blur_kernel", "refine") if key in data}
    sizes = {key: data[key] for key in ("input_hw", "heatmap_hw")}
    return Model(
        name=name,
        dataset="",
        spec=ModelSpec.from_json({"name": name, "skeleton": COCO17.name, **sizes, **recipe}),
        build=lambda style: build(data),
        gflops=data["gflops"],
        params=data["params"],
        embedded=WEIGHTS / f"{name}.pth",
    )


def spec_of(name: str, shape: Shape, *, stride: int = 4, **recipe: Any) -> ModelSpec:
    """The spec of an entry whose heat maps are 1/stride of its input."""
    dataset, height, width = shape
    return heatmap_spec(name, (height, width), (height // stride, width // stride), DATASETS[dataset], **recipe)
