"""The linear lifter of Martinez et al. (ICCV 2017): the key points of one frame to positions in space."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class _Stage(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.batch_norm1 = nn.Linear(width, width), nn.BatchNorm2d(width)
        self.w2, self.batch_norm2 = nn.Linear(width, width), nn.BatchNorm2d(width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.batch_norm1(_linear(values, self.w1)))
        return values + functional.relu(self.batch_norm2(_linear(inner, self.w2)))


class LinearLifter(nn.Module):
    """Keys and shapes are those of 3d_pose_baseline_pytorch's `LinearModel`.

    Args:
        points_in, points_out: how many key points go in and come out; published: 16 and 16, the root not among the
            latter.
        width: of every hidden layer.
        stages: how many pairs of hidden layers with a bridge over them.
    """

    def __init__(self, points_in: int = 16, points_out: int = 16, *, width: int = 1024, stages: int = 2) -> None:
        super().__init__()
        self.frames, self.points_in, self.points_out = 1, points_in, points_out
        self.w1, self.batch_norm1 = nn.Linear(2 * points_in, width), nn.BatchNorm2d(width)
        self.linear_stages = nn.ModuleList(_Stage(width) for _ in range(stages))
        self.w2 = nn.Linear(width, 3 * points_out)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """(n, 1, K, 2) key points -> (n, K', 3) positions, both in units of the training set's mean and deviation."""
        values = points.reshape(-1, 2 * self.points_in, 1, 1)
        values = functional.relu(self.batch_norm1(_linear(values, self.w1)))
        for stage in self.linear_stages:
            values = stage(values)
        return _linear(values, self.w2).reshape(-1, self.points_out, 3)


def _linear(values: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """A linear layer as a convolution of images of one pixel, which is what calibration and DLA know."""
    assert isinstance(layer, nn.Linear)
    return functional.conv2d(values, layer.weight[:, :, None, None], layer.bias)
