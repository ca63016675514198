"""The networks edgepose can export: names, recipes, published checkpoints.

A family adds a function that returns its `Model` entries to `models`, and nothing else changes.
Sources of files and accuracies: mmpose's model index (v1 and, where said in the file's name, v0.x).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepose.model.passport import ModelSpec
from edgepose.model.skeletons import COCO17, MPII16, Skeleton

if TYPE_CHECKING:
    from torch import nn

MMPOSE = "https://download.openmmlab.com/mmpose"
WEIGHTS = Path(__file__).parent / "weights"

DATASETS: dict[str, Skeleton] = {"coco": COCO17, "mpii": MPII16}


TRAINED_FOR = {"udp-v0": "udp", "udp-original": "udp", "udp-combined-v0": "udp-combined"}  # other ways to read them


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
    """

    url: str
    sha256_prefix: str
    accuracy: float


@dataclass(frozen=True)
class ByHand:
    """A published checkpoint without a stable address; whoever has it gives it with `--weights`.

    Attributes:
        file: its name, and whose it is.
        accuracy: published result, as in `Published`.
    """

    file: str
    accuracy: float


@dataclass(frozen=True)
class Model:
    """One network at one input size with one recipe.

    Attributes:
        name: what `--model` takes; several entries may share it.
        dataset: "coco" or "mpii", or "" where there is only one.
        spec: the recipe with which its published checkpoint reached its accuracy.
        build: makes the network, given the stride style (one of `styles`).
        gflops: of one crop, convolutions only; a multiply-add is two operations. In the first style.
        params: number of trainable values. In the first style.
        published: what `--weights auto` loads; None if nobody published one at a stable address.
        by_hand: what was published without one.
        embedded: a checkpoint inside the package, which `--weights auto` loads instead.
        styles: ways to build it; the first is the default. A checkpoint tells some apart and some not.
        recipes: what a style, or a checkpoint's origin (checkpoint.ORIGINS), changes in the spec.
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

    @property
    def label(self) -> str:
        """Name, dataset and input size, for messages."""
        return f"{self.name} {self.dataset} {self.spec.input_hw[0]}x{self.spec.input_hw[1]}".replace("  ", " ")

    @property
    def accuracy(self) -> str:
        """The published result as `AP 0.718` or `PCKh 0.876`; "-" if there is none."""
        file = self.published or self.by_hand
        return f"{'PCKh' if self.dataset == 'mpii' else 'AP'} {file.accuracy:.3f}" if file else "-"


@cache
def models() -> tuple[Model, ...]:
    """All entries, in the order in which `edgepose models` lists them."""
    from edgepose.export import zoo_families  # it is built of this module's parts

    return (
        *_simple_baseline(),
        embedded("simplebaseline_tiny", _build_simple_baseline_tiny),
        _simple_baseline_keras(),
        *zoo_families.hrnet(),
        *zoo_families.cpm(),
        *zoo_families.hourglass52(),
        *zoo_families.stacked_hourglass(),
        zoo_families.efficient_object_localization(),
    )


ALIASES = {"simplebaseline": "simplebaseline_resnet50"}


def find_model(
    name: str, *, dataset: str | None = None, input_hw: tuple[int, int] | None = None, decoder: str | None = None
) -> Model:
    """The entry of that name; of several the first that fits, so COCO at the smaller input with the plain recipe.

    Args:
        decoder: an entry trained for that decoder if there is one; else the plain entry, read with "argmax",
            "quarter" or "dark", which go with any heat map. One of TRAINED_FOR is how the checkpoint is read,
            whatever its origin.

    Raises:
        ChoiceError: nothing fits; the message lists what there is.
    """
    wanted = ALIASES.get(name, name)
    named = [model for model in models() if model.name == wanted]
    if not named:
        known = ", ".join(dict.fromkeys([*ALIASES, *(model.name for model in models())]))
        raise ChoiceError(f"unknown model {name!r}; known: {known}")
    fitting = [
        model
        for model in named
        if dataset in (None, model.dataset or dataset) and input_hw in (None, model.spec.input_hw)
    ]
    if not fitting:
        known = ", ".join(dict.fromkeys(model.label.removeprefix(f"{model.name} ") for model in named))
        asked = " ".join(([dataset] if dataset else []) + (["{}x{}".format(*input_hw)] if input_hw else []))
        raise ChoiceError(f"{name} has no {asked} form; it has: {known}")
    if decoder is None:
        return fitting[0]
    for model in fitting:
        if model.spec.decoder == decoder:
            return model
        if model.spec.decoder == TRAINED_FOR.get(decoder):
            others = {
                key: {name: value for name, value in recipe.items() if name != "decoder"}
                for key, recipe in model.recipes.items()
            }
            return replace(model, spec=replace(model.spec, decoder=decoder), recipes=others)
    if decoder not in ("argmax", "quarter", "dark"):
        raise ChoiceError(f"{fitting[0].label} was not trained for the {decoder} decoder; it goes with quarter or dark")
    return replace(fitting[0], spec=replace(fitting[0].spec, decoder=decoder))


_RESNET_GFLOPS = {  # depth -> at (coco 256x192, coco 384x288, mpii 256x256)
    18: (5.79, 13.04, 7.72),
    34: (9.42, 21.19, 12.56),
    50: (10.85, 24.42, 14.47),
    101: (18.13, 40.78, 24.17),
    152: (25.40, 57.15, 33.86),
}
_RESNET_PARAMS = {18: 15_376_464, 34: 25_484_624, 50: 33_999_440, 101: 52_991_568, 152: 68_635_216}  # 16 key points
_HEAD_PARAMS = 257  # a key point more: 256 weights and a bias

_V1 = "v1/body_2d_keypoint/topdown_heatmap/coco/td-hm"
_SIMPLE_BASELINE_FILES = {  # (depth, dataset, input height, decoder) -> path, accuracy
    (50, "coco", 256, "quarter"): (f"{_V1}_res50_8xb64-210e_coco-256x192-04af38ce_20220923.pth", 0.718),
    (50, "coco", 384, "quarter"): (f"{_V1}_res50_8xb64-210e_coco-384x288-7b8db90e_20220923.pth", 0.731),
    (50, "coco", 256, "dark"): (f"{_V1}_res50_dark-8xb64-210e_coco-256x192-c129dcb6_20220926.pth", 0.724),
    (50, "coco", 384, "dark"): (f"{_V1}_res50_dark-8xb64-210e_coco-384x288-8b90b538_20220926.pth", 0.735),
    (50, "mpii", 256, "quarter"): ("top_down/resnet/res50_mpii_256x256-418ffc88_20200812.pth", 0.882),
    (101, "coco", 256, "quarter"): (f"{_V1}_res101_8xb64-210e_coco-256x192-065d3625_20220926.pth", 0.728),
    # v1's index names its 256x192 file here too, so v0's
    (101, "coco", 384, "quarter"): ("top_down/resnet/res101_coco_384x288-8c71bdc9_20200709.pth", 0.748),
    (101, "coco", 256, "dark"): (f"{_V1}_res101_dark-8xb64-210e_coco-256x192-528ec248_20220926.pth", 0.733),
    (101, "coco", 384, "dark"): (f"{_V1}_res101_dark-8xb64-210e_coco-384x288-487d40a4_20220926.pth", 0.749),
    (101, "mpii", 256, "quarter"): ("top_down/resnet/res101_mpii_256x256-416f5d71_20200812.pth", 0.888),
    (152, "coco", 256, "quarter"): (f"{_V1}_res152_8xb32-210e_coco-256x192-0345f330_20220928.pth", 0.736),
    (152, "coco", 384, "quarter"): (f"{_V1}_res152_8xb32-210e_coco-384x288-7fbb906f_20220927.pth", 0.750),
    (152, "coco", 256, "dark"): (f"{_V1}_res152_dark-8xb32-210e_coco-256x192-f754df5f_20221031.pth", 0.743),
    (152, "coco", 384, "dark"): (f"{_V1}_res152_dark-8xb32-210e_coco-384x288-329f8454_20221031.pth", 0.757),
    (152, "mpii", 256, "quarter"): ("top_down/resnet/res152_mpii_256x256-3ecba29d_20200812.pth", 0.889),
}

# Microsoft's networks and leoxiaobin's pose_resnet were trained on BGR pixels with the constants in RGB order.
_SIMPLE_BASELINE_RECIPES = {
    "original": {"color_order": "bgr", "quarter_guard": "joint"},
    "mmpose_v0": {"color_order": "rgb", "quarter_guard": "joint"},
    "mmpose_v1": {"color_order": "rgb", "quarter_guard": "independent"},
}
_V0_BLUR_384 = 17  # `modulate_kernel` of mmpose v0's larger DARK and UDP configurations; v1's have none, so 11


def with_v0_blur(
    recipes: Mapping[str, Mapping[str, Any]], input_hw: tuple[int, int]
) -> Mapping[str, Mapping[str, Any]]:
    """The recipes with what mmpose v0's files want at 384x288: a wider blur, whichever entry their decoder is of."""
    if input_hw[0] != 384:
        return recipes
    return {**recipes, "mmpose_v0": {**recipes["mmpose_v0"], "blur_kernel": _V0_BLUR_384}}


