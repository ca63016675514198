"""Key points as a table: CSV with one line a person and frame."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any, TextIO

from edgepose.io.keypoints import WriteRecord

ABOUT = ("source", "frame", "seconds", "track_id", "score", "left", "top", "width", "height")


def to_table(stream: TextIO, keypoint_names: Sequence[str], space_names: Sequence[str] = ()) -> WriteRecord:
    """Write each image's people as lines of CSV, at once; the first line names the columns.

    Args:
        space_names: key points of the records' `xyz`, which may be those of another skeleton; their columns come last,
            metres around the root, and are empty where a position was not found.
    """
    writer = csv.writer(stream, lineterminator="\n")
    in_picture = (f"{name}_{part}" for name in keypoint_names for part in ("x", "y", "score"))
    in_space = (f"{name}_{part}_m" for name in space_names for part in ("x", "y", "z"))
    writer.writerow([*ABOUT, *in_picture, *in_space])

    def write(record: dict[str, Any]) -> None:
        about = [record.get("file_name", ""), record.get("frame", ""), record.get("seconds", "")]
        for person in record.get("people", ()):
            bbox, keypoints = person["bbox"], person["keypoints"]
            xyz = (person.get("xyz") or [None] * (3 * len(space_names))) if space_names else ()
            writer.writerow([*about, person.get("track_id", ""), person["score"], *bbox, *keypoints, *xyz])
        stream.flush()

    return write
