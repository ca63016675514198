"""People out of heat maps and tags (bottom-up, associative embedding).

Newell et al., "Associative Embedding", NIPS 2017: key points of one person have like tags. Key point after key point,
the peaks are given to the people found so far at the least total distance of tags; one that fits nobody begins a
person. The people are those of mmpose v1 (`AssociativeEmbedding`), or with `refinement="original"` those of HigherHRNet
(Cheng et al., CVPR 2020, `HeatmapParser`). Their assignment counts whole distances and leaves open which of equal sums
is taken; here it is the one with more tags that are near.
"""

from __future__ import annotations

import numpy as np

from edgepose.model.heads.tags import Tags
from edgepose.stages.assignment import assign
from edgepose.stages.enlarge import enlarge
from edgepose.stages.peaks import find_peaks
from edgepose.stages.tag_maps import FARTHEST, TagArrays, TagMaps
from edgepose.timing import stage

NEARER = 1e-6  # what d / (1 + d) weighs against a distance d's whole number


def decode_tags(heatmaps: np.ndarray, tags: np.ndarray, head: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Find all people in one image's maps.

    Args:
        heatmaps: (K, h, w) float32 or float16.
        tags: (L K, h, w), likewise: for each of L numbers K maps. A flip test brings twice the head's `tag_size`.

    Returns:
        keypoints: (N, K, 3) float32 of x, y, score in px of the maps as they are given (integers at pixel centres);
            a key point that was not found is NaN, NaN, 0. A peak with a tag that is not finite is none.
        scores: (N,) float32: the mean over all K, before missing ones are filled in.

    Raises:
        ValueError: maps of another shape.
    """
    count = len(head.order)
    if (
        heatmaps.ndim != 3
        or len(heatmaps) != count
        or heatmaps.shape[1:] != tags.shape[1:]
        or len(tags) == 0
        or len(tags) % (count * head.tag_size)
    ):
        raise ValueError(
            f"wanted heatmaps ({count}, h, w) and tags ({count * head.tag_size}, h, w), "
            f"got {heatmaps.shape} and {tags.shape}"
        )
    with stage("peaks"):
        heatmaps = enlarge(heatmaps, head.upsample, "linear")
        peaks, counts = find_peaks(heatmaps[None], head.window, head.peak_threshold, head.top_k)
    with stage("grouping"):
        tags = enlarge(tags, head.upsample, "linear").reshape(-1, *heatmaps.shape)
        return people_of(TagArrays(heatmaps, tags), peaks[0], counts[0], head)


def people_of(maps: TagMaps, peaks: np.ndarray, counts: np.ndarray, head: Tags) -> tuple[np.ndarray, np.ndarray]:
    """What `decode_tags` returns, with the peaks found.

    Args:
        peaks, counts: (K, M, 3) and (K,), of one image as `find_peaks` gives them.
    """
    x, y = peaks[..., :2].transpose(2, 0, 1).astype(int)
    kind = np.broadcast_to(np.arange(len(peaks))[:, None], x.shape)
    peak_tags = maps.tags(kind.ravel(), y.ravel(), x.ravel()).reshape(-1, *x.shape).transpose(1, 2, 0)
    keypoints = group_peaks(peaks, counts, peak_tags, head)
    scores = keypoints[..., 2].mean(axis=1)
    found = keypoints[..., 2] > 0
    if head.refinement == "original":
        filled = _filled(keypoints, found, maps, 1) if head.fill else keypoints
        keypoints = _moved(filled, filled[..., 2] > 0, maps, head)
    else:
        keypoints = _moved(keypoints, found, maps, head)
        keypoints = _filled(keypoints, found, maps, 100) if head.fill else keypoints
    keypoints[..., :2] = (keypoints[..., :2] + 0.5) / head.upsample - 0.5
    keypoints[~((keypoints[..., 2] > 0) & np.isfinite(keypoints[..., 2]))] = (np.nan, np.nan, 0)
    return keypoints, scores.astype(np.float32)


def group_peaks(peaks: np.ndarray, counts: np.ndarray, tags: np.ndarray, head: Tags) -> np.ndarray:
    """Give each peak to a person.

    Args:
        peaks: (K, M, 3) of x, y, value, as find_peaks gives them.
        counts: (K,) how many of the M there are.
        tags: (K, M, L).

    Returns:
        (N, K, 3) float32 of x, y, value, 0 where a person has none; at most `max_people`, those who began first.
    """
    keypoints, most, length = len(peaks), int(counts.sum()), tags.shape[2]
    people = np.zeros((most, keypoints, 3), np.float32)
    tag_sums, tag_counts, begun = np.zeros((most, length)), np.zeros((most, 1)), 0
    finite = np.isfinite(tags).all(axis=2)
    tags = tags.astype(np.float64)
    for kind in head.order:
        fine = np.flatnonzero(finite[kind, : counts[kind]])
        found, found_tags = peaks[kind].take(fine, axis=0), tags[kind].take(fine, axis=0)
        known = min(begun, head.max_people)
        if known and len(fine):
            rows = _people_at(found[:, 2:], found_tags, tag_sums[:known] / tag_counts[:known], head)
        else:
            rows = np.full(len(fine), -1)
        new = np.flatnonzero(rows < 0)
        rows[new] = np.arange(begun, begun + len(new))
        begun += len(new)
        people[rows, kind] = found
        tag_sums[rows] += found_tags
        tag_counts[rows] += 1
    return people[: min(begun, head.max_people)]


def _people_at(heights: np.ndarray, tags: np.ndarray, means: np.ndarray, head: Tags) -> np.ndarray:
    """(P,) int: which of N people each of P peaks of one key point belongs to, -1 where none is near.

    Args:
        heights: (P, 1) float32.
        tags, means: (P, L) and (N, L) float64.
    """
    apart = tags[:, None] - means
    distances = np.abs(apart[..., 0]) if apart.shape[2] == 1 else np.linalg.norm(apart, axis=2)
    distances = np.minimum(distances, FARTHEST)
    # concave: of 0 + 6 and 3 + 3 the first, which keeps a person together; on a line such sums are often equal
    rows = assign(np.rint(distances) * 100 - heights + NEARER * distances / (1 + distances))
    rows[distances[np.arange(len(rows)), rows] >= head.tag_threshold] = -1
    return rows


def _moved(keypoints: np.ndarray, which: np.ndarray, maps: TagMaps, head: Tags) -> np.ndarray:
    """A quarter px towards the higher neighbour, and the centre's shift."""
    person, kind = np.nonzero(which)
    x, y = keypoints[person, kind, :2].astype(int).T
    height, width = maps.size_hw
    beside = (np.maximum(x - 1, 0), np.minimum(x + 1, width - 1), x, x)
    level = (y, y, np.maximum(y - 1, 0), np.minimum(y + 1, height - 1))
    around = maps.heights(np.tile(kind, 4), np.concatenate(level), np.concatenate(beside))
    left, right, above, below = around.reshape(4, -1)
    with np.errstate(invalid="ignore"):
        if head.refinement == "original":
            step = np.where([right > left, below > above], 0.25, -0.25)
        else:
            inside = np.array([(x > 1) & (x < width - 1) & (y > 0), (y > 1) & (y < height - 1) & (x > 0)])
            step = 0.25 * np.nan_to_num(np.sign([right - left, below - above])) * inside
    moved = keypoints.copy()
    moved[person, kind, :2] += step.T + head.center_shift
    return moved


def _filled(keypoints: np.ndarray, found: np.ndarray, maps: TagMaps, weight: float) -> np.ndarray:
    """Each person's missing key points where the map, less `weight` times the tag's whole distance, is highest."""
    filled = keypoints.copy()
    height, width = maps.size_hw
    person, kind = np.nonzero(found)
    x, y = keypoints[person, kind, :2].astype(int).T
    at = maps.tags(kind, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))
    means = np.stack([np.bincount(person, row, len(keypoints)) for row in at]) / np.maximum(found.sum(axis=1), 1)
    missing, lacking = np.nonzero(~found.T)
    places, heights = maps.best_places(missing, means[:, lacking], weight)
    filled[lacking, missing] = np.stack([places % width, places // width, heights], axis=1)
    return filled
