"""A small one-class detector of the project's own: a residual trunk, a feature pyramid, one head for three strides.

The parts are published ones: residual blocks (He et al., CVPR 2016), the feature pyramid (Lin et al., CVPR 2017), and
an anchor-free head that gives each cell a score and its distances to the four sides of a box (Tian et al., "FCOS",
ICCV 2019).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from edgepose.export.networks.layers import ConvNorm
from edgepose.export.networks.simple_baseline import BasicBlock, _shortcut

STRIDES = (8, 16, 32)
LARGEST_LOGARITHM = 4.0  # of a distance in strides: a person wider than 2 * 54 strides is not told exactly
RARE = 0.01  # the score that an untrained network gives: most cells are nobody's


class PersonDetector(nn.Module):
    """Pictures (n, 3, H, W) -> scores (n, A, 1) and boxes (n, A, 4); H and W multiples of 32.

    The A cells come stride by stride (8, 16, 32), row by row. Boxes are left, top, right, bottom in input pixels.

    Args:
        widths: channels at the strides 2, 4, 8, 16 and 32.
        blocks: residual blocks at the strides 4, 8, 16 and 32.
        neck: channels of the pyramid and of the head.
    """

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...], neck: int) -> None:
        super().__init__()
        self.stem = ConvNorm(3, widths[0], 3, stride=2)
        stages = []
        for before, width, count in zip(widths[:-1], widths[1:], blocks, strict=True):
            layers: list[nn.Module] = [BasicBlock(before, width, 2, _shortcut(before, width, 2))]
            layers += [BasicBlock(width, width, 1, None) for _ in range(count - 1)]
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(ConvNorm(width, neck, 1) for width in widths[-3:])
        self.smooth = nn.ModuleList(ConvNorm(neck, neck, 3) for _ in STRIDES)
        self.head_scores = ConvNorm(neck, neck, 3)
        self.head_boxes = ConvNorm(neck, neck, 3)
        self.scores = nn.Conv2d(neck, 1, 1)
        self.boxes = nn.Conv2d(neck, 4, 1)
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.normal_(self.boxes.weight, std=0.01)
        assert self.scores.bias is not None
        assert self.boxes.bias is not None
        nn.init.constant_(self.scores.bias, -math.log((1 - RARE) / RARE))
        nn.init.constant_(self.boxes.bias, 1.0)

    def raw(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, A) logits and (n, A, 4) logarithms of the distances from the cell's centre, in strides."""
        x = self.stem(pictures)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        merged = [lateral(level) for lateral, level in zip(self.lateral, levels[-3:], strict=True)]
        for i in (1, 0):
            merged[i] = merged[i] + nn.functional.interpolate(merged[i + 1], scale_factor=2.0, mode="nearest")
        logits, distances = [], []
        for smooth, level in zip(self.smooth, merged, strict=True):
            level = smooth(level)
            logits.append(self.scores(self.head_scores(level)).flatten(2))
            distances.append(self.boxes(self.head_boxes(level)).flatten(2))
        return torch.cat(logits, 2)[:, 0], torch.cat(distances, 2).transpose(1, 2)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3, H, W) -> scores (n, A, 1) from 0 to 1, boxes (n, A, 4)."""
        logits, distances = self.raw(pictures)
        centers, strides = cells((int(pictures.shape[2]), int(pictures.shape[3])))
        return torch.sigmoid(logits)[..., None], boxes_of(distances, centers, strides)


def cells(input_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The cells' centres (A, 2) and strides (A, 1), input pixels, in the order of the network's outputs."""
    centers, strides = [], []
    for stride in STRIDES:
        rows, columns = (torch.arange(side // stride, dtype=torch.float32) for side in input_hw)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centers.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((len(centers[-1]), 1), float(stride)))
    return torch.cat(centers), torch.cat(strides)


def boxes_of(distances: torch.Tensor, centers: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
    """(n, A, 4) logarithms of distances in strides -> left, top, right, bottom in input pixels."""
    reach = torch.exp(distances.clamp(max=LARGEST_LOGARITHM)) * strides
    return torch.cat([centers - reach[..., :2], centers + reach[..., 2:]], -1)
