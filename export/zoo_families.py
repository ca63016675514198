"""The zoo's entries of HRNet, CPM, the hourglasses and Efficient Object Localization: sizes, recipes, published files.

Sources of files and accuracies: mmpose's model index. Where both its generations publish a file, v1's is the one; where
its tables disagree on an accuracy, the one beside the training log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgepose.export.zoo import DATASETS, ByHand, Model, embedded, mmpose_file, with_v0_blur
from edgepose.model.passport import ModelSpec
from edgepose.model.skeletons import COCO17

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[str, int, int]  # data set, input height and width

_V1 = "v1/body_2d_keypoint/topdown_heatmap/coco/td-hm"

_HRNET: dict[tuple[int, Shape], float] = {  # width, shape -> GFLOPs
    (32, ("coco", 256, 192)): 15.29,
    (32, ("coco", 384, 288)): 34.40,
    (32, ("mpii", 256, 256)): 20.39,
    (48, ("coco", 256, 192)): 31.38,
    (48, ("coco", 384, 288)): 70.61,
    (48, ("mpii", 256, 256)): 41.84,
}
_HRNET_PARAMS = {32: 28_535_552, 48: 63_594_912}  # without the head
_HRNET_FILES = {  # (width, data set, input height, decoder) -> path, accuracy
    (32, "coco", 256, "quarter"): (f"{_V1}_hrnet-w32_8xb64-210e_coco-256x192-81c58e40_20220909.pth", 0.749),
    (32, "coco", 256, "dark"): (f"{_V1}_hrnet-w32_dark-8xb64-210e_coco-256x192-0e00bf12_20220914.pth", 0.757),
    (32, "coco", 256, "udp"): (f"{_V1}_hrnet-w32_udp-8xb64-210e_coco-256x192-73ede547_20220914.pth", 0.762),
    (32, "coco", 256, "udp-combined"): (
        f"{_V1}_hrnet-w32_udp-regress-8xb64-210e_coco-256x192-9c0b77b4_20220926.pth",
        0.759,
    ),
    (32, "coco", 384, "quarter"): (f"{_V1}_hrnet-w32_8xb64-210e_coco-384x288-ca5956af_20220909.pth", 0.761),
    (32, "coco", 384, "dark"): (f"{_V1}_hrnet-w32_dark-8xb64-210e_coco-384x288-9bab4c9b_20220917.pth", 0.766),
    (32, "coco", 384, "udp"): (f"{_V1}_hrnet-w32_udp-8xb64-210e_coco-384x288-9a3f7c85_20220914.pth", 0.768),
    (32, "mpii", 256, "quarter"): ("top_down/hrnet/hrnet_w32_mpii_256x256-6c4f923f_20200812.pth", 0.900),
    (32, "mpii", 256, "dark"): ("top_down/hrnet/hrnet_w32_mpii_256x256_dark-f1601c5b_20200927.pth", 0.904),
    (48, "coco", 256, "quarter"): (f"{_V1}_hrnet-w48_8xb32-210e_coco-256x192-0e67c616_20220913.pth", 0.756),
    (48, "coco", 256, "dark"): (f"{_V1}_hrnet-w48_dark-8xb32-210e_coco-256x192-e1ebdd6f_20220913.pth", 0.764),
    (48, "coco", 256, "udp"): (f"{_V1}_hrnet-w48_udp-8xb32-210e_coco-256x192-3feaef8f_20220913.pth", 0.768),
    (48, "coco", 384, "quarter"): (f"{_V1}_hrnet-w48_8xb32-210e_coco-384x288-c161b7de_20220915.pth", 0.767),
    (48, "coco", 384, "dark"): (f"{_V1}_hrnet-w48_dark-8xb32-210e_coco-384x288-39c3c381_20220916.pth", 0.772),
    (48, "coco", 384, "udp"): (f"{_V1}_hrnet-w48_udp-8xb32-210e_coco-384x288-70d7ab01_20220913.pth", 0.773),
    (48, "mpii", 256, "quarter"): ("top_down/hrnet/hrnet_w48_mpii_256x256-92cab7bd_20200812.pth", 0.901),
    (48, "mpii", 256, "dark"): ("top_down/hrnet/hrnet_w48_mpii_256x256_dark-0decd39f_20200927.pth", 0.905),
}

_CPM: dict[Shape, tuple[float, int, str, float]] = {  # shape -> GFLOPs, parameters, path, accuracy
    ("coco", 256, 192): (127.47, 31_304_166, f"{_V1}_cpm_8xb64-210e_coco-256x192-0e978875_20220920.pth", 0.627),
    ("coco", 384, 288): (286.81, 31_304_166, f"{_V1}_cpm_8xb32-210e_coco-384x288-165487b8_20221011.pth", 0.652),
    ("mpii", 368, 368): (350.88, 31_225_568, "top_down/cpm/cpm_mpii_368x368-116e62b8_20200822.pth", 0.876),
}

_HOURGLASS52: dict[Shape, tuple[float, int, str, float]] = {
    ("coco", 256, 256): (57.24, 94_847_889, "hourglass52_coco_256x256-4ec713ba_20200709.pth", 0.726),
    ("coco", 384, 384): (128.79, 94_847_889, "hourglass52_coco_384x384-be91ba2b_20200812.pth", 0.746),
    ("mpii", 256, 256): (57.24, 94_847_632, "hourglass52_mpii_256x256-ae358435_20200812.pth", 0.889),
    ("mpii", 384, 384): (128.79, 94_847_632, "hourglass52_mpii_384x384-04090bc3_20200812.pth", 0.894),
}

_STACKED: dict[int, tuple[float, int, ByHand | None]] = {  # stacks -> GFLOPs, parameters, both of the first style; file
    1: (11.61, 3_586_960, None),
    2: (17.98, 6_730_912, ByHand("princeton-vl's 2HG checkpoint.pt", 0.883)),
    8: (56.19, 25_594_624, ByHand("princeton-vl's 8HG checkpoint.pt", 0.902)),
}
# Grey levels; neither divides by a standard deviation. Princeton's code also moves peaks on the border, outwards.
_STACKED_RECIPES: dict[str, dict[str, Any]] = {
    "bearpaw": {"mean": (112.302, 113.22, 110.3385), "std": (255.0, 255.0, 255.0)},  # 255 * (.4404, .4440, .4327)
    "princeton": {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)},
}

# mmpose v1 checks the border of x and y by themselves.
_GUARDS: dict[str, dict[str, Any]] = {
    "original": {"quarter_guard": "joint"},
    "mmpose_v0": {"quarter_guard": "joint"},
    "mmpose_v1": {"quarter_guard": "independent"},
}
# mmpose v1 reads UDP's maps otherwise than mmpose v0 and than UDP-Pose (`post`, `get_final_preds`), which agree on the
# combined target. UDP-Pose blurs by 7 at any size, 15 for the combined target, which is 2 * 7 + 1.
_UDP_READERS: dict[str, dict[str, dict[str, Any]]] = {
    "udp": {"mmpose_v0": {"decoder": "udp-v0"}, "original": {"decoder": "udp-original", "blur_kernel": 7}},
    "udp-combined": {
        "mmpose_v0": {"decoder": "udp-combined-v0"},
        "original": {"decoder": "udp-combined-v0", "blur_kernel": 7},
    },
}


def hrnet() -> list[Model]:
    """W32 and W48, plain and trained for DARK, UDP and UDP's combined target."""
    entries = []
    for (width, shape), gflops in _HRNET.items():
        for decoder in ("quarter", "dark", "udp", "udp-combined"):
            file = _HRNET_FILES.get((width, *shape[:2], decoder))
            if file or (shape[0] == "coco" and decoder == "udp-combined"):  # its repository trained more than mmpose
                entries.append(_hrnet_entry(width, shape, decoder, gflops, file))
    return entries


