"""SimCC on a ResNet with deconvolutions (Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human
Pose Estimation", ECCV 2022), as mmpose's `SimCCHead` has it.

Parameter names and shapes are mmpose's without its `backbone.` and `head.`.
"""

from __future__ import annotations

import torch
from torch import nn

from edgepose.export.networks.rtmpose import SPLIT_RATIO, rows
from edgepose.export.networks.simple_baseline import SimpleBaseline


class SimCCResNet(SimpleBaseline):
    """Crops (n, 3, H, W) -> SimCC vectors (n, K, 2 W) and (n, K, 2 H).

    Args:
        num_keypoints: K.
        input_hw: H, W; multiples of 32.
        depth: of the ResNet, as in SimpleBaseline.
    """

    def __init__(self, num_keypoints: int, input_hw: tuple[int, int], depth: int = 50) -> None:
        super().__init__(depth, num_keypoints)
        self.input_hw = input_hw  # its last layers fit no other
        height, width = input_hw
        cells = (height // 4) * (width // 4)
        self.deconv_head = nn.ModuleDict({"deconv_layers": self.deconv_layers, "final_layer": self.final_layer})
        del self.deconv_layers, self.final_layer
        self.mlp_head_x = nn.Linear(cells, width * SPLIT_RATIO)
        self.mlp_head_y = nn.Linear(cells, height * SPLIT_RATIO)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (n, 3, H, W) -> vectors (n, K, 2 W) and (n, K, 2 H)."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(crops))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        maps = rows(self.deconv_head["final_layer"](self.deconv_head["deconv_layers"](x)), self.input_hw, 4)
        return self.mlp_head_x(maps), self.mlp_head_y(maps)
