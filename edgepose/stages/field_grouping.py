"""People out of heat maps and part affinity fields (bottom-up).

Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017: peaks are key points, a
pair of them is a limb if the field between them points along it, and limbs that share a key point are one person. Which
peak, which limb and which order are those of lightweight OpenPose (`extract_keypoints`, `group_keypoints`), whose
people these are, in array operations over all limbs' pairs at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgepose.model.heads.fields import Fields, samples_that_may_fail
from edgepose.stages.enlarge import enlarge
from edgepose.timing import stage

PAIRS_AT_ONCE = 1 << 16  # of key points; bounds the memory on noise


@dataclass(frozen=True)
class Points:
    """Peaks of K maps, those of map k in rows first[k] to first[k + 1], from left to right.

    Attributes:
        xy: (P, 2) int, px of the map.
        scores: (P,) float64, the peak's value.
        first: (K + 1,) int.
    """

    xy: np.ndarray
    scores: np.ndarray
    first: np.ndarray


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
    found = groups.members >= 0
    keypoints = np.full((*groups.members.shape, 3), np.nan, np.float32)
    keypoints[..., 2] = 0
    rows = groups.members[found]
    keypoints[found, :2] = (points.xy[rows] + 0.5) / head.upsample - 0.5
    keypoints[found, 2] = points.scores[rows]
    return keypoints, (groups.scores * np.maximum(groups.counts - 1, 0)).astype(np.float32)


def find_points(heatmaps: np.ndarray, head: Fields) -> Points:
    """Peaks: higher than the four pixels around, and not too near to one further left.

    Args:
        heatmaps: (K, h, w).
    """
    count, height, width = heatmaps.shape
    bordered = np.pad(heatmaps, ((0, 0), (1, 1), (1, 1)))
    flat = bordered.ravel()
    with np.errstate(invalid="ignore"):
        index = np.flatnonzero(flat >= head.peak_threshold)
        value = flat[index]
        for step in (-1, 1, -(width + 2), width + 2):
            index, value = _higher_than(flat, index, value, step)
    index, value = index[np.isfinite(value)], value[np.isfinite(value)]
    kind, place = np.divmod(index, (height + 2) * (width + 2))
    y, x = np.divmod(place, width + 2)
    order = np.lexsort((y, x, kind))
    kind, xy, scores = kind[order], np.stack([x, y], axis=1)[order] - 1, value[order].astype(np.float64)
    kept = np.flatnonzero(_apart(kind, xy, head.peak_distance, heatmaps.shape))
    first = np.searchsorted(kind[kept], np.arange(count + 1))
    if np.diff(first).max(initial=0) > head.top_k:
        by_height = kept[np.lexsort((-scores[kept], kind[kept]))]
        rank = np.arange(len(kept)) - first[kind[by_height]]
        kept = np.sort(by_height[rank < head.top_k])
        first = np.searchsorted(kind[kept], np.arange(count + 1))
    return Points(xy[kept], scores[kept], first)


def _higher_than(flat: np.ndarray, index: np.ndarray, value: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    higher = value > flat[index + step]  # False for NaN
    return index[higher], value[higher]


def _apart(kind: np.ndarray, xy: np.ndarray, distance: float, maps: tuple[int, ...]) -> np.ndarray:
    """(P,) bool: each point, in order, unless one that stays lies nearer in the same map of (K, h, w)."""
    stays = _alone(kind, xy, distance, maps)
    reach = int(np.ceil(distance))
    steps = np.arange(-reach, reach + 1)
    disc = np.hypot(steps[:, None], steps) < distance
    taken = np.zeros((maps[0], maps[1] + 2 * reach, maps[2] + 2 * reach), dtype=bool)
    near = np.flatnonzero(~stays)
    for row, one, (x, y) in zip(near.tolist(), kind[near].tolist(), xy[near].tolist(), strict=True):
        if not taken[one, y + reach, x + reach]:
            stays[row] = True
            taken[one, y : y + 2 * reach + 1, x : x + 2 * reach + 1] |= disc
    return stays


def _alone(kind: np.ndarray, xy: np.ndarray, distance: float, maps: tuple[int, ...]) -> np.ndarray:
    """(P,) bool: which points surely have nobody near, in cells of the distance's size; most have not."""
    size = max(int(np.ceil(distance)), 1)
    x, y = (xy // size + 1).T
    rows, columns = maps[1] // size + 3, maps[2] // size + 3
    cell = (kind * rows + y) * columns + x
    points = np.bincount(cell, minlength=maps[0] * rows * columns)
    around = sum(points[cell + step_y * columns + step_x] for step_y in (-1, 0, 1) for step_x in (-1, 0, 1))
    return np.asarray(around == 1)


def group_points(points: Points, pafs: np.ndarray, head: Fields) -> Groups:
    """Put key points together that the fields connect.

    Args:
        points: of maps of the fields' size.
        pafs: (2 L, h, w).
    """
    most = 2 * len(points.scores)  # a person begins with a key point, or with a limb, which is one of two
    keypoints = len(points.first) - 1
    members = np.full((most, keypoints), -1)
    scores, counts, people = np.zeros(most), np.zeros(most, int), 0
    for limb, (start, end, strength) in enumerate(_limbs(points, pafs, head)):
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


def _limbs(points: Points, pafs: np.ndarray, head: Fields) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each limb: the rows of its start and end points, and its strength; each point in one of them at most."""
    for limbs in _portions(points, head):
        limb, start, end = _pairs(points, head, limbs)
        limb, start, end, strength = _connected(limb, start, end, points, pafs, head)
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


def _connected(
    limb: np.ndarray, start: np.ndarray, end: np.ndarray, points: Points, pafs: np.ndarray, head: Fields
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pairs between which the field points from start to end, and how strongly."""
    may_fail = samples_that_may_fail(head)
    from_middle = np.argsort(np.abs(np.arange(head.samples) - head.samples // 2), kind="stable")
    few = max(may_fail + 1, 1)  # of a pair that is none, the middle samples mostly fail
    keep = np.flatnonzero((points.xy[start] != points.xy[end]).any(axis=1))
    for steps in (from_middle[:few], from_middle[few : 3 * few], np.arange(head.samples)):
        limb, start, end = limb[keep], start[keep], end[keep]
        along = _along(limb, start, end, steps, points, pafs, head)
        counts = along > head.field_threshold  # False for NaN
        keep = np.flatnonzero(len(steps) - counts.sum(axis=0) <= may_fail)
    limb, start, end, along, counts = limb[keep], start[keep], end[keep], along[:, keep], counts[:, keep]
    with np.errstate(invalid="ignore"):
        mean = np.where(counts, along, 0).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    length = np.linalg.norm(points.xy[end] - points.xy[start], axis=1)
    strength = mean + np.minimum(pafs.shape[1] // 2 / length - 1, 0)  # none so long as half the map is high
    strong = (strength > 0) & np.isfinite(strength)
    return limb[strong], start[strong], end[strong], strength[strong]


def _along(
    limb: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    steps: np.ndarray,
    points: Points,
    pafs: np.ndarray,
    head: Fields,
) -> np.ndarray:
    """(S, P) float64: the field in the direction of each pair, at steps of `samples` from its start to its end."""
    _, height, width = pafs.shape
    (x, y), (to_x, to_y) = points.xy.T[:, start], points.xy.T[:, end]
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