def _hrnet_entry(width: int, shape: Shape, decoder: str, gflops: float, file: tuple[str, float] | None) -> Model:
    udp = decoder.startswith("udp")
    spec = _spec(
        f"hrnet_w{width}", shape, decoder=decoder, alignment="udp" if udp else "corner", flip_shift=0 if udp else 1
    )
    offset_maps = spec.output_channels - spec.num_keypoints
    recipes = with_v0_blur(_GUARDS, spec.input_hw)
    if udp:
        readers = _UDP_READERS[decoder]
        if decoder == "udp-combined":
            # UDP-Pose's LOSS.KPD, heat-map px: 4, but for "UDPv1", of which it lists W32 at 256x192 only
            unit_px = 3.5 if (width, shape[1]) == (32, 256) else 4.0
            readers = {**readers, "original": {**readers["original"], "offset_radius": unit_px / max(spec.heatmap_hw)}}
        recipes = {origin: {**recipe, **readers.get(origin, {})} for origin, recipe in recipes.items()}

    def build(style: str) -> nn.Module:
        from edgepose.export.networks.hrnet import HRNet  # torch: not for a mere list of names

        return HRNet(width, spec.output_channels)

    return Model(
        name=spec.name,
        dataset=shape[0],
        spec=spec,
        build=build,
        gflops=gflops + 2e-9 * width * offset_maps * spec.heatmap_hw[0] * spec.heatmap_hw[1],
        params=_HRNET_PARAMS[width] + (width + 1) * spec.output_channels,
        published=mmpose_file(*file) if file else None,
        recipes=recipes,
    )


