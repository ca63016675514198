"""People out of heat maps and part affinity fields (bottom-up).

Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017: peaks are key points, a
pair of them is a limb if the field between them points along it, and limbs that share a key point are one person. Which
peak, which limb and which order are those of lightweight OpenPose (`extract_keypoints`, `group_keypoints`), whose
people these are, in array operations over all limbs' pairs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from edgepose.model.heads.fields import Fields, samples_that_may_fail
from edgepose.stages.enlarge import enlarge
from edgepose.stages.field_points import Points, find_points
from edgepose.timing import stage

PAIRS_AT_ONCE = 1 << 16  # of key points; bounds the memory on noise

# Of P pairs of places how strongly a limb connects them, (P,) float64: of limbs (P,), from (P, 2) to (P, 2) px
Strengths = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Groups:
    """N people.

    Attributes:
        members: (N, K) int, rows of `Points`, or -1.
        scores: (N,) float64: of the peaks and limbs, added up.
        counts: (N,) int: key points, without those that only filled.
    """

    members: np.ndarray
    scores: np.ndarray
    counts: np.ndarray


def decode_fields(heatmaps: np.ndarray, pafs: np.ndarray, head: Fields) -> tuple[np.ndarray, np.ndarray]:
    """Find all people in one image's maps.

    Args:
        heatmaps: (K, h, w) or, with the background's map last, (K + 1, h, w); float32 or float16.
        pafs: (2 L, h, w), likewise.

    Returns:
        keypoints: (N, K, 3) float32 of x, y, score in px of the maps as they are given (integers at pixel centres);
            a key point that was not found is NaN, NaN, 0. A map's NaN or infinity is no peak and no limb.
        scores: (N,) float32, as published for COCO: the sum over peaks and limbs, times the number of key points - 1.

    Raises:
        ValueError: maps of another shape.
    """
    count = 1 + max(max(limb) for limb in head.limbs)
    fields = 2 * len(head.limbs)
    if heatmaps.ndim != 3 or len(heatmaps) < count or pafs.shape != (fields, *heatmaps.shape[1:]):
        raise ValueError(
            f"wanted heatmaps ({count} or {count + 1}, h, w) and pafs ({fields}, h, w), "
            f"got {heatmaps.shape} and {pafs.shape}"
        )
    with stage("peaks"):
        points = find_points(enlarge(heatmaps[:count], head.upsample, "cubic"), head)
    with stage("grouping"):
        groups = group_points(points, enlarge(pafs, head.upsample, "cubic"), head)
        return keypoints_of(points, groups, head)


def keypoints_of(points: Points, groups: Groups, head: Fields) -> tuple[np.ndarray, np.ndarray]:
    """What `decode_fields` returns, of groups of points in enlarged maps."""
    found = groups.members >= 0
    keypoints = np.full((*groups.members.shape, 3), np.nan, np.float32)
    keypoints[..., 2] = 0
    rows = groups.members[found]
    keypoints[found, :2] = (points.xy[rows] + 0.5) / head.upsample - 0.5
    keypoints[found, 2] = points.scores[rows]
    return keypoints, (groups.scores * np.maximum(groups.counts - 1, 0)).astype(np.float32)


def group_points(points: Points, pafs: np.ndarray, head: Fields) -> Groups:
    """Put key points together that the fields connect.

    Args:
        points: of maps of the fields' size.
        pafs: (2 L, h, w).
    """
    return group_connected(points, partial(limb_strengths, pafs, head), head)


def group_connected(points: Points, strengths: Strengths, head: Fields) -> Groups:
    """`group_points` with the fields' part as a function; what it gives 0 for is no limb."""
    most = 2 * len(points.scores)  # a person begins with a key point, or with a limb, which is one of two
    keypoints = len(points.first) - 1
    members = np.full((most, keypoints), -1)
    scores, counts, people = np.zeros(most), np.zeros(most, int), 0
    for limb, (start, end, strength) in enumerate(_limbs(points, strengths, head)):
        a, b = head.limbs[limb]
        starts, ends = (np.arange(points.first[kind], points.first[kind + 1]) for kind in (a, b))
        if len(starts) == 0 or len(ends) == 0:  # nobody to meet: each begins a person who may grow by other limbs
            for kind, alone in ((a, starts), (b, ends)):
                new = alone[_missing(alone, members[:people, kind], len(points.scores))]
                added = slice(people, people + len(new))
                members[added, kind], scores[added], counts[added] = new, points.scores[new], 1
                people = added.stop
            continue
        if limb >= len(head.limbs) - head.fill_limbs:
            _fill(members[:people], a, start, b, end)
            continue
        limbs, rows = np.nonzero(start[:, None] == members[:people, a])
        members[rows, b] = end[limbs]
        counts[rows] += 1
        scores[rows] += points.scores[end[limbs]] + strength[limbs]
        fresh = _missing(np.arange(len(start)), limbs, len(start))
        added = slice(people, people + int(fresh.sum()))
        members[added, a], members[added, b], counts[added] = start[fresh], end[fresh], 2
        scores[added] = points.scores[start[fresh]] + points.scores[end[fresh]] + strength[fresh]
        people = added.stop
    members, scores, counts = members[:people], scores[:people], counts[:people]
    fine = (counts >= head.min_keypoints) & (scores >= head.min_score * counts)
    return Groups(members[fine], scores[fine], counts[fine])


