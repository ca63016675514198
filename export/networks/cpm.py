"""Convolutional Pose Machines (Wei et al., CVPR 2016) in mmpose's form: no centre map, BatchNorm, six stages.

Each stage sees features of the image and the heat maps of the stage before, through 11x11 convolutions.
Parameter names and shapes are those of mmpose's CPM without their leading `backbone.`; its head has no parameters.
"""

from __future__ import annotations

import torch
from torch import nn

from edgepose.export.networks.layers import ConvNorm

CHANNELS = 128
FEATURES = 32  # channels of the image features that a stage sees beside the heat maps
STAGES = 6


class CPM(nn.Module):
    """Crops (n, 3, H, W) -> the last stage's heat maps (n, K, H/8, W/8); H and W multiples of 8.

    Args:
        num_keypoints: K.
    """

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        later = range(STAGES - 1)
        self.stem = nn.Sequential(
            *_trunk(),
            ConvNorm(CHANNELS, FEATURES, 5),
            ConvNorm(FEATURES, 512, 9),
            ConvNorm(512, 512, 1),
            ConvNorm(512, num_keypoints, 1, norm=False, relu=False),
        )
        self.middle = nn.Sequential(*_trunk())
        self.cpm_stages = nn.ModuleList(_Stage(num_keypoints + FEATURES) for _ in later)
        self.middle_conv = nn.ModuleList(nn.Sequential(ConvNorm(CHANNELS, FEATURES, 5)) for _ in later)
        self.out_convs = nn.ModuleList(
            nn.Sequential(ConvNorm(CHANNELS, CHANNELS, 1), ConvNorm(CHANNELS, num_keypoints, 1, norm=False, relu=False))
            for _ in later
        )

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> heat maps (n, K, H/8, W/8)."""
        heatmaps = self.stem(crops)
        image_features = self.middle(crops)
        for stage, features, out in zip(self.cpm_stages, self.middle_conv, self.out_convs, strict=True):
            heatmaps = out(stage(torch.cat([heatmaps, features(image_features)], dim=1)))
        return heatmaps


class _Stage(nn.Module):
    """Three 11x11 convolutions: at stride 8 they see a quarter of the person from every place."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            ConvNorm(in_channels, CHANNELS, 11), ConvNorm(CHANNELS, CHANNELS, 11), ConvNorm(CHANNELS, CHANNELS, 11)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, 128, h, w)."""
        return self.model(x)


def _trunk() -> list[nn.Module]:
    """(n, 3, H, W) -> (n, 128, H/8, W/8)."""
    layers: list[nn.Module] = []
    for in_channels in (3, CHANNELS, CHANNELS):
        layers += [ConvNorm(in_channels, CHANNELS, 9), nn.MaxPool2d(3, stride=2, padding=1)]
    return layers