def cpm() -> list[Model]:
    """Six stages, heat maps an eighth of the input."""

    def build(num_keypoints: int) -> nn.Module:
        from edgepose.export.networks.cpm import CPM  # torch: not for a mere list of names

        return CPM(num_keypoints)

    return [
        Model(
            name="cpm",
            dataset=shape[0],
            spec=_spec("cpm", shape, stride=8),
            build=lambda style, shape=shape: build(len(DATASETS[shape[0]])),  # type: ignore[misc]
            gflops=gflops,
            params=params,
            published=mmpose_file(path, accuracy),
            recipes=_GUARDS,
        )
        for shape, (gflops, params, path, accuracy) in _CPM.items()
    ]


def hourglass52() -> list[Model]:
    """One hourglass of residual blocks."""

    def build(num_keypoints: int) -> nn.Module:
        from edgepose.export.networks.hourglass52 import Hourglass52  # torch: not for a mere list of names

        return Hourglass52(num_keypoints)

    return [
        Model(
            name="hourglass52",
            dataset=shape[0],
            spec=_spec("hourglass52", shape),
            build=lambda style, shape=shape: build(len(DATASETS[shape[0]])),  # type: ignore[misc]
            gflops=gflops,
            params=params,
            published=mmpose_file(f"top_down/hourglass/{path}", accuracy),
            recipes=_GUARDS,
        )
        for shape, (gflops, params, path, accuracy) in _HOURGLASS52.items()
    ]


def stacked_hourglass() -> list[Model]:
    """1, 2 and 8 stacks in the two published forms; both are on drives without a stable address."""
    return [_stacked_hourglass_entry(stacks, *entry) for stacks, entry in _STACKED.items()]


def _stacked_hourglass_entry(stacks: int, gflops: float, params: int, by_hand: ByHand | None) -> Model:
    spec = _spec(
        f"stacked_hourglass_{stacks}",
        ("mpii", 256, 256),
        alignment="half-pixel",
        flip_shift=0,
        quarter_guard="interior",
    )

    def build(style: str) -> nn.Module:
        from edgepose.export.networks import stacked_hourglass  # torch: not for a mere list of names

        form = {"bearpaw": stacked_hourglass.BearpawHourglass, "princeton": stacked_hourglass.PrincetonHourglass}
        return form[style](stacks, spec.num_keypoints)

    return Model(
        name=spec.name,
        dataset="mpii",
        spec=spec,
        build=build,
        gflops=gflops,
        params=params,
        by_hand=by_hand,
        styles=tuple(_STACKED_RECIPES),
        recipes=_STACKED_RECIPES,
    )


def efficient_object_localization() -> Model:
    """The two-pass network; nobody published weights, those in the package are the project's own."""

    def build(data: Mapping[str, Any]) -> nn.Module:
        from edgepose.export.networks.efficient_object_localization import EfficientObjectLocalization  # torch

        return EfficientObjectLocalization(
            len(COCO17), widths=tuple(data["widths"]), blocks=tuple(data["blocks"]), head_width=data["head_width"]
        )

    return embedded("efficient_object_localization", build)


def _spec(name: str, shape: Shape, *, stride: int = 4, **recipe: Any) -> ModelSpec:
    dataset, height, width = shape
    return ModelSpec(name, (height, width), (height // stride, width // stride), DATASETS[dataset], **recipe)
