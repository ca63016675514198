"""Records of key points, as they are written, get positions in space: a picture's at once, a video's at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from edgepose.errors import EdgeposeError
from edgepose.estimate.lift import Lifter, lift_frames
from edgepose.io.keypoints import WriteRecord
from edgepose.model.skeletons import Skeleton
from edgepose.stages.conversion import convert_keypoints, sources_of
from edgepose.stages.poses import Poses


@dataclass
class RecordLifter:
    """Stands in front of a writer of records; each person of a record gets `xyz`.

    Records with a "frame" are held until `finish`: a window looks ahead. Others, and records of errors, pass at once.
    Frames of another size than a video's first one are taken to show the same, scaled.

    Attributes:
        write: where records go.
        lifter: what lifts.
        skeleton: of the records' key points.
        flip_test: see `Lifter.track`.
        positions: of the records that passed last: one picture, or all frames of a video. (N, K', 3) metres each.
    """

    write: WriteRecord
    lifter: Lifter
    skeleton: Skeleton
    flip_test: bool = False
    positions: list[np.ndarray] = field(default_factory=list)
    _held: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, record: dict[str, Any]) -> None:
        """Take the next record."""
        if "frame" in record:
            self._held.append(record)
        elif "people" in record:
            self._pass_on([record])
        else:
            self.write(record)

    def finish(self) -> None:
        """The video has ended: lift its people and write its records."""
        held, self._held = self._held, []
        self._pass_on(held)

    def _pass_on(self, records: list[dict[str, Any]]) -> None:
        if not records:
            return
        frames, numbers = [], [record.get("frame", 0) for record in records]
        image_wh = (records[0]["width"], records[0]["height"])
        for record in records:
            points = np.array([person["keypoints"] for person in record["people"]], np.float64)
            points = points.reshape(len(record["people"]), len(self.skeleton), 3)
            points[..., :2] *= np.divide(image_wh, (record["width"], record["height"]))
            frames.append(Poses(points[..., :2], points[..., 2], np.zeros((len(points), 4), np.float32)))
        self.positions = lift_frames(
            self.lifter,
            frames,
            self.skeleton,
            image_wh,
            numbers=numbers,
            track_ids=_track_ids(records),
            flip_test=self.flip_test,
        )
        for record, xyz in zip(records, self.positions, strict=True):
            self.write({**record, "people": with_xyz(record["people"], xyz, self.lifter.skeleton)})


def _track_ids(records: list[dict[str, Any]]) -> list[np.ndarray] | None:
    """Who is who in each record; somebody without a track is nobody else. None where nobody has one."""
    ids = [[person.get("track_id") for person in record["people"]] for record in records]
    if all(one is None for row in ids for one in row):
        return None
    alone = count(1)
    return [np.array([-next(alone) if one is None or one < 0 else one for one in row], np.int64) for row in ids]


def with_xyz(people: Sequence[dict[str, Any]], xyz: np.ndarray, skeleton: Skeleton) -> list[dict[str, Any]]:
    """A record's people with their (N, K', 3) positions of that skeleton."""
    return [
        {**person, "xyz": _numbers(one), "xyz_skeleton": skeleton.name} for person, one in zip(people, xyz, strict=True)
    ]


def missing_points(person: dict[str, Any], skeleton: Skeleton, points: Skeleton) -> list[str]:
    """Names of the `points` that a record's person, whose key points are the skeleton's, does not tell."""
    keypoints = np.reshape(person["keypoints"], (len(skeleton), 3))
    _, scores = convert_keypoints(keypoints[:, :2], keypoints[:, 2], skeleton, points)
    return [name for name, score in zip(points.keypoints, scores, strict=True) if not score > 0]


def _numbers(xyz: np.ndarray) -> list[float] | None:
    """x, y, z of each key point in turn, metres; None where nothing could be lifted."""
    return xyz.astype(np.float64).round(4).ravel().tolist() if np.isfinite(xyz).all() else None


@contextmanager
def lifted(
    write: WriteRecord, lifter: Lifter, skeleton: Skeleton, *, flip_test: bool = False
) -> Iterator[RecordLifter]:
    """A RecordLifter whose records are written whatever ends the run: what was found is not lost.

    Raises:
        ModelFileError: the lifter wants key points that the skeleton does not tell.
    """
    sources_of(skeleton, lifter.points)
    records = RecordLifter(write, lifter, skeleton, flip_test)
    try:
        yield records
    except BaseException:
        with suppress(EdgeposeError, OSError, ValueError):  # the first error is the one to tell
            records.finish()
        raise
    records.finish()
