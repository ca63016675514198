"""Hourglass-52: one hourglass (Newell et al., ECCV 2016) of residual blocks, in mmpose's form, which is that of
CornerNet (Law and Deng, ECCV 2018).

Parameter names and shapes are those of mmpose's HourglassNet and its head, without `backbone.` and `head.`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgepose.export.networks.layers import ConvNorm
from edgepose.export.networks.simple_baseline import BasicBlock

CHANNELS = (256, 256, 384, 384, 384, 512)  # per level, from the finest
BLOCKS = (2, 2, 2, 2, 2, 4)


class Hourglass52(nn.Module):
    """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4); H and W multiples of 128.

    Args:
        num_keypoints: K.
    """

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        width = CHANNELS[0]
        self.stem = nn.Sequential(ConvNorm(3, 128, 7, stride=2), _blocks(1, 128, width, stride=2))
        self.hourglass_modules = nn.ModuleList([_Hourglass(CHANNELS, BLOCKS)])
        # between one hourglass and the next: published files have it, a single hourglass does not run it
        self.inters = nn.ModuleList([BasicBlock(width, width, 1, None)])
        self.out_convs = nn.ModuleList([ConvNorm(width, width, 3)])
        self.multi_final_layers = nn.ModuleList([nn.Conv2d(width, num_keypoints, 1)])

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4)."""
        x = self.hourglass_modules[0](self.stem(crops))
        return self.multi_final_layers[0](self.out_convs[0](x))


class _Hourglass(nn.Module):
    """A level: blocks at full size, plus the next level at half size brought back."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        here, below = channels[:2]
        self.up1 = _blocks(blocks[0], here, here)
        self.low1 = _blocks(blocks[0], here, below, stride=2)
        self.low2 = _Hourglass(channels[1:], blocks[1:]) if len(channels) > 2 else _blocks(blocks[1], below, below)
        self.low3 = _blocks(blocks[0], below, here, change_at_end=True)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) -> (n, C, h, w)."""
        return self.up1(x) + self.up2(self.low3(self.low2(self.low1(x))))


def _blocks(
    count: int, in_channels: int, out_channels: int, *, stride: int = 1, change_at_end: bool = False
) -> nn.Sequential:
    """Residual blocks, of which the first (or the last) changes the size and the channels."""
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )
    changing = BasicBlock(in_channels, out_channels, stride, shortcut)
    width = in_channels if change_at_end else out_channels
    others = [BasicBlock(width, width, 1, None) for _ in range(count - 1)]
    return nn.Sequential(*others, changing) if change_at_end else nn.Sequential(changing, *others)
