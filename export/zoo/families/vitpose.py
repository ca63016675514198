"""ViTPose S to H, with the classic and the simple decoder, and ViTPose+'s other data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepose.export.zoo.model import DATASETS, V1, Model, Published, mmpose_file, spec_of

if TYPE_CHECKING:
    from torch import Tensor, nn

INPUT_HW = (256, 192)
_SIZES: dict[tuple[str, bool], tuple[float, int, str, float]] = {
    # size, simple -> GFLOPs and parameters with 17 key points, path, accuracy
    ("s", False): (11.19, 24_290_577, f"{V1}_ViTPose-small_8xb64-210e_coco-256x192-62d7a712_20230314.pth", 0.739),
    ("b", False): (37.05, 89_994_513, f"{V1}_ViTPose-base_8xb64-210e_coco-256x192-216eae50_20230314.pth", 0.757),
    ("l", False): (123.14, 308_544_785, f"{V1}_ViTPose-large_8xb64-210e_coco-256x192-53609f55_20230314.pth", 0.782),
    ("h", False): (251.66, 637_208_849, f"{V1}_ViTPose-huge_8xb64-210e_coco-256x192-e32adcd4_20230314.pth", 0.788),
    ("s", True): (9.31, 21_722_513, f"{V1}_ViTPose-small-simple_8xb64-210e_coco-256x192-4c101a76_20230314.pth", 0.736),
    ("b", True): (34.92, 85_912_337, f"{V1}_ViTPose-base-simple_8xb64-210e_coco-256x192-0b8234ea_20230407.pth", 0.756),
    ("l", True): (
        *(120.85, 303_453_201),
        *(f"{V1}_ViTPose-large-simple_8xb64-210e_coco-256x192-3a7ee9e1_20230314.pth", 0.78),
    ),
    ("h", True): (
        *(249.21, 631_107_857),
        *(f"{V1}_ViTPose-huge-simple_8xb64-210e_coco-256x192-ffd48c05_20230314.pth", 0.789),
    ),
}
_PLUS = ("aic", "mpii", "wholebody")  # data sets of people that ViTPose+ has an expert for, besides COCO
_HEAD_PARAMS = 257  # a key point more: the classic decoder's last layer
_HEAD_GFLOPS = 2e-9 * 256 * 64 * 48

# The original repository is mmpose v0's successor and reads UDP as it does.
_RECIPES = {"mmpose_v0": {"decoder": "udp-v0"}}


def entries() -> list[Model]:
    """COCO's of every size and decoder, and those of ViTPose+'s other data sets, which have the classic decoder."""
    found = []
    for (size, simple), (gflops, params, path, accuracy) in _SIZES.items():
        found.append(_entry(size, "coco", simple, gflops, params, mmpose_file(path, accuracy)))
        if not simple:
            for dataset in _PLUS:
                more = len(DATASETS[dataset]) - len(DATASETS["coco"])
                found.append(
                    _entry(size, dataset, False, gflops + more * _HEAD_GFLOPS, params + more * _HEAD_PARAMS, None)
                )
    return found


def _entry(size: str, dataset: str, simple: bool, gflops: float, params: int, file: Published | None) -> Model:
    name = f"vitpose_{size}{'_simple' if simple else ''}"
    spec = spec_of(name, (dataset, *INPUT_HW), decoder="udp", alignment="udp", flip_shift=0)

    def build(style: str) -> nn.Module:
        from edgepose.export.networks.vitpose import ViTPose  # torch: not for a mere list of names

        return ViTPose(size, spec.num_keypoints, spec.image.size_hw, simple=simple)

    def adapt(state: dict[str, Tensor]) -> dict[str, Tensor]:
        from edgepose.export.checkpoints.vitpose import for_network

        return for_network(state, dataset, spec.image.size_hw)

    return Model(
        name=name,
        dataset=dataset,
        spec=spec,
        build=build,
        adapt=adapt,
        gflops=gflops,
        params=params,
        published=file,
        recipes=_RECIPES,
    )
