"""CSPNeXt (Lyu et al., "RTMDet: An Empirical Study of Designing Real-Time Object Detectors", 2022): trunk and neck.

Parameter names and shapes are those of mmpose's `CSPNeXt` (arch P5) and `CSPNeXtPAFPN`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

STAGES = (  # channels, blocks, with shortcuts, with spatial pyramid pooling; at width and depth 1
    (128, 3, True, False),
    (256, 6, True, False),
    (512, 6, True, False),
    (1024, 3, False, True),
)
STEM = 64  # channels after the stem, at width 1
SIZES = {  # name -> width, depth
    "t": (0.375, 0.167),
    "s": (0.5, 0.33),
    "m": (0.75, 0.67),
    "l": (1.0, 1.0),
    "x": (1.25, 1.33),
}


class ConvSilu(nn.Module):
    """A convolution that keeps the size (or divides it by the stride), BatchNorm, SiLU: `conv` and `bn` by name."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h / stride, w / stride)."""
        return functional.silu(self.bn(self.conv(x)))


class CSPNeXt(nn.Module):
    """Crops (n, 3, H, W) -> the maps at strides 8, 16 and 32; H and W multiples of 32.

    Args:
        width, depth: what the channels and the blocks of STAGES are multiplied by.
        last_stride: of the last stage, 2 in the published networks; with 1 its map has stride 16 too.
    """

    def __init__(self, width: float, depth: float, last_stride: int = 2) -> None:
        super().__init__()
        channels = int(STEM * width)
        half = int(STEM * width // 2)
        self.stem = nn.Sequential(ConvSilu(3, half, 3, stride=2), ConvSilu(half, half, 3), ConvSilu(half, channels, 3))
        for number, (full, blocks, shortcut, pooled) in enumerate(STAGES, start=1):
            out_channels = int(full * width)
            count = max(round(blocks * depth), 1)
            stride = last_stride if number == len(STAGES) else 2
            layers: list[nn.Module] = [ConvSilu(channels, out_channels, 3, stride)]
            if pooled:
                layers.append(SpatialPyramid(out_channels))
            layers.append(CSPLayer(out_channels, out_channels, count, shortcut=shortcut, attention=True))
            setattr(self, f"stage{number}", nn.Sequential(*layers))
            channels = out_channels

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Crops (n, 3, H, W) -> maps of H/8, H/16 and H/32 rows."""
        eighth = self.stage2(self.stage1(self.stem(crops)))
        sixteenth = self.stage3(eighth)
        return eighth, sixteenth, self.stage4(sixteenth)


class CSPLayer(nn.Module):
    """Two 1x1 branches, one of them through `blocks`; joined, weighed by channel, and mixed."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, *, shortcut: bool, attention: bool) -> None:
        super().__init__()
        middle = out_channels // 2
        self.main_conv = ConvSilu(in_channels, middle, 1)
        self.short_conv = ConvSilu(in_channels, middle, 1)
        self.final_conv = ConvSilu(2 * middle, out_channels, 1)
        self.blocks = nn.Sequential(*(_Block(middle, shortcut=shortcut) for _ in range(blocks)))
        self.attention = _ChannelAttention(2 * middle) if attention else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h, w)."""
        joined = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], dim=1)
        return self.final_conv(self.attention(joined))


class _Block(nn.Module):
    """A 3x3 convolution and a 5x5 depthwise-separable one."""

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = ConvSilu(channels, channels, 3)
        self.conv2 = _Separable(channels, 5)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv2(self.conv1(x))
        return x + out if self.shortcut else out


class _Separable(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvSilu(channels, channels, kernel, groups=channels)
        self.pointwise_conv = ConvSilu(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class _ChannelAttention(nn.Module):
    """Each channel times a number between 0 and 1 that the means of all channels decide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * functional.hardsigmoid(self.fc(functional.adaptive_avg_pool2d(x, 1)))


class SpatialPyramid(nn.Module):
    """The map beside its maxima over 5, 9 and 13 px, mixed (He et al., "Spatial Pyramid Pooling", 2014)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvSilu(channels, channels // 2, 1)
        self.conv2 = ConvSilu(channels * 2, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) -> the same shape."""
        x = self.conv1(x)
        pooled = [functional.max_pool2d(x, kernel, stride=1, padding=kernel // 2) for kernel in (5, 9, 13)]
        return self.conv2(torch.cat([x, *pooled], dim=1))


class PathAggregation(nn.Module):
    """CSPNeXt's three maps -> two that know of each other, at strides 16 and 32.

    Args:
        channels: of the three maps.
        blocks: of each CSP layer.
    """

    def __init__(self, channels: Sequence[int], blocks: int = 2) -> None:
        super().__init__()
        eighth, sixteenth, last = channels

        def mix(in_channels: int, out_channels: int) -> CSPLayer:
            return CSPLayer(in_channels, out_channels, blocks, shortcut=False, attention=False)

        self.reduce_layers = nn.ModuleList([ConvSilu(last, sixteenth, 1), ConvSilu(sixteenth, eighth, 1)])
        self.top_down_blocks = nn.ModuleList([mix(2 * sixteenth, sixteenth), mix(2 * eighth, eighth)])
        self.downsamples = nn.ModuleList([ConvSilu(eighth, eighth, 3, stride=2), ConvSilu(sixteenth, sixteenth, 3, 2)])
        self.bottom_up_blocks = nn.ModuleList([mix(2 * eighth, sixteenth), mix(2 * sixteenth, last)])

    def forward(self, maps: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps at strides 8, 16 and 32 -> maps at strides 16 and 32, of the channels they had."""
        eighth, sixteenth, last = maps
        last = self.reduce_layers[0](last)
        sixteenth = self.top_down_blocks[0](torch.cat([_twice(last), sixteenth], dim=1))
        sixteenth = self.reduce_layers[1](sixteenth)
        eighth = self.top_down_blocks[1](torch.cat([_twice(sixteenth), eighth], dim=1))
        sixteenth = self.bottom_up_blocks[0](torch.cat([self.downsamples[0](eighth), sixteenth], dim=1))
        last = self.bottom_up_blocks[1](torch.cat([self.downsamples[1](sixteenth), last], dim=1))
        return sixteenth, last


def _twice(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
