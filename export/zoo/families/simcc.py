"""SimCC on ResNet-50 with deconvolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepose.export.zoo.model import Model, Shape, mmpose_file, simcc_spec

if TYPE_CHECKING:
    from torch import nn

_PATH = "v1/body_2d_keypoint/simcc/coco/simcc_res50"
_FILES: dict[Shape, tuple[float, int, str, float]] = {  # shape -> GFLOPs, parameters, path, accuracy
    ("coco", 256, 192): (10.95, 36_753_105, f"{_PATH}_8xb64-210e_coco-256x192-8e0f5b59_20220919.pth", 0.721),
    ("coco", 384, 288): (24.73, 43_290_769, f"{_PATH}_8xb32-140e_coco-384x288-45c3ba34_20220913.pth", 0.735),
}


def entries() -> list[Model]:
    """COCO's two sizes."""

    def build(input_hw: tuple[int, int]) -> nn.Module:
        from edgepose.export.networks.simcc_resnet import SimCCResNet  # torch: not for a mere list of names

        return SimCCResNet(17, input_hw)

    return [
        Model(
            name="simcc_resnet50",
            dataset=shape[0],
            spec=simcc_spec("simcc_resnet50", shape),
            build=lambda style, shape=shape: build(shape[1:]),  # type: ignore[misc]
            gflops=gflops,
            params=params,
            published=mmpose_file(path, accuracy),
        )
        for shape, (gflops, params, path, accuracy) in _FILES.items()
    ]
