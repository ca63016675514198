"""HRNet, plain and trained for DARK, UDP and UDP's combined target.

Sources of files and accuracies: mmpose's model index. Where both its generations publish a file, v1's is the one; where
its tables disagree on an accuracy, the one beside the training log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepose.export.zoo.model import (
    GUARDS,
    V1,
    Model,
    Shape,
    mmpose_file,
    spec_of,
    with_v0_blur,
)

if TYPE_CHECKING:
    from torch import nn


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
    (32, "coco", 256, "quarter"): (f"{V1}_hrnet-w32_8xb64-210e_coco-256x192-81c58e40_20220909.pth", 0.749),
    (32, "coco", 256, "dark"): (f"{V1}_hrnet-w32_dark-8xb64-210e_coco-256x192-0e00bf12_20220914.pth", 0.757),
    (32, "coco", 256, "udp"): (f"{V1}_hrnet-w32_udp-8xb64-210e_coco-256x192-73ede547_20220914.pth", 0.762),
    (32, "coco", 256, "udp-combined"): (
        f"{V1}_hrnet-w32_udp-regress-8xb64-210e_coco-256x192-9c0b77b4_20220926.pth",
        0.759,
    ),
    (32, "coco", 384, "quarter"): (f"{V1}_hrnet-w32_8xb64-210e_coco-384x288-ca5956af_20220909.pth", 0.761),
    (32, "coco", 384, "dark"): (f"{V1}_hrnet-w32_dark-8xb64-210e_coco-384x288-9bab4c9b_20220917.pth", 0.766),
    (32, "coco", 384, "udp"): (f"{V1}_hrnet-w32_udp-8xb64-210e_coco-384x288-9a3f7c85_20220914.pth", 0.768),
    (32, "mpii", 256, "quarter"): ("top_down/hrnet/hrnet_w32_mpii_256x256-6c4f923f_20200812.pth", 0.900),
    (32, "mpii", 256, "dark"): ("top_down/hrnet/hrnet_w32_mpii_256x256_dark-f1601c5b_20200927.pth", 0.904),
    (48, "coco", 256, "quarter"): (f"{V1}_hrnet-w48_8xb32-210e_coco-256x192-0e67c616_20220913.pth", 0.756),
    (48, "coco", 256, "dark"): (f"{V1}_hrnet-w48_dark-8xb32-210e_coco-256x192-e1ebdd6f_20220913.pth", 0.764),
    (48, "coco", 256, "udp"): (f"{V1}_hrnet-w48_udp-8xb32-210e_coco-256x192-3feaef8f_20220913.pth", 0.768),
    (48, "coco", 384, "quarter"): (f"{V1}_hrnet-w48_8xb32-210e_coco-384x288-c161b7de_20220915.pth", 0.767),
    (48, "coco", 384, "dark"): (f"{V1}_hrnet-w48_dark-8xb32-210e_coco-384x288-39c3c381_20220916.pth", 0.772),
    (48, "coco", 384, "udp"): (f"{V1}_hrnet-w48_udp-8xb32-210e_coco-384x288-70d7ab01_20220913.pth", 0.773),
    (48, "mpii", 256, "quarter"): ("top_down/hrnet/hrnet_w48_mpii_256x256-92cab7bd_20200812.pth", 0.901),
    (48, "mpii", 256, "dark"): ("top_down/hrnet/hrnet_w48_mpii_256x256_dark-0decd39f_20200927.pth", 0.905),
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


def entries() -> list[Model]:
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
    spec = spec_of(
        f"hrnet_w{width}", shape, decoder=decoder, alignment="udp" if udp else "corner", flip_shift=0 if udp else 1
    )
    offset_maps = spec.num_maps - spec.num_keypoints
    recipes = with_v0_blur(GUARDS, spec.image.size_hw)
    if udp:
        readers = _UDP_READERS[decoder]
        if decoder == "udp-combined":
            # UDP-Pose's LOSS.KPD, heat-map px: 4, but for "UDPv1", of which it lists W32 at 256x192 only
            unit_px = 3.5 if (width, shape[1]) == (32, 256) else 4.0
            readers = {
                **readers,
                "original": {**readers["original"], "offset_radius": unit_px / max(spec.heatmaps.size_hw)},
            }
        recipes = {origin: {**recipe, **readers.get(origin, {})} for origin, recipe in recipes.items()}

    def build(style: str) -> nn.Module:
        from edgepose.export.networks.hrnet import HRNet  # torch: not for a mere list of names

        return HRNet(width, spec.num_maps)

    return Model(
        name=spec.name,
        dataset=shape[0],
        spec=spec,
        build=build,
        gflops=gflops + 2e-9 * width * offset_maps * spec.heatmaps.size_hw[0] * spec.heatmaps.size_hw[1],
        params=_HRNET_PARAMS[width] + (width + 1) * spec.num_maps,
        published=mmpose_file(*file) if file else None,
        recipes=recipes,
    )
