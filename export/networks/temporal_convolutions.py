"""VideoPose3D's lifter (Pavllo et al., CVPR 2019): key points of some frames to one frame's positions in space.

The published network slides dilated convolutions over a whole video. Over one window it needs only every third (or
fifth, ...) of the values that they give, so the convolutions here have strides instead: the same weights under the same
names, the same result, and fewer operations. The published training does that too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class TemporalConvolutions(nn.Module):
    """Keys and shapes are those of VideoPose3D's `TemporalModel`.

    Args:
        points_in, points_out: how many key points go in and come out.
        widths: of the convolutions, odd; the window has as many frames as their product.
        causal: the result belongs to the window's last frame, not to its middle one.
        channels: of every hidden layer.
    """

    def __init__(
        self,
        points_in: int,
        points_out: int,
        widths: Sequence[int] = (3, 3, 3),
        *,
        causal: bool = False,
        channels: int = 1024,
    ) -> None:
        super().__init__()
        if not widths or any(width % 2 == 0 for width in widths):
            raise ValueError(f"widths must be odd numbers, got {tuple(widths)}")
        self.widths, self.causal = tuple(widths), causal
        self.points_in, self.points_out = points_in, points_out
        self.frames = math.prod(widths)
        self.expand_conv = nn.Conv1d(2 * points_in, channels, widths[0], bias=False)
        self.expand_bn = nn.BatchNorm2d(channels)
        pairs = [(nn.Conv1d(channels, channels, width, bias=False), nn.Conv1d(channels, channels, 1, bias=False))
                 for width in widths[1:]]  # fmt: skip
        self.layers_conv = nn.ModuleList(itertools.chain(*pairs))
        self.layers_bn = nn.ModuleList(nn.BatchNorm2d(channels) for _ in self.layers_conv)
        self.shrink = nn.Conv1d(channels, 3 * points_out, 1)
        self.dropout = nn.Dropout(0.25)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """(n, frames, K, 2) normalised key points -> (n, K, 3) positions relative to the root, metres."""
        values = points.reshape(-1, self.frames, 2 * self.points_in)
        values = values.transpose(1, 2).unsqueeze(3)  # (n, 2 K, frames, 1): images one column wide
        values = self._layer(values, self.expand_conv, self.expand_bn)
        for index, width in enumerate(self.widths[1:]):
            kept = values[:, :, width - 1 if self.causal else width // 2 :: width]
            values = self._layer(values, self.layers_conv[2 * index], self.layers_bn[2 * index])
            values = self._layer(values, self.layers_conv[2 * index + 1], self.layers_bn[2 * index + 1])
            values = kept + values
        return _over_time(values, self.shrink).reshape(-1, self.points_out, 3)

    def _layer(self, values: torch.Tensor, conv: nn.Module, norm: nn.Module) -> torch.Tensor:
        return self.dropout(functional.relu(norm(_over_time(values, conv))))


def _over_time(values: torch.Tensor, conv: nn.Module) -> torch.Tensor:
    """A convolution whose strides leave no frame out and take none twice, as one of images one column wide.

    TensorRT convolves images; of a 1-D convolution with Q/DQ pairs it makes one with layers in between.
    """
    assert isinstance(conv, nn.Conv1d)
    return functional.conv2d(values, conv.weight.unsqueeze(3), conv.bias, stride=(conv.weight.shape[2], 1))