def _missing(wanted: np.ndarray, among: np.ndarray, size: int) -> np.ndarray:
    """Which of some numbers under `size` are not among others, which may be -1."""
    there = np.zeros(size + 1, dtype=bool)  # the last one is -1's
    there[among] = True
    return ~there[wanted]


def _fill(members: np.ndarray, a: int, start: np.ndarray, b: int, end: np.ndarray) -> None:
    """Where a person has one end of a limb and lacks the other, it is added."""
    had_a, had_b = members[:, a].copy(), members[:, b].copy()
    limbs, rows = np.nonzero((start[:, None] == had_a) & (had_b == -1))
    members[rows, b] = end[limbs]
    limbs, rows = np.nonzero((end[:, None] == had_b) & (had_a == -1))
    members[rows, a] = start[limbs]


def _limbs(points: Points, strengths: Strengths, head: Fields) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each limb: the rows of its start and end points, and its strength; each point in one of them at most."""
    for limbs in _portions(points, head):
        limb, start, end = _pairs(points, head, limbs)
        strength = strengths(limb, points.xy[start], points.xy[end])
        there = strength > 0
        limb, start, end, strength = limb[there], start[there], end[there], strength[there]
        order = np.lexsort((-strength, limb))  # stable: of equal ones the first
        chosen, taken_starts, taken_ends = [], set(), set()
        for row, one, a, b in zip(order, limb[order].tolist(), start[order].tolist(), end[order].tolist(), strict=True):
            if (one, a) not in taken_starts and (one, b) not in taken_ends:
                taken_starts.add((one, a))
                taken_ends.add((one, b))
                chosen.append(row)
        limb, start, end, strength = limb[chosen], start[chosen], end[chosen], strength[chosen]
        bounds = np.searchsorted(limb, [limbs.start, *(one + 1 for one in limbs)])
        for low, high in pairwise(bounds):
            yield start[low:high], end[low:high], strength[low:high]


def _portions(points: Points, head: Fields) -> Iterator[range]:
    """Limbs in a row, as many as have not too many pairs together."""
    counts = np.diff(points.first)
    begin, pairs = 0, 0
    for limb, (a, b) in enumerate(head.limbs):
        pairs += counts[a] * counts[b]
        if pairs > PAIRS_AT_ONCE and limb > begin:
            yield range(begin, limb)
            begin, pairs = limb, counts[a] * counts[b]
    yield range(begin, len(head.limbs))


def _pairs(points: Points, head: Fields, limbs: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of a start and an end point of each limb: the limb and the rows of both."""
    parts = []
    for one in limbs:
        (a, a_end), (b, b_end) = ((points.first[kind], points.first[kind + 1]) for kind in head.limbs[one])
        start = np.repeat(np.arange(a, a_end), b_end - b)
        parts.append((np.full(len(start), one), start, np.tile(np.arange(b, b_end), a_end - a)))
    limb, start, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    return limb, start, end


def limb_strengths(
    pafs: np.ndarray, head: Fields, limb: np.ndarray, start_xy: np.ndarray, end_xy: np.ndarray
) -> np.ndarray:
    """How strongly the fields point from start to end. The CUDA kernel's reference.

    Args:
        pafs: (2 L, h, w) float32.
        limb: (P,) int, whose field.
        start_xy, end_xy: (P, 2) int px of the fields.

    Returns:
        (P,) float64: the mean of the samples that count, less what a limb longer than half the map loses. 0 where too
        few count, or both places are one.
    """
    may_fail = samples_that_may_fail(head)
    from_middle = np.argsort(np.abs(np.arange(head.samples) - head.samples // 2), kind="stable")
    few = max(may_fail + 1, 1)  # of a pair that is none, the middle samples mostly fail
    rows = np.flatnonzero((start_xy != end_xy).any(axis=1))
    for steps in (from_middle[:few], from_middle[few : 3 * few], np.arange(head.samples)):
        along = _along(limb[rows], start_xy[rows], end_xy[rows], steps, pafs, head)
        counts = along > head.field_threshold  # False for NaN
        keep = np.flatnonzero(len(steps) - counts.sum(axis=0) <= may_fail)
        rows, along, counts = rows[keep], along[:, keep], counts[:, keep]
    with np.errstate(invalid="ignore"):
        mean = np.where(counts, along, 0).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    length = np.linalg.norm(end_xy[rows] - start_xy[rows], axis=1)
    strength = mean + np.minimum(pafs.shape[1] // 2 / length - 1, 0)  # none so long as half the map is high
    found = np.zeros(len(limb))
    found[rows] = np.where((strength > 0) & np.isfinite(strength), strength, 0)
    return found


def _along(
    limb: np.ndarray, start_xy: np.ndarray, end_xy: np.ndarray, steps: np.ndarray, pafs: np.ndarray, head: Fields
) -> np.ndarray:
    """(S, P) float64: the field in the direction of each pair, at steps of `samples` from its start to its end."""
    _, height, width = pafs.shape
    (x, y), (to_x, to_y) = start_xy.T, end_xy.T
    step_x, step_y = to_x - x, to_y - y
    length = np.sqrt(step_x * step_x + step_y * step_y)
    steps = steps[:, None]
    column = np.rint(x + steps * (step_x / (head.samples - 1))).astype(int)
    row = np.rint(y + steps * (step_y / (head.samples - 1))).astype(int)
    size = height * width
    place = (2 * np.asarray(head.fields) * size)[limb] + row * width + column
    flat = pafs.ravel()
    with np.errstate(invalid="ignore"):
        return (step_x / length) * flat.take(place) + (step_y / length) * flat.take(place + size)
