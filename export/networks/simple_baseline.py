"""SimpleBaseline (Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018).

A ResNet (He et al., CVPR 2016), three deconvolutions, and a 1x1 convolution to one heat map per key point.
Parameter names and shapes are those of microsoft/human-pose-estimation.pytorch `pose_resnet`.
"""

from __future__ import annotations

import torch
from torch import nn

BASIC, BOTTLENECK = 1, 4  # how many times wider a block's output is than its planes

LAYERS = {  # depth -> blocks per stage, expansion
    18: ((2, 2, 2, 2), BASIC),
    34: ((3, 4, 6, 3), BASIC),
    50: ((3, 4, 6, 3), BOTTLENECK),
    101: ((3, 4, 23, 3), BOTTLENECK),
    152: ((3, 8, 36, 3), BOTTLENECK),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, planes: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, planes, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; the stride is on the second, in "caffe" style on the first."""

    def __init__(
        self, in_channels: int, planes: int, stride: int, downsample: nn.Module | None, *, caffe_style: bool
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if caffe_style else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, planes, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * BOTTLENECK, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * BOTTLENECK)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, 4 * planes, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + shortcut)


class SimpleBaseline(nn.Module):
    """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4); H and W multiples of 32.

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_keypoints: K.
        caffe_style: stride on the first convolution of a bottleneck (depth 50 and up).
        planes: planes of the four stages; the published networks have the default.
        deconv_filters: channels of the three deconvolutions; the published networks have 256.
    """

    def __init__(
        self,
        depth: int,
        num_keypoints: int,
        *,
        caffe_style: bool = False,
        planes: tuple[int, int, int, int] = (64, 128, 256, 512),
        deconv_filters: int = 256,
    ) -> None:
        super().__init__()
        blocks, expansion = LAYERS[depth]
        self.conv1 = nn.Conv2d(3, planes[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = planes[0]
        for stage, (count, width) in enumerate(zip(blocks, planes, strict=True), start=1):
            layer = []
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                shortcut = _shortcut(channels, width * expansion, stride)
                if expansion == BASIC:
                    layer.append(BasicBlock(channels, width, stride, shortcut))
                else:
                    layer.append(Bottleneck(channels, width, stride, shortcut, caffe_style=caffe_style))
                channels = width * expansion
            setattr(self, f"layer{stage}", nn.Sequential(*layer))
        deconvolutions: list[nn.Module] = []
        for _ in range(3):
            deconvolutions += [
                nn.ConvTranspose2d(channels, deconv_filters, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(deconv_filters),
                nn.ReLU(),
            ]
            channels = deconv_filters
        self.deconv_layers = nn.Sequential(*deconvolutions)
        self.final_layer = nn.Conv2d(channels, num_keypoints, 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4)."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(crops))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.final_layer(self.deconv_layers(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
