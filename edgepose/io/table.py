"""Key points as a table: CSV with one line a person and frame."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any, TextIO

from edgepose.io.keypoints import WriteRecord

ABOUT = ("source", "frame", "seconds", "track_id", "score", "left", "top", "width", "height")


def to_table(stream: TextIO, keypoint_names: Sequence[str]) -> WriteRecord:
    """Write each image's people as lines of CSV, at once; the first line names the columns."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*ABOUT, *(f"{name}_{part}" for name in keypoint_names for part in ("x", "y", "score"))])

    def write(record: dict[str, Any]) -> None:
        about = [record.get("file_name", ""), record.get("frame", ""), record.get("seconds", "")]
        for person in record.get("people", ()):
            bbox, keypoints = person["bbox"], person["keypoints"]
            writer.writerow([*about, person.get("track_id", ""), person["score"], *bbox, *keypoints])
        stream.flush()

    return write
