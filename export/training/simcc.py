"""What a SimCC network should give, and how far off it is."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from edgepose.model.heads.simcc import SimCC

BETA = 10.0  # sharpens both distributions (mmpose KLDiscretLoss's beta in RTMPose's configurations)


def targets(keypoints: np.ndarray, head: SimCC, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The vectors a network should give: Gaussians around the true points, not rounded to bins.

    Args:
        keypoints: (N, K, 3): x, y in input px, and the key point's weight.

    Returns:
        (N, K, W') and (N, K, H') float32, highest 1; and (N, K) float32, the weights.
    """
    vectors = []
    for axis, (bins, sigma) in enumerate(zip(head.bins(input_hw), head.sigma, strict=True)):
        at = keypoints[..., axis, None] * head.split_ratio
        vectors.append(np.exp(-((np.arange(bins) - at) ** 2) / (2 * sigma**2)).astype(np.float32))
    return vectors[0], vectors[1], keypoints[..., 2].astype(np.float32)


def loss_of(
    vectors: tuple[torch.Tensor, torch.Tensor], wanted: tuple[torch.Tensor, torch.Tensor], weights: torch.Tensor
) -> torch.Tensor:
    """Kullback-Leibler divergence of the softmax of both, over the labelled key points.

    Args:
        vectors, wanted: (N, K, W') and (N, K, H').
        weights: (N, K).
    """
    divergence = torch.zeros_like(weights)
    for found, true in zip(vectors, wanted, strict=True):
        logs, shares = functional.log_softmax(BETA * found, dim=2), functional.softmax(BETA * true, dim=2)
        divergence = divergence + functional.kl_div(logs, shares, reduction="none").sum(dim=2)
    return (divergence * weights).sum() / weights.sum().clamp(min=1)
