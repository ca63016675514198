from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from edgepose.io.keypoints import PARTIAL, to_file


def record(image_id: int, people: int) -> dict:
    return {"image_id": image_id, "width": 4, "people": [{"score": 0.5, "keypoints": [1.0] * 51}] * people}


@pytest.mark.parametrize("people", [[], [0, 0], [1], [2, 0, 3]])
def test_every_person_is_an_entry_of_one_list(tmp_path, people):
    with to_file(tmp_path / "keypoints.json") as write:
        for image_id, count in enumerate(people):
            write(record(image_id, count))

    entries = json.loads((tmp_path / "keypoints.json").read_text())
    assert [entry["image_id"] for entry in entries] == [i for i, count in enumerate(people) for _ in range(count)]
    assert [path.name for path in tmp_path.iterdir()] == ["keypoints.json"]


def write_until_it_fails(path: Path, people: int, failure: Exception | None = None) -> None:
    """Records of `people` people each, up to the failure; it is to come from the disk if none is given."""
    with to_file(path) as write:
        for image_id in range(1000):
            write(record(image_id, people))
            if failure:
                raise failure


def test_a_disk_that_fills_up_keeps_all_whole_records(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_until_it_fails(tmp_path / "keypoints.json", people=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    entries = json.loads((tmp_path / PARTIAL).read_text())
    assert [entry["image_id"] for entry in entries] == list(range(len(entries)))
    assert (tmp_path / PARTIAL).stat().st_size > 9_000
    assert [path.name for path in tmp_path.iterdir()] == [PARTIAL]


def test_an_error_before_anybody_was_found_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        write_until_it_fails(tmp_path / "keypoints.json", people=0, failure=KeyError())

    assert list(tmp_path.iterdir()) == []
