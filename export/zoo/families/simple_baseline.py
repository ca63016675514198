"""SimpleBaseline on ResNet, its small embedded form, and its Keras form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgepose.export.zoo.model import DATASETS, V1, Model, embedded, mmpose_file, with_v0_blur
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import heatmap_spec

if TYPE_CHECKING:
    from torch import nn

_RESNET_GFLOPS = {  # depth -> at (coco 256x192, coco 384x288, mpii 256x256)
    18: (5.79, 13.04, 7.72),
    34: (9.42, 21.19, 12.56),
    50: (10.85, 24.42, 14.47),
    101: (18.13, 40.78, 24.17),
    152: (25.40, 57.15, 33.86),
}
_RESNET_PARAMS = {18: 15_376_464, 34: 25_484_624, 50: 33_999_440, 101: 52_991_568, 152: 68_635_216}  # 16 key points
_HEAD_PARAMS = 257  # a key point more: 256 weights and a bias
_SIMPLE_BASELINE_FILES = {  # (depth, dataset, input height, decoder) -> path, accuracy
    (50, "coco", 256, "quarter"): (f"{V1}_res50_8xb64-210e_coco-256x192-04af38ce_20220923.pth", 0.718),
    (50, "coco", 384, "quarter"): (f"{V1}_res50_8xb64-210e_coco-384x288-7b8db90e_20220923.pth", 0.731),
    (50, "coco", 256, "dark"): (f"{V1}_res50_dark-8xb64-210e_coco-256x192-c129dcb6_20220926.pth", 0.724),
    (50, "coco", 384, "dark"): (f"{V1}_res50_dark-8xb64-210e_coco-384x288-8b90b538_20220926.pth", 0.735),
    (50, "mpii", 256, "quarter"): ("top_down/resnet/res50_mpii_256x256-418ffc88_20200812.pth", 0.882),
    (101, "coco", 256, "quarter"): (f"{V1}_res101_8xb64-210e_coco-256x192-065d3625_20220926.pth", 0.728),
    # v1's index names its 256x192 file here too, so v0's
    (101, "coco", 384, "quarter"): ("top_down/resnet/res101_coco_384x288-8c71bdc9_20200709.pth", 0.748),
    (101, "coco", 256, "dark"): (f"{V1}_res101_dark-8xb64-210e_coco-256x192-528ec248_20220926.pth", 0.733),
    (101, "coco", 384, "dark"): (f"{V1}_res101_dark-8xb64-210e_coco-384x288-487d40a4_20220926.pth", 0.749),
    (101, "mpii", 256, "quarter"): ("top_down/resnet/res101_mpii_256x256-416f5d71_20200812.pth", 0.888),
    (152, "coco", 256, "quarter"): (f"{V1}_res152_8xb32-210e_coco-256x192-0345f330_20220928.pth", 0.736),
    (152, "coco", 384, "quarter"): (f"{V1}_res152_8xb32-210e_coco-384x288-7fbb906f_20220927.pth", 0.750),
    (152, "coco", 256, "dark"): (f"{V1}_res152_dark-8xb32-210e_coco-256x192-f754df5f_20221031.pth", 0.743),
    (152, "coco", 384, "dark"): (f"{V1}_res152_dark-8xb32-210e_coco-384x288-329f8454_20221031.pth", 0.757),
    (152, "mpii", 256, "quarter"): ("top_down/resnet/res152_mpii_256x256-3ecba29d_20200812.pth", 0.889),
}
# Microsoft's networks and leoxiaobin's pose_resnet were trained on BGR pixels with the constants in RGB order.
_SIMPLE_BASELINE_RECIPES = {
    "original": {"color_order": "bgr", "quarter_guard": "joint"},
    "mmpose_v0": {"color_order": "rgb", "quarter_guard": "joint"},
    "mmpose_v1": {"color_order": "rgb", "quarter_guard": "independent"},
}


def entries() -> list[Model]:
    """The published ResNets, the small one in the package, and the Keras form."""
    return [*_resnets(), embedded("simplebaseline_tiny", _build_simple_baseline_tiny), _simple_baseline_keras()]


def _resnets() -> list[Model]:
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
        spec=heatmap_spec(name, input_hw, (input_hw[0] // 4, input_hw[1] // 4), skeleton, decoder=decoder),
        build=build,
        gflops=gflops,
        params=_RESNET_PARAMS[depth] + _HEAD_PARAMS * (len(skeleton) - 16),
        published=mmpose_file(*file) if file else None,
        styles=("pytorch", "caffe") if depth >= 50 else ("pytorch",),
        recipes=with_v0_blur(_SIMPLE_BASELINE_RECIPES, input_hw),
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
    spec = heatmap_spec("simplebaseline_keras", (256, 192), (64, 48))

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
