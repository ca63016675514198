"""A small SimCC network of the project's own: SimpleBaseline's trunk with RTMPose's head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgepose.export.networks.rtmpose import SPLIT_RATIO, GatedAttention, ScaleNorm, rows
from edgepose.export.networks.simple_baseline import SimpleBaseline


class SimCCTiny(SimpleBaseline):
    """Crops (n, 3, H, W) -> SimCC vectors (n, K, 2 W) and (n, K, 2 H); H and W multiples of 32.

    The first two of the three deconvolutions stay; of each key point's map at an eighth of the input a token is made.

    Args:
        num_keypoints: K.
        input_hw: H, W.
        depth, planes, deconv_filters: as in SimpleBaseline.
        token: width of a key point's token.
    """

    def __init__(
        self,
        num_keypoints: int,
        input_hw: tuple[int, int],
        *,
        depth: int,
        planes: Sequence[int],
        deconv_filters: int,
        token: int,
    ) -> None:
        first, second, third, fourth = planes
        super().__init__(depth, num_keypoints, planes=(first, second, third, fourth), deconv_filters=deconv_filters)
        self.input_hw = input_hw  # its tokens fit no other
        self.deconv_layers = self.deconv_layers[:6]  # three layers each: deconvolution, BatchNorm, ReLU
        cells = (input_hw[0] // 8) * (input_hw[1] // 8)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, token, bias=False))
        self.gau = GatedAttention(token)
        self.cls_x = nn.Linear(token, input_hw[1] * SPLIT_RATIO, bias=False)
        self.cls_y = nn.Linear(token, input_hw[0] * SPLIT_RATIO, bias=False)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (n, 3, H, W) -> vectors (n, K, 2 W) and (n, K, 2 H)."""
        tokens = self.gau(self.mlp(rows(super().forward(crops), self.input_hw, 8)))
        return self.cls_x(tokens), self.cls_y(tokens)
