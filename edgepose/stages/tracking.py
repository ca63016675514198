"""Who is who from frame to frame: boxes and key points are matched with where everybody was expected.

Each person moves on with a constant velocity. Boxes and poses are matched with the expected ones at the least total
cost (the assignment problem); first those who were seen just now, then those who were lost for a while (in the manner
of Zhang et al., "ByteTrack", ECCV 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgepose.stages.assignment import assign
from edgepose.stages.similarity import box_iou

NOBODY = -1  # the id of a box that is too doubtful to begin a track


@dataclass(frozen=True)
class TrackingSettings:
    """How people are followed.

    Attributes:
        new_score: a box of at least this score begins a track; others only go on with one.
        least_similarity: of a person and where they were expected, 0 to 1; less is somebody else.
        survive_frames: a track that was not seen for more frames has ended.
        agility: 0 to 1, how much of a surprise the velocity takes up at once.
        pose_weight: 0 to 1, the share of the poses' likeness in the similarity; the rest is the boxes'.
    """

    new_score: float = 0.4
    least_similarity: float = 0.4
    survive_frames: int = 30
    agility: float = 0.15
    pose_weight: float = 0.5

    def __post_init__(self) -> None:
        for key in ("least_similarity", "agility", "pose_weight"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"{key} must be from 0 to 1, got {getattr(self, key)}")
        if self.survive_frames < 0:
            raise ValueError(f"survive_frames must not be negative, got {self.survive_frames}")


@dataclass(frozen=True)
class _Tracks:
    """T people: ids (T,), boxes (T, 4), velocities (T, 2) px a frame, frames not seen (T,), poses (T, K, 2)."""

    ids: np.ndarray
    boxes: np.ndarray
    velocities: np.ndarray
    missed: np.ndarray
    xy: np.ndarray

    def where(self, chosen: np.ndarray) -> _Tracks:
        return _Tracks(*(getattr(self, key)[chosen] for key in self.__dataclass_fields__))

    def expected(self) -> _Tracks:
        """One frame later, if everybody moves on as they did."""
        boxes = self.boxes + np.tile(self.velocities, 2)
        return replace(self, boxes=boxes, xy=self.xy + self.velocities[:, None], missed=self.missed + 1)


class Tracker:
    """Gives the people of one video their ids, frame by frame: one tracker a video.

    Args:
        sigmas: (K,) of the skeleton, for the likeness of poses; None compares boxes alone.
        settings: how people are followed.
    """

    def __init__(self, sigmas: np.ndarray | None = None, settings: TrackingSettings | None = None) -> None:
        self.settings = settings or TrackingSettings()
        self._sigmas = None if sigmas is None else np.asarray(sigmas, np.float64)
        count = 0 if sigmas is None else len(sigmas)
        empty = np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros((0, count, 2))
        self._tracks = _Tracks(np.zeros(0, np.int64), *empty)
        self._next_id = 1

    def update(self, boxes_xyxy: np.ndarray, scores: np.ndarray, xy: np.ndarray | None = None) -> np.ndarray:
        """The ids of a frame's people; one id is on one person at most.

        Args:
            boxes_xyxy: (N, 4), image px; N may be 0, which is a frame all the same.
            scores: (N,) of the boxes.
            xy: (N, K, 2) key points, NaN where there is none; wanted if the tracker has sigmas.

        Returns:
            (N,) int64, from 1 on; NOBODY for a box that fits no track and is too doubtful to begin one.
        """
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        poses = np.zeros((len(boxes), 0, 2)) if self._sigmas is None else np.asarray(xy, np.float64)
        if len(scores) != len(boxes) or len(poses) != len(boxes):
            raise ValueError(f"{len(boxes)} boxes, {len(scores)} scores and {len(poses)} poses: wanted as many of each")
        tracks = self._tracks.expected()
        row_of = np.full(len(boxes), -1)  # the track of each box
        for of_round in (tracks.missed == 1, tracks.missed > 1):
            rows, free = np.flatnonzero(of_round), np.flatnonzero(row_of < 0)
            pairs = self._match(tracks.where(rows), boxes[free], poses[free])
            row_of[free[pairs[:, 1]]] = rows[pairs[:, 0]]
        new = np.flatnonzero((row_of < 0) & (np.asarray(scores) >= self.settings.new_score))
        ids = np.where(row_of >= 0, tracks.ids[row_of] if len(tracks.ids) else NOBODY, NOBODY)
        ids[new] = self._next_id + np.arange(len(new))
        self._next_id += len(new)
        self._tracks = self._after(tracks, row_of, new, ids, boxes, poses)
        return ids

    def scale(self, scale_xy: np.ndarray) -> None:
        """Expect everybody in frames (2,) times as wide and as high from now on: a video's size has changed."""
        t = self._tracks
        self._tracks = replace(
            t, boxes=t.boxes * np.tile(scale_xy, 2), velocities=t.velocities * scale_xy, xy=t.xy * scale_xy
        )

    def _match(self, tracks: _Tracks, boxes: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """(M, 2) pairs of track and box that are alike enough, at the greatest total likeness."""
        settings = self.settings
        likeness = box_iou(tracks.boxes, boxes)
        if self._sigmas is not None:
            of_poses = _pose_likeness(tracks, poses, boxes, self._sigmas)
            likeness = (1 - settings.pose_weight) * likeness + settings.pose_weight * of_poses
        column_of = assign(np.where(likeness >= settings.least_similarity, 1 - likeness, 10.0))
        rows = np.flatnonzero(column_of >= 0)
        fits = likeness[rows, column_of[rows]] >= settings.least_similarity
        return np.stack([rows[fits], column_of[rows[fits]]], axis=1)

    def _after(
        self,
        tracks: _Tracks,
        row_of: np.ndarray,
        new: np.ndarray,
        ids: np.ndarray,
        boxes: np.ndarray,
        poses: np.ndarray,
    ) -> _Tracks:
        """The tracks when a frame has been seen: those found, those still missed, and the new ones."""
        found = np.flatnonzero(row_of >= 0)
        rows = row_of[found]
        surprise = (_middle(boxes[found]) - _middle(tracks.boxes[rows])) / tracks.missed[rows, None]
        velocities = tracks.velocities[rows] + self.settings.agility * surprise
        unseen = np.setdiff1d(np.flatnonzero(tracks.missed <= self.settings.survive_frames), rows)
        known = poses[found]
        known = np.where(np.isfinite(known), known, tracks.xy[rows])
        parts = (
            tracks.where(unseen),
            _Tracks(ids[found], boxes[found], velocities, np.zeros(len(found), np.int64), known),
            _Tracks(ids[new], boxes[new], np.zeros((len(new), 2)), np.zeros(len(new), np.int64), poses[new]),
        )
        return _Tracks(*(np.concatenate([getattr(p, key) for p in parts]) for key in _Tracks.__dataclass_fields__))


def _middle(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _pose_likeness(tracks: _Tracks, poses: np.ndarray, boxes: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(T, N) object key-point similarity, over the key points that both have; twice as lenient as COCO's."""
    squared = ((tracks.xy[:, None] - poses[None]) ** 2).sum(axis=3)
    both = np.isfinite(squared)
    areas = np.prod(tracks.boxes[:, 2:] - tracks.boxes[:, :2], axis=1)[:, None]
    areas = (areas + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[None]) / 2
    exponent = np.where(both, squared, 0) / (2 * (4 * sigmas) ** 2 * np.maximum(areas, 1)[..., None])
    return (np.exp(-exponent) * both).sum(axis=2) / np.maximum(both.sum(axis=2), 1)
