"""Which cells learn which box, and the loss: task-aligned assignment (Feng et al., "TOOD", ICCV 2021).

A cell is a candidate for a box whose inside it lies in. The candidates that already agree best, by
score^ALPHA * IoU^BETA, learn the box; their wanted score is that agreement, scaled to the best IoU of the box.
"""

from __future__ import annotations

import torch
from torch.nn import functional

ALPHA, BETA = 1.0, 6.0
CANDIDATES = 10  # cells a box may teach
BOX_WEIGHT = 2.0


def pairwise_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (high - low).clamp(min=0).prod(2)
    areas, other_areas = ((b[:, 2:] - b[:, :2]).clamp(min=0).prod(1) for b in (boxes, others))
    return common / (areas[:, None] + other_areas[None] - common).clamp(min=1e-6)


def generalised_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """(N,) of N pairs, -1 to 1 (Rezatofighi et al., CVPR 2019)."""
    common = (torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])).clamp(min=0)
    areas, other_areas = ((b[:, 2:] - b[:, :2]).clamp(min=0).prod(1) for b in (boxes, others))
    both = areas + other_areas - common.prod(1)
    hull = (torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2])).clamp(min=0)
    hull_area = hull.prod(1).clamp(min=1e-6)
    return common.prod(1) / both.clamp(min=1e-6) - (hull_area - both) / hull_area


@torch.no_grad()  # type: ignore[untyped-decorator]
def assign(
    scores: torch.Tensor, predicted: torch.Tensor, centers: torch.Tensor, strides: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One picture: (A,) scores, (A, 4) predicted boxes, (N, 4) true ones -> each cell's box and wanted score.

    Returns:
        (A,) int64, the box that a cell learns, -1 for none; and (A,) float32, its wanted score, 0 to 1.
    """
    count, cells = len(boxes), len(scores)
    wanted = torch.zeros(cells)
    if count == 0:
        return torch.full((cells,), -1), wanted
    middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    half = torch.maximum((boxes[:, None, 2:] - boxes[:, None, :2]) / 2, strides[None])  # a tiny box has a cell too
    inside = ((centers[None] - middle).abs() < half).all(2)
    iou = pairwise_iou(boxes, predicted)
    agreement = scores[None].pow(ALPHA) * iou.pow(BETA) * inside
    best = agreement.topk(min(CANDIDATES, cells), dim=1)
    chosen = torch.zeros_like(inside).scatter(1, best.indices, best.values > 1e-12)
    nearest = (centers[None] - middle).pow(2).sum(2) / half[..., 0].clamp(min=1) ** 2 + (strides[None, :, 0] - 16).abs()
    empty = ~chosen.any(1)
    chosen[empty, nearest[empty].argmin(1)] = True
    overlap = torch.where(chosen, iou, torch.full_like(iou, -1))
    owner = torch.where(chosen.any(0), overlap.argmax(0), torch.full((cells,), -1))
    mine = owner[None] == torch.arange(count)[:, None]
    agreement, iou = agreement * mine, iou * mine
    scaled = agreement / agreement.amax(1, keepdim=True).clamp(min=1e-12) * iou.amax(1, keepdim=True)
    return owner, scaled.amax(0)


def detection_loss(
    logits: torch.Tensor,
    predicted: torch.Tensor,
    centers: torch.Tensor,
    strides: torch.Tensor,
    boxes: list[torch.Tensor],
    ignored: list[torch.Tensor],
) -> torch.Tensor:
    """Binary cross entropy of (n, A) logits against wanted scores, and 1 - GIoU of the cells that learn a box.

    Args:
        predicted: (n, A, 4), input pixels.
        boxes, ignored: of each picture (N, 4) true boxes, and which of them teach neither way: cells inside those
            that learn no other box do not count.
    """
    scores = logits.detach().sigmoid()
    wanted, weights = torch.zeros_like(logits), torch.ones_like(logits)
    box_loss = predicted.sum() * 0
    for i, (truth, skipped) in enumerate(zip(boxes, ignored, strict=True)):
        owner, wanted[i] = assign(scores[i], predicted[i].detach(), centers, strides, truth[~skipped])
        learns = owner >= 0
        for box in truth[skipped]:
            within = ((centers > box[:2]) & (centers < box[2:])).all(1)
            weights[i][within & ~learns] = 0
        if learns.any():
            target = truth[~skipped][owner[learns]]
            box_loss = box_loss + ((1 - generalised_iou(predicted[i][learns], target)) * wanted[i][learns]).sum()
    score_loss = (functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weights).sum()
    return (score_loss + BOX_WEIGHT * box_loss) / wanted.sum().clamp(min=1)
