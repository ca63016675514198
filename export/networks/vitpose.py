"""ViTPose (Xu et al., "ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation", NeurIPS 2022).

A plain vision transformer over 16x16 px patches and a light decoder. Parameter names and shapes are those of the
original repository's without its `backbone.` and `keypoint_head.`. ViTPose+ (Xu et al., 2022) has experts in each
block's second layer; with one of them chosen its network is this one (`export/checkpoints/vitpose.py` chooses).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

PATCH, PADDING = 16, 2  # px; the padding lets a patch see a little of its neighbours' pixels
UPSAMPLING = 4  # of the simple decoder, and of the two deconvolutions
DECONV_FILTERS = 256
SIZES = {  # name -> width, blocks, attention heads
    "s": (384, 12, 12),
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
    "h": (1280, 32, 16),
}


class ViTPose(nn.Module):
    """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4).

    Args:
        size: "s", "b", "l" or "h".
        num_keypoints: K.
        input_hw: H, W; multiples of 16.
        simple: the simple decoder (bilinear, one convolution) in place of the classic one (two deconvolutions).
    """

    def __init__(
        self, size: str, num_keypoints: int, input_hw: tuple[int, int] = (256, 192), *, simple: bool = False
    ) -> None:
        super().__init__()
        width, blocks, heads = SIZES[size]
        self.input_hw = input_hw  # its position embedding fits no other
        self.grid_hw = (input_hw[0] // PATCH, input_hw[1] // PATCH)
        tokens = self.grid_hw[0] * self.grid_hw[1]
        self.width, self.tokens = width, tokens
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH, padding=PADDING)})
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + 1, width))  # the first is a class token's, seen by all
        self.blocks = nn.Sequential(*(_Block(width, heads, tokens) for _ in range(blocks)))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        if simple:
            self.deconv_layers = None
            self.final_layer = nn.Conv2d(width, num_keypoints, 3, padding=1)
        else:
            self.deconv_layers = nn.Sequential(*_twice_as_large(width), *_twice_as_large(DECONV_FILTERS))
            self.final_layer = nn.Conv2d(DECONV_FILTERS, num_keypoints, 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4)."""
        maps = self.features(crops)
        if self.deconv_layers is None:  # ReLU, then enlarged: as ViTPose, mmpose v1 and transformers have it
            maps = functional.interpolate(
                torch.relu(maps), scale_factor=float(UPSAMPLING), mode="bilinear", align_corners=False
            )
        else:
            maps = self.deconv_layers(maps)
        return self.final_layer(maps)

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (n, 3, H, W) -> the transformer's output as maps (n, width, H/16, W/16)."""
        patches = self.patch_embed["proj"](crops)
        tokens = patches.reshape(-1, self.width, self.tokens).transpose(1, 2)
        tokens = tokens + (self.pos_embed[:, 1:] + self.pos_embed[:, :1])
        return self.last_norm(self.blocks(tokens)).transpose(1, 2).reshape(-1, self.width, *self.grid_hw)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads, tokens)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))


class _Attention(nn.Module):
    """Multi-head attention as MatMul, Softmax, MatMul over (n, heads, tokens, width): TensorRT makes one kernel of it.

    All sizes but the batch are constants: no shapes are computed inside the exported graph.
    """

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.split = (-1, tokens, 3, heads, width // heads)
        self.joined = (-1, tokens, width)
        self.scale = (width // heads) ** -0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).reshape(self.split).permute(2, 0, 3, 1, 4).unbind(0)
        attention = (query * self.scale @ key.transpose(2, 3)).softmax(-1)
        return self.proj((attention @ value).transpose(1, 2).reshape(self.joined))


def _twice_as_large(in_channels: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(in_channels, DECONV_FILTERS, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(DECONV_FILTERS),
        nn.ReLU(),
    ]
