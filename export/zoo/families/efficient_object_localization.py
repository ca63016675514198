"""Efficient Object Localization: the two-pass network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgepose.export.zoo.model import Model, embedded
from edgepose.model.skeletons import COCO17

if TYPE_CHECKING:
    from torch import nn


def entries() -> list[Model]:
    """The two-pass network; nobody published weights, those in the package are the project's own."""

    def build(data: Mapping[str, Any]) -> nn.Module:
        from edgepose.export.networks.efficient_object_localization import EfficientObjectLocalization  # torch

        return EfficientObjectLocalization(
            len(COCO17), widths=tuple(data["widths"]), blocks=tuple(data["blocks"]), head_width=data["head_width"]
        )

    return [embedded("efficient_object_localization", build)]
