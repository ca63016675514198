"""HRNet (Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019).

Branches of stride 4, 8, 16 and 32 run side by side and exchange their maps after every fourth block; the heat maps
are read from the branch of stride 4. Parameter names and shapes are those of
leoxiaobin/deep-high-resolution-net.pytorch `pose_hrnet`; mmpose's are the same behind `backbone.` and `head.`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgepose.export.networks.simple_baseline import BOTTLENECK, BasicBlock, Bottleneck

STEM = 64
MODULES = (1, 4, 3)  # of stages 2, 3 and 4, which have 2, 3 and 4 branches
BLOCKS = 4  # per branch of a module, and in layer1


class HRNet(nn.Module):
    """Crops (n, 3, H, W) -> heat maps (n, C, H/4, W/4); H and W multiples of 32.

    Args:
        width: channels of the branch of stride 4; each further one has twice as many. Published: 32 and 48.
        out_channels: C; the number of key points, or three times that for UDP's combined target.
    """

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        channels = [width * 2**branch for branch in range(4)]
        self.conv1 = nn.Conv2d(3, STEM, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM)
        expanded = STEM * BOTTLENECK
        self.layer1 = nn.Sequential(
            Bottleneck(STEM, STEM, 1, _conv_norm(STEM, expanded, 1), caffe_style=False),
            *(Bottleneck(expanded, STEM, 1, None, caffe_style=False) for _ in range(BLOCKS - 1)),
        )
        self.transition1 = nn.ModuleList(
            [
                _conv_norm(expanded, channels[0], 3, relu=True),
                nn.Sequential(_conv_norm(expanded, channels[1], 3, stride=2, relu=True)),
            ]
        )
        self.stage2 = _stage(channels[:2], MODULES[0])
        self.transition2 = _transition(channels[:3])
        self.stage3 = _stage(channels[:3], MODULES[1])
        self.transition3 = _transition(channels)
        self.stage4 = _stage(channels, MODULES[2], last=True)
        self.final_layer = nn.Conv2d(width, out_channels, 1)

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> the branch of stride 4, (n, width, H/4, W/4)."""
        x = torch.relu(self.bn1(self.conv1(crops)))
        x = self.layer1(torch.relu(self.bn2(self.conv2(x))))
        maps = self.stage2([step(x) for step in self.transition1])
        for transition, stage in ((self.transition2, self.stage3), (self.transition3, self.stage4)):
            maps = stage([step(x) for step, x in zip(transition, [*maps, maps[-1]], strict=True)])
        return maps[0]

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> heat maps (n, C, H/4, W/4)."""
        return self.final_layer(self.features(crops))


class HighResolutionModule(nn.Module):
    """Four blocks on each branch, then every output is the sum of all branches brought to its size.

    Args:
        channels: of each branch; each has half the height and width of the one before.
        outputs: how many branches to compute, counted from the finest.
    """

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(count, count, 1, None) for _ in range(BLOCKS))) for count in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """One map per branch -> one map per output, of the branches' shapes."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for exchanges in self.fuse_layers:
            total, *others = [exchange(x) for exchange, x in zip(exchanges, maps, strict=True)]
            for other in others:
                total = total + other
            fused.append(torch.relu(total))
        return fused


def _stage(channels: Sequence[int], modules: int, *, last: bool = False) -> nn.Sequential:
    """Modules in a row; the network's last one computes its finest branch only."""
    outputs = [len(channels)] * modules
    if last:
        outputs[-1] = 1
    return nn.Sequential(*(HighResolutionModule(channels, count) for count in outputs))


def _transition(channels: Sequence[int]) -> nn.ModuleList:
    """Keeps the branches there are and makes the coarsest of `channels` from the last of them."""
    kept = [nn.Identity() for _ in channels[:-1]]
    return nn.ModuleList([*kept, nn.Sequential(_conv_norm(channels[-2], channels[-1], 3, stride=2, relu=True))])


def _exchange(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """Brings branch `source` to the size and channels of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        factor = 2 ** (source - target)
        return nn.Sequential(
            *_conv_norm(channels[source], channels[target], 1), nn.Upsample(scale_factor=factor, mode="nearest")
        )
    steps = [_conv_norm(channels[source], channels[source], 3, stride=2, relu=True) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, _conv_norm(channels[source], channels[target], 3, stride=2))


def _conv_norm(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, relu: bool = False
) -> nn.Sequential:
    layers = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)
