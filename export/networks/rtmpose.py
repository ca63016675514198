"""RTMPose and RTMW: CSPNeXt with a head of one-dimensional classifiers.

RTMPose: Jiang et al., "RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose", 2023. RTMW: Jiang, Xie and
Li, "RTMW: Real-Time Multi-Person 2D and 3D Whole-body Pose Estimation", 2024. The idea of the head is SimCC's (Li et
al., ECCV 2022). Parameter names and shapes are mmpose's without its `backbone.` and `head.`.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from edgepose.export.networks.cspnext import SIZES, CSPNeXt, PathAggregation
from edgepose.export.networks.layers import ConvNorm

SPLIT_RATIO = 2  # bins a px of the input
TOKEN = 256  # width of a key point's token; its query has half of it, the gated unit twice of it
KERNEL = 7  # of the convolution that makes a map for each key point


class RTMPose(CSPNeXt):
    """Crops (n, 3, H, W) -> SimCC vectors (n, K, 2 W) and (n, K, 2 H).

    Args:
        num_keypoints: K.
        input_hw: H, W; multiples of 32.
        width, depth, last_stride: of the trunk; SIZES has the published ones.
        token: width of a key point's token.
    """

    def __init__(
        self,
        num_keypoints: int,
        input_hw: tuple[int, int],
        width: float,
        depth: float,
        *,
        last_stride: int = 2,
        token: int = TOKEN,
    ) -> None:
        super().__init__(width, depth, last_stride)
        self.input_hw = input_hw  # its tokens fit no other
        self.stride = 16 * last_stride
        cells = (input_hw[0] // self.stride) * (input_hw[1] // self.stride)
        self.final_layer = nn.Conv2d(int(1024 * width), num_keypoints, KERNEL, padding=KERNEL // 2)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, token, bias=False))
        self.gau = GatedAttention(token)
        self.cls_x = nn.Linear(token, input_hw[1] * SPLIT_RATIO, bias=False)
        self.cls_y = nn.Linear(token, input_hw[0] * SPLIT_RATIO, bias=False)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Crops (n, 3, H, W) -> vectors (n, K, 2 W) and (n, K, 2 H)."""
        features = super().forward(crops)[-1]
        tokens = self.gau(self.mlp(rows(self.final_layer(features), self.input_hw, self.stride)))
        return self.cls_x(tokens), self.cls_y(tokens)


class RTMW(CSPNeXt):
    """Crops (n, 3, H, W) -> SimCC vectors of x and y, and of z where it has them; tokens from two scales.

    Args:
        num_keypoints: K.
        input_hw: H, W; multiples of 32.
        width, depth: of the trunk.
        depth_bins: D of RTMW3D's third vector (n, K, D); 0 for RTMW, which has two.
    """

    def __init__(
        self, num_keypoints: int, input_hw: tuple[int, int], width: float, depth: float, depth_bins: int = 0
    ) -> None:
        super().__init__(width, depth)
        self.input_hw = input_hw  # its tokens fit no other
        channels = int(1024 * width)
        cells = (input_hw[0] // 32) * (input_hw[1] // 32)
        self.neck = PathAggregation((channels // 4, channels // 2, channels))
        self.conv_dec = ConvNorm(channels // 4, channels // 4, KERNEL)
        self.final_layer = ConvNorm(channels, num_keypoints, KERNEL)
        self.final_layer2 = ConvNorm(channels // 4 + channels // 2, num_keypoints, KERNEL)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, TOKEN // 2, bias=False))
        self.mlp2 = nn.Sequential(ScaleNorm(4 * cells), nn.Linear(4 * cells, TOKEN // 2, bias=False))
        self.gau = GatedAttention(TOKEN)
        self.cls_x = nn.Linear(TOKEN, input_hw[1] * SPLIT_RATIO, bias=False)
        self.cls_y = nn.Linear(TOKEN, input_hw[0] * SPLIT_RATIO, bias=False)
        self.cls_z = nn.Linear(TOKEN, depth_bins, bias=False) if depth_bins else None

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Crops (n, 3, H, W) -> vectors (n, K, 2 W), (n, K, 2 H) and, with `depth_bins`, (n, K, D)."""
        fine, coarse = self.neck(super().forward(crops))
        of_coarse = self.mlp(rows(self.final_layer(coarse), self.input_hw, 32))
        fine = torch.cat([self.conv_dec(functional.pixel_shuffle(coarse, 2)), fine], dim=1)
        of_fine = self.mlp2(rows(self.final_layer2(fine), self.input_hw, 16))
        tokens = self.gau(torch.cat([of_coarse, of_fine], dim=2))
        vectors = (self.cls_x(tokens), self.cls_y(tokens))
        return vectors if self.cls_z is None else (*vectors, self.cls_z(tokens))


def rows(maps: torch.Tensor, input_hw: tuple[int, int], stride: int) -> torch.Tensor:
    """(n, K, H/stride, W/stride) maps -> (n, K, cells); by numbers, so that the graph computes no shapes."""
    return maps.reshape(-1, int(maps.shape[1]), (input_hw[0] // stride) * (input_hw[1] // stride))


class ScaleNorm(nn.Module):
    """A vector divided by its root mean square (Nguyen and Salazar, "Transformers without Tears", 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = width**-0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) -> the same shape."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.scale
        return x / size.clamp(min=1e-5) * self.g


class GatedAttention(nn.Module):
    """The gated attention unit (Hua et al., "Transformer Quality in Linear Time", 2022) over key points' tokens.

    The attention is the square of a ReLU, without a softmax.
    """

    def __init__(self, token: int) -> None:
        super().__init__()
        wide, query = 2 * token, token // 2
        self.ln = ScaleNorm(token)
        self.uv = nn.Linear(token, 2 * wide + query, bias=False)
        self.gamma = nn.Parameter(torch.rand(2, query))
        self.beta = nn.Parameter(torch.rand(2, query))
        self.o = nn.Linear(wide, token, bias=False)
        self.res_scale = _Scale(token)
        self.widths = (wide, wide, query)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, K, token) -> the same shape."""
        u, v, base = functional.silu(self.uv(self.ln(tokens))).split(self.widths, dim=2)
        query, key = (base * self.gamma[i] + self.beta[i] for i in (0, 1))
        attention = torch.relu(query @ key.transpose(1, 2) / math.sqrt(self.widths[-1])).square()
        return self.res_scale(tokens) + self.o(u * (attention @ v))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def rtmpose(size: str, num_keypoints: int, input_hw: tuple[int, int]) -> RTMPose:
    """RTMPose of a published size: "t", "s", "m", "l" or "x"."""
    return RTMPose(num_keypoints, input_hw, *SIZES[size])


def rtmw(size: str, num_keypoints: int, input_hw: tuple[int, int], depth_bins: int = 0) -> RTMW:
    """RTMW of a published size, "m", "l" or "x"; with `depth_bins` RTMW3D."""
    return RTMW(num_keypoints, input_hw, *SIZES[size], depth_bins)
