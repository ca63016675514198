"""The published grouping algorithms step by step, as plain loops: what the fast ones must agree with.

Written from lightweight OpenPose (`modules/keypoints.py`), mmpose v1 (`codecs/associative_embedding.py`) and the
Hungarian algorithm that mmpose takes from the package munkres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.stages.tag_grouping import NEARER

Point = tuple[int, int, float, int]  # x, y, score, number among all


def points_in(heatmaps: np.ndarray, head: Fields) -> list[list[Point]]:
    """Peaks of each map, from left to right: over the threshold and higher than the four pixels around."""
    points: list[list[Point]] = []
    number = 0
    for heatmap in heatmaps:
        height, width = heatmap.shape
        values = np.where(heatmap < head.peak_threshold, 0, heatmap)

        def value(x: int, y: int, values: np.ndarray = values, width: int = width, height: int = height) -> float:
            return float(values[y, x]) if 0 <= x < width and 0 <= y < height else 0.0

        peaks = [
            (int(x), int(y))
            for y, x in zip(*np.nonzero(values), strict=True)
            if all(value(x, y) > value(x + step_x, y + step_y) for step_x, step_y in ((1, 0), (-1, 0), (0, 1), (0, -1)))
        ]
        peaks.sort(key=lambda peak: peak[0])
        dropped, kept = set(), []
        for i, (x, y) in enumerate(peaks):
            if i in dropped:
                continue
            for j in range(i + 1, len(peaks)):
                if math.dist((x, y), peaks[j]) < head.peak_distance:
                    dropped.add(j)
            kept.append((x, y, value(x, y), number))
            number += 1
        points.append(kept)
    return points


def limb_strength(a: Point, b: Point, field_x: np.ndarray, field_y: np.ndarray, head: Fields) -> float | None:
    """The mean of the field along a limb, less for a very long one; None if too few samples count."""
    step_x, step_y = b[0] - a[0], b[1] - a[1]
    length = math.hypot(step_x, step_y)
    if length == 0:
        return None
    counted = []
    for x, y in zip(np.linspace(a[0], b[0], head.samples), np.linspace(a[1], b[1], head.samples), strict=True):
        row, column = round(float(y)), round(float(x))
        along = step_x / length * float(field_x[row, column]) + step_y / length * float(field_y[row, column])
        if along > head.field_threshold:
            counted.append(along)
    if len(counted) / head.samples <= head.samples_share:
        return None
    strength = sum(counted) / len(counted) + min(field_x.shape[0] // 2 / length - 1, 0)
    return strength if strength > 0 else None


@dataclass
class Person:
    """One that is being put together: key point -> number of its peak."""

    members: dict[int, int]
    score: float
    count: int


def group_by_fields(points: list[list[Point]], pafs: np.ndarray, head: Fields) -> list[Person]:
    """People out of peaks: limb after limb, each pair of peaks tried."""
    score = {point[3]: point[2] for kind in points for point in kind}
    people: list[Person] = []
    for number, ((a, b), where) in enumerate(zip(head.limbs, head.fields, strict=True)):
        if not points[a] or not points[b]:
            for kind in (a, b):
                for point in points[kind]:
                    if all(person.members.get(kind) != point[3] for person in people):
                        people.append(Person({kind: point[3]}, point[2], 1))
            continue
        last = number >= len(head.limbs) - head.fill_limbs
        for i, j, strength in _chosen(points[a], points[b], pafs[2 * where], pafs[2 * where + 1], head):
            if last:
                for person in people:
                    if person.members.get(a) == i and b not in person.members:
                        person.members[b] = j
                    elif person.members.get(b) == j and a not in person.members:
                        person.members[a] = i
                continue
            owners = [person for person in people if person.members.get(a) == i]
            for person in owners:
                person.members[b] = j
                person.count += 1
                person.score += score[j] + strength
            if not owners:
                people.append(Person({a: i, b: j}, score[i] + score[j] + strength, 2))
    return [
        person
        for person in people
        if person.count >= head.min_keypoints and person.score / person.count >= head.min_score
    ]


def _chosen(
    starts: list[Point], ends: list[Point], field_x: np.ndarray, field_y: np.ndarray, head: Fields
) -> list[tuple[int, int, float]]:
    """The strongest limbs first, each peak in one at most: start, end, strength."""
    tried = []
    for start in starts:
        for end in ends:
            strength = limb_strength(start, end, field_x, field_y, head)
            if strength is not None:
                tried.append((start[3], end[3], strength))
    tried.sort(key=lambda limb: limb[2], reverse=True)
    used_starts: set[int] = set()
    used_ends: set[int] = set()
    chosen = []
    for limb in tried:
        if limb[0] not in used_starts and limb[1] not in used_ends:
            used_starts.add(limb[0])
            used_ends.add(limb[1])
            chosen.append(limb)
    return chosen


@dataclass
class Tagged:
    """A person who is being put together by tags."""

    keypoints: np.ndarray
    tags: list[np.ndarray] = field(default_factory=list)


def group_by_tags(
    peaks: np.ndarray, counts: np.ndarray, tags: np.ndarray, head: Tags, *, nearer: float = NEARER
) -> np.ndarray:
    """People out of peaks: key point after key point, by Munkres' algorithm.

    Args:
        nearer: as tag_grouping's, which decides between assignments of equal whole distances. 0 as published: which of
            them is found is then up to the algorithm.

    Returns:
        (N, K, 3), as tag_grouping.group_peaks gives it.
    """
    people: list[Tagged] = []
    for kind in head.order:
        candidates = [(peaks[kind, row], tags[kind, row]) for row in range(counts[kind])]
        known = people[: head.max_people]
        owners: dict[int, Tagged] = {}
        if known and candidates:
            means = [np.mean(person.tags, axis=0) for person in known]
            distances = [[float(np.linalg.norm(tag - mean)) for mean in means] for _, tag in candidates]
            costs = [
                [round(distance) * 100 - float(peak[2]) + nearer * distance / (1 + distance) for distance in row]
                + [1e10] * (len(candidates) - len(known))
                for (peak, _), row in zip(candidates, distances, strict=True)
            ]
            for row, column in enumerate(munkres(costs)):
                if column < len(known) and distances[row][column] < head.tag_threshold:
                    owners[row] = known[column]
        for row, (peak, tag) in enumerate(candidates):
            person = owners.get(row)
            if person is None:
                person = Tagged(np.zeros((len(peaks), 3), np.float32))
                people.append(person)
            person.keypoints[kind] = peak
            person.tags.append(tag)
    kept = people[: head.max_people]
    return np.array([person.keypoints for person in kept], np.float32).reshape(-1, len(peaks), 3)


def munkres(costs: list[list[float]]) -> list[int]:
    """Each row's column at the least total cost; not more rows than columns.

    Munkres, "Algorithms for the Assignment and Transportation Problems", SIAM 1957, as it stands in textbooks: stars
    and primes on zeros, lines over rows and columns.
    """
    size = max(len(costs), len(costs[0]))
    table = [[*row, *[0.0] * (size - len(row))] for row in costs] + [[0.0] * size for _ in range(size - len(costs))]
    for row in table:
        least = min(row)
        row[:] = [value - least for value in row]
    star_of_row: dict[int, int] = {}
    star_of_column: dict[int, int] = {}
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            if value == 0 and i not in star_of_row and j not in star_of_column:
                star_of_row[i], star_of_column[j] = j, i
    while len(star_of_row) < size:
        primed: dict[int, int] = {}
        covered_rows: set[int] = set()
        covered_columns = set(star_of_column)
        while True:
            zero = _uncovered_zero(table, covered_rows, covered_columns)
            if zero is None:
                _shift(table, covered_rows, covered_columns)
                continue
            i, j = zero
            primed[i] = j
            if i not in star_of_row:
                break
            covered_rows.add(i)
            covered_columns.discard(star_of_row[i])
        while True:  # a path of primes and stars: each prime becomes a star, each star goes
            before = star_of_column.get(j)
            star_of_row[i], star_of_column[j] = j, i
            if before is None:
                break
            i, j = before, primed[before]
    return [star_of_row[i] for i in range(len(costs))]


def _uncovered_zero(table: list[list[float]], rows: set[int], columns: set[int]) -> tuple[int, int] | None:
    for i, row in enumerate(table):
        if i not in rows:
            for j, value in enumerate(row):
                if value == 0 and j not in columns:
                    return i, j
    return None


def _shift(table: list[list[float]], rows: set[int], columns: set[int]) -> None:
    """Subtract the least uncovered value where nothing covers, add it where both do: a new zero."""
    size = len(table)
    least = min(table[i][j] for i in range(size) if i not in rows for j in range(size) if j not in columns)
    for i in range(size):
        for j in range(size):
            if i in rows and j in columns:
                table[i][j] += least
            elif i not in rows and j not in columns:
                table[i][j] -= least
