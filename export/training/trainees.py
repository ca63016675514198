"""The networks whose training is part of the project: what each is, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgepose.export.networks.efficient_object_localization import EfficientObjectLocalization
from edgepose.export.networks.simple_baseline import SimpleBaseline
from edgepose.model.heads.heatmaps import Refine
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import ModelSpec, heatmap_spec


@dataclass(frozen=True)
class Trainee:
    """One network to train.

    Attributes:
        spec: how the trained network is fed and read; with `refine`, half of the crops are close ones.
        architecture: what builds it, for its recipe file.
        make: the network with initial weights, given its number of key points.
        epochs: how long the shipped weights were trained.
        bfloat16: convolutions compute in bfloat16 while it learns; nearly twice as fast on a CPU that has it.
    """

    spec: ModelSpec
    architecture: dict[str, Any]
    make: Callable[[int], nn.Module]
    epochs: int
    bfloat16: bool


_TINY: dict[str, Any] = {"depth": 18, "planes": (24, 48, 96, 160), "deconv_filters": 64}
_EOL: dict[str, Any] = {"widths": (32, 64, 128), "blocks": (2, 3, 4), "head_width": 48}


def _make_tiny(num_keypoints: int) -> nn.Module:
    """Initialised as SimpleBaseline's published training does."""
    network = SimpleBaseline(
        _TINY["depth"], num_keypoints, planes=_TINY["planes"], deconv_filters=_TINY["deconv_filters"]
    )
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.02)
    _start_empty(network.final_layer)
    return network


def _make_eol(num_keypoints: int) -> nn.Module:
    network = EfficientObjectLocalization(num_keypoints, **_EOL)
    _start_empty(network.final_layer)
    return network


def _start_empty(final_layer: nn.Conv2d) -> None:
    """Nearly empty maps to begin with, as the targets are."""
    nn.init.normal_(final_layer.weight, std=0.01)
    assert final_layer.bias is not None
    nn.init.zeros_(final_layer.bias)


TRAINEES = {
    trainee.spec.name: trainee
    for trainee in (
        Trainee(
            heatmap_spec("simplebaseline_tiny", (128, 96), (32, 24), COCO17, decoder="dark", blur_kernel=7),
            _TINY,
            _make_tiny,
            epochs=220,
            bfloat16=True,
        ),
        Trainee(
            heatmap_spec(
                "efficient_object_localization",
                (128, 128),
                (32, 32),
                COCO17,
                decoder="dark",
                blur_kernel=7,
                refine=Refine(share=0.5, decoder="dark"),
            ),
            _EOL,
            _make_eol,
            epochs=180,
            bfloat16=True,
        ),
    )
}
