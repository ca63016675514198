"""Networks with tags: HRNet with associative embedding, and HigherHRNet (Cheng et al., CVPR 2020).

Parameter names and shapes are those of HRNet/HigherHRNet-Human-Pose-Estimation `pose_higher_hrnet`; mmpose's are the
same behind `backbone.` and `head.` (v0: `keypoint_head.`).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgepose.export.networks.hrnet import HRNet
from edgepose.export.networks.simple_baseline import BasicBlock

BLOCKS = 4  # after the deconvolution


class TaggedHRNet(HRNet):
    """Images (n, 3, H, W) -> heat maps (n, K, H/4, W/4) and tags of the same shape; H and W multiples of 32.

    Args:
        width: channels of the branch of stride 4. Published: 32 and 48.
        num_keypoints: K.
    """

    def __init__(self, width: int, num_keypoints: int) -> None:
        super().__init__(width, 2 * num_keypoints)
        self.num_keypoints = num_keypoints

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (n, 3, H, W) -> heat maps and tags, each (n, K, H/4, W/4)."""
        maps = super().forward(images)
        return maps[:, : self.num_keypoints], maps[:, self.num_keypoints :]


class HigherHRNet(HRNet):
    """Images (n, 3, H, W) -> heat maps and tags, each (n, K, H/2, W/2); H and W multiples of 32.

    The network makes heat maps and tags at a quarter of the image's size and heat maps at half of it. As published, the
    heat maps are averaged at the larger size, to which the tags are enlarged; that is part of the exported
    graph.

    Args:
        width: channels of the branch of stride 4. Published: 32 and 48.
        num_keypoints: K.
    """

    def __init__(self, width: int, num_keypoints: int) -> None:
        super().__init__(width, 2 * num_keypoints)
        del self.final_layer  # it is final_layers.0 here
        self.num_keypoints = num_keypoints
        self.final_layers = nn.ModuleList([nn.Conv2d(width, 2 * num_keypoints, 1), nn.Conv2d(width, num_keypoints, 1)])
        deconvolution = nn.Sequential(
            nn.ConvTranspose2d(width + 2 * num_keypoints, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        blocks = (nn.Sequential(BasicBlock(width, width, 1, None)) for _ in range(BLOCKS))
        self.deconv_layers = nn.ModuleList([nn.Sequential(deconvolution, *blocks)])

    def both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Heat maps and tags (n, 2 K, H/4, W/4), and heat maps (n, K, H/2, W/2)."""
        features = self.features(images)
        quarter = self.final_layers[0](features)
        return quarter, self.final_layers[1](self.deconv_layers[0](torch.cat([features, quarter], dim=1)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (n, 3, H, W) -> heat maps and tags, each (n, K, H/2, W/2)."""
        quarter, half = self.both(images)
        enlarged = functional.interpolate(quarter, scale_factor=2, mode="bilinear", align_corners=False)
        heatmaps = (enlarged[:, : self.num_keypoints] + half) / 2
        return heatmaps, enlarged[:, self.num_keypoints :]
