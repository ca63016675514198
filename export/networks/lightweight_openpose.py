"""Lightweight OpenPose (Osokin, "Real-time 2D Multi-Person Pose Estimation on CPU", arXiv 1811.12004).

A MobileNet at stride 8, whose last downsampling is a dilation, then stages that each see the image's features and the
maps of the stage before. Parameter names and shapes are those of
Daniil-Osokin/lightweight-human-pose-estimation.pytorch `PoseEstimationWithMobileNet`.
"""

from __future__ import annotations

import torch
from torch import nn

TRUNK = (  # channels, stride and dilation of the depthwise blocks
    (64, 1, 1), (128, 2, 1), (128, 1, 1), (256, 2, 1), (256, 1, 1), (512, 1, 1),
    (512, 1, 2), (512, 1, 1), (512, 1, 1), (512, 1, 1), (512, 1, 1),
)  # fmt: skip
STAGE = 128  # channels of the image's features and inside the stages
INITIAL_HEAD = 512
BLOCKS = 5  # of a refinement stage


class LightweightOpenPose(nn.Module):
    """Images (n, 3, H, W) -> the last stage's heat maps (n, K + 1, H/8, W/8) and fields (n, 2 L, H/8, W/8).

    Args:
        heatmaps: K + 1.
        fields: 2 L.
        refinements: stages after the first. Published: 1 (its COCO checkpoint) and more.
    """

    def __init__(self, heatmaps: int = 19, fields: int = 38, refinements: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, stride=2, norm=True, bias=False)]
        width = 32
        for channels, stride, dilation in TRUNK:
            layers.append(_depthwise(width, channels, stride, dilation))
            width = channels
        self.model = nn.Sequential(*layers)
        self.cpm = _Features(width)
        self.initial_stage = _InitialStage(heatmaps, fields)
        self.refinement_stages = nn.ModuleList(_RefinementStage(heatmaps, fields) for _ in range(refinements))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (n, 3, H, W) -> heat maps (n, K + 1, H/8, W/8), fields (n, 2 L, H/8, W/8)."""
        features = self.cpm(self.model(images))
        heatmaps, fields = self.initial_stage(features)
        for stage in self.refinement_stages:
            heatmaps, fields = stage(torch.cat([features, heatmaps, fields], dim=1))
        return heatmaps, fields


class _Features(nn.Module):
    """(n, C, h, w) -> (n, 128, h, w): the trunk's output narrowed, with a few more layers added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.align = _conv(channels, STAGE, 1)
        self.trunk = nn.Sequential(*(_depthwise_without_norm(STAGE) for _ in range(3)))
        self.conv = _conv(STAGE, STAGE, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.align(x)
        return self.conv(x + self.trunk(x))


class _InitialStage(nn.Module):
    def __init__(self, heatmaps: int, fields: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(_conv(STAGE, STAGE, 3) for _ in range(3)))
        self.heatmaps, self.pafs = (
            nn.Sequential(_conv(STAGE, INITIAL_HEAD, 1), _conv(INITIAL_HEAD, channels, 1, relu=False))
            for channels in (heatmaps, fields)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.trunk(x)
        return self.heatmaps(x), self.pafs(x)


class _RefinementStage(nn.Module):
    def __init__(self, heatmaps: int, fields: int) -> None:
        super().__init__()
        widths = [STAGE + heatmaps + fields, *[STAGE] * (BLOCKS - 1)]
        self.trunk = nn.Sequential(*(_RefinementBlock(width) for width in widths))
        self.heatmaps, self.pafs = (
            nn.Sequential(_conv(STAGE, STAGE, 1), _conv(STAGE, channels, 1, relu=False))
            for channels in (heatmaps, fields)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.trunk(x)
        return self.heatmaps(x), self.pafs(x)


class _RefinementBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.initial = _conv(channels, STAGE, 1)
        self.trunk = nn.Sequential(_conv(STAGE, STAGE, 3, norm=True), _conv(STAGE, STAGE, 3, norm=True, dilation=2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.initial(x)
        return x + self.trunk(x)


def _conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    norm: bool = False,
    bias: bool = True,
    relu: bool = True,
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=bias)]
    layers += [nn.BatchNorm2d(out_channels)] if norm else []
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def _depthwise(in_channels: int, out_channels: int, stride: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, dilation, dilation, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _depthwise_without_norm(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.ELU(),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.ELU(),
    )
