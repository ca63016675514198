"""Convolutional Pose Machines: six stages, heat maps an eighth of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepose.export.zoo.model import (
    DATASETS,
    GUARDS,
    V1,
    Model,
    Shape,
    mmpose_file,
    spec_of,
)

if TYPE_CHECKING:
    from torch import nn

_CPM: dict[Shape, tuple[float, int, str, float]] = {  # shape -> GFLOPs, parameters, path, accuracy
    ("coco", 256, 192): (127.47, 31_304_166, f"{V1}_cpm_8xb64-210e_coco-256x192-0e978875_20220920.pth", 0.627),
    ("coco", 384, 288): (286.81, 31_304_166, f"{V1}_cpm_8xb32-210e_coco-384x288-165487b8_20221011.pth", 0.652),
    ("mpii", 368, 368): (350.88, 31_225_568, "top_down/cpm/cpm_mpii_368x368-116e62b8_20200822.pth", 0.876),
}


def entries() -> list[Model]:
    """Six stages, heat maps an eighth of the input."""

    def build(num_keypoints: int) -> nn.Module:
        from edgepose.export.networks.cpm import CPM  # torch: not for a mere list of names

        return CPM(num_keypoints)

    return [
        Model(
            name="cpm",
            dataset=shape[0],
            spec=spec_of("cpm", shape, stride=8),
            build=lambda style, shape=shape: build(len(DATASETS[shape[0]])),  # type: ignore[misc]
            gflops=gflops,
            params=params,
            published=mmpose_file(path, accuracy),
            recipes=GUARDS,
        )
        for shape, (gflops, params, path, accuracy) in _CPM.items()
    ]
