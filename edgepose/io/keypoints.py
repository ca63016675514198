"""Key points out: COCO results in a file, or one JSON object a line on a stream."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgepose.files import whole_file
from edgepose.io.boxes import PERSON
from edgepose.stages.poses import Poses
from edgepose.stages.similarity import rescore

PARTIAL = "keypoints.partial.json"  # what was found before an interrupt or an error

WriteRecord = Callable[[dict[str, Any]], None]


def people_of(poses: Poses, box_scores: np.ndarray) -> list[dict[str, Any]]:
    """COCO's fields for each person; a pose's score is its box's times the mean of its key points' above 0.2."""
    return scored_people(poses, rescore(poses.scores, box_scores))


def scored_people(poses: Poses, person_scores: np.ndarray) -> list[dict[str, Any]]:
    """COCO's fields for each person of that score, and their track_id where they have one.

    A key point that was not found is 0, 0, 0. Of networks that find depths each has `xyz` too: x, y, z of each key
    point in turn, metres around the root; null three times where it was not found.
    """
    xy = np.where(np.isfinite(poses.xy), poses.xy, 0)
    keypoints = np.concatenate([xy, poses.scores[..., None]], axis=2).astype(np.float64).round(3)
    boxes = poses.boxes_xyxy.astype(np.float64)
    boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).round(2)
    people = [
        {"category_id": PERSON, "bbox": box.tolist(), "score": round(float(score), 5), "keypoints": points.tolist()}
        for box, score, points in zip(
            boxes_xywh,
            person_scores,
            keypoints.reshape(len(poses), 3 * poses.xy.shape[1]),
            strict=True,
        )
    ]
    if poses.track_ids is not None:
        for person, track in zip(people, poses.track_ids.tolist(), strict=True):
            person["track_id"] = track
    if poses.xyz is not None:
        for person, xyz in zip(people, poses.xyz, strict=True):
            person["xyz"] = [round(value, 4) if math.isfinite(value) else None for value in xyz.ravel().tolist()]
    return people


def to_stream(stream: TextIO) -> WriteRecord:
    """Write each image's record as a line, at once."""

    def write(record: dict[str, Any]) -> None:
        stream.write(json.dumps(record, allow_nan=False) + "\n")
        stream.flush()

    return write


@contextmanager
def to_file(path: Path) -> Iterator[WriteRecord]:
    """COCO results, written person by person so that memory does not grow; the file appears when all is done.

    After an interrupt or an error, what was written until then becomes PARTIAL beside it.
    """
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        count = end = 0  # people, and bytes, that have safely been written

        def write(record: dict[str, Any]) -> None:
            nonlocal count, end
            about = {key: record[key] for key in ("image_id", "file_name", "frame") if key in record}
            people = [json.dumps({**about, **person}, allow_nan=False) for person in record.get("people", ())]
            if people:
                file.write(((",\n" if count else "[\n") + ",\n".join(people)).encode())
                file.flush()
                count, end = count + len(people), file.tell()

        try:
            yield write
        except BaseException:
            if count:
                with suppress(OSError):  # a full disk: the last record is in part
                    file.close()
                os.truncate(temporary, end)
                with open(temporary, "ab") as kept:
                    kept.write(b"\n]\n")
                os.replace(temporary, path.with_name(PARTIAL))
            raise
        file.write(b"\n]\n" if count else b"[]\n")
    path.with_name(PARTIAL).unlink(missing_ok=True)  # of an earlier run