def mmpose_file(path: str, accuracy: float) -> Published:
    """A file of mmpose's download server, whose name carries the first 8 digits of its sha256."""
    return Published(f"{MMPOSE}/{path}", path.rsplit("_", 1)[0].rsplit("-", 1)[1], accuracy)


def _simple_baseline() -> list[Model]:
    shapes = (("coco", (256, 192)), ("coco", (384, 288)), ("mpii", (256, 256)))
    entries = []
    for depth in _RESNET_GFLOPS:
        for (dataset, input_hw), gflops in zip(shapes, _RESNET_GFLOPS[depth], strict=True):
            plain = _simple_baseline_entry(depth, dataset, input_hw, "quarter", gflops)
            dark = _simple_baseline_entry(depth, dataset, input_hw, "dark", gflops)
            entries += [plain, dark] if dark.published else [plain]
    return entries


def _simple_baseline_entry(depth: int, dataset: str, input_hw: tuple[int, int], decoder: str, gflops: float) -> Model:
    skeleton = DATASETS[dataset]
    file = _SIMPLE_BASELINE_FILES.get((depth, dataset, input_hw[0], decoder))
    name = f"simplebaseline_resnet{depth}"

    def build(style: str) -> nn.Module:
        return _build_simple_baseline(depth, len(skeleton), caffe_style=style == "caffe")

    return Model(
        name=name,
        dataset=dataset,
        spec=ModelSpec(name, input_hw, (input_hw[0] // 4, input_hw[1] // 4), skeleton, decoder=decoder),
        build=build,
        gflops=gflops,
        params=_RESNET_PARAMS[depth] + _HEAD_PARAMS * (len(skeleton) - 16),
        published=mmpose_file(*file) if file else None,
        styles=("pytorch", "caffe") if depth >= 50 else ("pytorch",),
        recipes=with_v0_blur(_SIMPLE_BASELINE_RECIPES, input_hw),
    )


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


def _build_simple_baseline_tiny(data: Mapping[str, Any]) -> nn.Module:
    return _build_simple_baseline(
        data["depth"], len(COCO17), planes=tuple(data["planes"]), deconv_filters=data["deconv_filters"]
    )


# How tf.keras.applications' preprocess_input prepares pixels, by its names for it; no weight
# file tells which one its author used. Keras's own ImageNet weights are of "caffe".
_KERAS_PIXELS: dict[str, dict[str, Any]] = {
    "torch": {},  # RGB with ImageNet's mean and standard deviation, as SimpleBaseline has it
    "caffe": {"color_order": "bgr", "mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0)},
    "tf": {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)},  # RGB from -1 to 1
}


def _simple_baseline_keras() -> Model:
    """SimpleBaseline as written with Keras, for people's own weights: there is no file to fetch."""
    spec = ModelSpec("simplebaseline_keras", (256, 192), (64, 48))

    def build(style: str) -> nn.Module:
        from edgepose.export.networks.keras_simple_baseline import KerasSimpleBaseline  # torch: as below

        return KerasSimpleBaseline(spec.num_keypoints)

    return Model(
        name=spec.name,
        dataset="coco",
        spec=spec,
        build=build,
        gflops=10.40,
        params=34_027_025,
        styles=tuple(_KERAS_PIXELS),
        recipes=_KERAS_PIXELS,
    )


def _build_simple_baseline(depth: int, num_keypoints: int, **options: Any) -> nn.Module:
    from edgepose.export.networks.simple_baseline import SimpleBaseline  # torch: not for a mere list of names

    return SimpleBaseline(depth, num_keypoints, **options)
