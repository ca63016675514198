"""Hourglass-52: one hourglass of residual blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepose.export.zoo.model import (
    DATASETS,
    GUARDS,
    Model,
    Shape,
    mmpose_file,
    spec_of,
)

if TYPE_CHECKING:
    from torch import nn

_HOURGLASS52: dict[Shape, tuple[float, int, str, float]] = {
    ("coco", 256, 256): (57.24, 94_847_889, "hourglass52_coco_256x256-4ec713ba_20200709.pth", 0.726),
    ("coco", 384, 384): (128.79, 94_847_889, "hourglass52_coco_384x384-be91ba2b_20200812.pth", 0.746),
    ("mpii", 256, 256): (57.24, 94_847_632, "hourglass52_mpii_256x256-ae358435_20200812.pth", 0.889),
    ("mpii", 384, 384): (128.79, 94_847_632, "hourglass52_mpii_384x384-04090bc3_20200812.pth", 0.894),
}


def entries() -> list[Model]:
    """One hourglass of residual blocks."""

    def build(num_keypoints: int) -> nn.Module:
        from edgepose.export.networks.hourglass52 import Hourglass52  # torch: not for a mere list of names

        return Hourglass52(num_keypoints)

    return [
        Model(
            name="hourglass52",
            dataset=shape[0],
            spec=spec_of("hourglass52", shape),
            build=lambda style, shape=shape: build(len(DATASETS[shape[0]])),  # type: ignore[misc]
            gflops=gflops,
            params=params,
            published=mmpose_file(f"top_down/hourglass/{path}", accuracy),
            recipes=GUARDS,
        )
        for shape, (gflops, params, path, accuracy) in _HOURGLASS52.items()
    ]
