"""Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

The crop goes through the network at three resolutions, and what each band finds is added up at a quarter of the crop's
size. From the paper: the bands with their own weights, and SpatialDropout on what they found. Newer than the paper:
residual blocks (He et al., CVPR 2016) with BatchNorm in place of plain convolutions and contrast normalisation.

The paper refines the coarse estimate with a second network on its features; here the same network is run again on a
closer crop around each key point, so both passes share all weights (see edgepose/estimate/two_pass.py).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgepose.export.networks.layers import ConvNorm
from edgepose.export.networks.simple_baseline import BasicBlock


class Band(nn.Sequential):
    """(n, 3, h, w) -> (n, width, h / 4, w / 4)."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__(
            ConvNorm(3, width // 2, 3, stride=2),
            ConvNorm(width // 2, width, 3, stride=2),
            *(BasicBlock(width, width, 1, None) for _ in range(blocks)),
        )


class EfficientObjectLocalization(nn.Module):
    """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4); H and W multiples of 16.

    Args:
        num_keypoints: K.
        widths: channels of the bands, the full resolution first, then half, then a quarter.
        blocks: residual blocks of each band.
        head_width: channels in which the bands meet.
        dropout: share of the channels that SpatialDropout leaves out in training.
    """

    def __init__(
        self,
        num_keypoints: int,
        *,
        widths: tuple[int, int, int] = (32, 64, 128),
        blocks: tuple[int, int, int] = (2, 3, 4),
        head_width: int = 48,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.bands = nn.ModuleList(Band(*sizes) for sizes in zip(widths, blocks, strict=True))
        # A sum of 1x1 convolutions is one on the concatenated bands; this way what is upsampled is narrow, and in INT8
        # each band keeps a range of its own.
        self.meets = nn.ModuleList(ConvNorm(width, head_width, 1, relu=False) for width in widths)
        self.dropout = nn.Dropout2d(dropout)
        self.head = BasicBlock(head_width, head_width, 1, None)
        self.final_layer = nn.Conv2d(head_width, num_keypoints, 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4)."""
        met = None
        for level, (band, meet) in enumerate(zip(self.bands, self.meets, strict=True)):
            if level > 0:
                crops = functional.avg_pool2d(crops, 2)
            found = meet(band(crops))
            if level > 0:
                found = functional.interpolate(found, scale_factor=2**level, mode="nearest")
            met = found if met is None else met + found
        return self.final_layer(self.head(self.dropout(torch.relu(met))))
