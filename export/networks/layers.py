"""A layer that several families share."""

from __future__ import annotations

import torch
from torch import nn


class ConvNorm(nn.Module):
    """A convolution that keeps the size (or divides it by the stride), BatchNorm, ReLU: `conv` and `bn` by name.

    Args:
        norm: without it the layer has no `bn`.
        relu: without it the layer is linear.
        bias: of the convolution; the default is to have one only where no BatchNorm follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        norm: bool = True,
        relu: bool = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        bias = not norm if bias is None else bias
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=bias)
        self.bn = nn.BatchNorm2d(out_channels) if norm else None
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h / stride, w / stride)."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return torch.relu(x) if self.relu else x
