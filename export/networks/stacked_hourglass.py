"""Stacked Hourglass (Newell et al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016).

Hourglasses in a row, each correcting the heat maps of the one before; only the last one's are an output.
Two published forms, of the same idea with other names and other layers around the hourglasses:

* `BearpawHourglass`: names and shapes of bearpaw/pytorch-pose `HourglassNet` with one block a place.
* `PrincetonHourglass`: those of princeton-vl/pytorch_stacked_hourglass `PoseNet`, without `model.module.`;
  the original takes (n, H, W, 3), this one (n, 3, H, W).
"""

from __future__ import annotations

import torch
from torch import nn

from edgepose.export.networks.layers import ConvNorm

WIDTH = 256
LEVELS = 4  # times an hourglass halves its input


class BearpawHourglass(nn.Module):
    """Crops (n, 3, H, W) -> the last stack's heat maps (n, K, H/4, W/4); H and W multiples of 64.

    Args:
        stacks: hourglasses in a row; published: 1, 2 and 8.
        num_keypoints: K.
    """

    def __init__(self, stacks: int, num_keypoints: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_BearpawBlock(64, 128))
        self.maxpool = nn.MaxPool2d(2)
        self.layer2 = nn.Sequential(_BearpawBlock(128, WIDTH))
        self.layer3 = nn.Sequential(_BearpawBlock(WIDTH, WIDTH))
        self.hg = nn.ModuleList(_BearpawLevels() for _ in range(stacks))
        self.res = nn.ModuleList(nn.Sequential(_BearpawBlock(WIDTH, WIDTH)) for _ in range(stacks))
        self.fc = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.ReLU()) for _ in range(stacks)
        )
        self.score = nn.ModuleList(nn.Conv2d(WIDTH, num_keypoints, 1) for _ in range(stacks))
        self.fc_ = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(stacks - 1))
        self.score_ = nn.ModuleList(nn.Conv2d(num_keypoints, WIDTH, 1) for _ in range(stacks - 1))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4)."""
        x = self.layer1(torch.relu(self.bn1(self.conv1(crops))))
        x = self.layer3(self.layer2(self.maxpool(x)))
        for stack in range(len(self.hg) - 1):
            features = self.fc[stack](self.res[stack](self.hg[stack](x)))
            x = x + self.fc_[stack](features) + self.score_[stack](self.score[stack](features))
        return self.score[-1](self.fc[-1](self.res[-1](self.hg[-1](x))))


class _BearpawBlock(nn.Module):
    """A bottleneck whose BatchNorm and ReLU come before each convolution (He et al., ECCV 2016)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        planes = out_channels // 2
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, planes, 1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1)
        changes = in_channels != out_channels
        self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1)) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h, w)."""
        shortcut = self.downsample(x)
        x = self.conv1(torch.relu(self.bn1(x)))
        x = self.conv2(torch.relu(self.bn2(x)))
        return self.conv3(torch.relu(self.bn3(x))) + shortcut


class _BearpawLevels(nn.Module):
    """An hourglass; `hg.0` is its innermost level, and its last entry runs at the smallest size."""

    def __init__(self) -> None:
        super().__init__()
        self.hg = nn.ModuleList(
            nn.ModuleList(nn.Sequential(_BearpawBlock(WIDTH, WIDTH)) for _ in range(4 if level == 0 else 3))
            for level in range(LEVELS)
        )
        self.pool = nn.MaxPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: torch.Tensor, level: int = LEVELS - 1) -> torch.Tensor:
        """(n, 256, h, w) -> (n, 256, h, w)."""
        at_full_size, before, after = self.hg[level][:3]
        low = before(self.pool(x))
        low = self.forward(low, level - 1) if level else self.hg[0][3](low)
        return at_full_size(x) + self.upsample(after(low))


class PrincetonHourglass(nn.Module):
    """Crops (n, 3, H, W) -> the last stack's heat maps (n, K, H/4, W/4); H and W multiples of 64.

    Args:
        stacks: hourglasses in a row; published: 2 and 8.
        num_keypoints: K.
    """

    def __init__(self, stacks: int, num_keypoints: int) -> None:
        super().__init__()
        self.pre = nn.Sequential(
            ConvNorm(3, 64, 7, stride=2, bias=True),
            _PrincetonBlock(64, 128),
            nn.MaxPool2d(2),
            _PrincetonBlock(128, 128),
            _PrincetonBlock(128, WIDTH),
        )
        self.hgs = nn.ModuleList(nn.Sequential(_PrincetonLevel(LEVELS)) for _ in range(stacks))
        self.features = nn.ModuleList(
            nn.Sequential(_PrincetonBlock(WIDTH, WIDTH), ConvNorm(WIDTH, WIDTH, 1, bias=True)) for _ in range(stacks)
        )
        self.outs = nn.ModuleList(_linear(WIDTH, num_keypoints) for _ in range(stacks))
        self.merge_features = nn.ModuleList(_Merge(WIDTH) for _ in range(stacks - 1))
        self.merge_preds = nn.ModuleList(_Merge(num_keypoints) for _ in range(stacks - 1))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4)."""
        x = self.pre(crops)
        for stack in range(len(self.hgs) - 1):
            features = self.features[stack](self.hgs[stack](x))
            x = x + self.merge_preds[stack](self.outs[stack](features)) + self.merge_features[stack](features)
        return self.outs[-1](self.features[-1](self.hgs[-1](x)))


class _PrincetonBlock(nn.Module):
    """The same bottleneck; published files hold a `skip_layer` even where the block does not run it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        planes = out_channels // 2
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = _linear(in_channels, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = _linear(planes, planes, 3)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = _linear(planes, out_channels)
        self.skip_layer = _linear(in_channels, out_channels)
        self.changes = in_channels != out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h, w)."""
        shortcut = self.skip_layer(x) if self.changes else x
        x = self.conv1(torch.relu(self.bn1(x)))
        x = self.conv2(torch.relu(self.bn2(x)))
        return self.conv3(torch.relu(self.bn3(x))) + shortcut


class _PrincetonLevel(nn.Module):
    """A level of an hourglass: a block at full size, plus the levels below at half size brought back."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.up1 = _PrincetonBlock(WIDTH, WIDTH)
        self.pool1 = nn.MaxPool2d(2)
        self.low1 = _PrincetonBlock(WIDTH, WIDTH)
        self.low2 = _PrincetonLevel(levels - 1) if levels > 1 else _PrincetonBlock(WIDTH, WIDTH)
        self.low3 = _PrincetonBlock(WIDTH, WIDTH)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 256, h, w) -> (n, 256, h, w)."""
        return self.up1(x) + self.up2(self.low3(self.low2(self.low1(self.pool1(x)))))


class _Merge(nn.Module):
    """Brings features or heat maps back to the width of the next stack."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = _linear(in_channels, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, 256, h, w)."""
        return self.conv(x)


def _linear(in_channels: int, out_channels: int, kernel: int = 1) -> ConvNorm:
    return ConvNorm(in_channels, out_channels, kernel, norm=False, relu=False)
