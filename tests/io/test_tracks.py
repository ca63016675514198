from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.io.tracks import read_tracks
from edgepose.model.skeletons import BODY15, COCO17
from tests.walker import make_tracks_json


def write(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps(data))
    return path


def test_reads_tracks_in_the_order_of_their_frames(tmp_path):
    data = make_tracks_json(frames=4)
    data["annotations"].reverse()

    tracks = read_tracks(write(tmp_path, data), with_positions=True)

    assert (tracks.points, tracks.positions) == (COCO17, BODY15)
    track = tracks.tracks[0]
    assert track.frames.tolist() == [0, 1, 2, 3]
    assert track.xy.shape == (4, 17, 2)
    assert track.xyz.shape == (4, 15, 3)
    first = next(entry for entry in data["annotations"] if entry["image_id"] == 0)
    assert np.array_equal(track.xy[0].ravel(), np.reshape(first["keypoints"], (17, 3))[:, :2].ravel())
    assert track.image_wh == (640, 480)


def test_two_people_are_two_tracks_and_so_is_one_number_in_two_videos(tmp_path):
    data = make_tracks_json(frames=2)
    other = json.loads(json.dumps(data["annotations"]))
    for entry in other:
        entry["track_id"] = 9
    data["images"].append({**data["images"][0], "id": 77, "video_id": 5})
    data["annotations"] += [*other, {**data["annotations"][0], "image_id": 77}]

    tracks = read_tracks(write(tmp_path, data)).tracks

    assert [len(track) for track in tracks] == [2, 2, 1]


def test_positions_are_optional(tmp_path):
    data = make_tracks_json(frames=2)
    del data["categories"][0]["keypoints_3d"]
    path = write(tmp_path, data)

    assert read_tracks(path).tracks[0].xyz is None
    with pytest.raises(InputError, match="the category has no keypoints_3d"):
        read_tracks(path, with_positions=True)


def damaged(change: str) -> Any:
    data = make_tracks_json(frames=2)
    annotation, image = data["annotations"][0], data["images"][0]
    if change == "list":
        return [data]
    if change == "nobody":
        data["annotations"] = []
    if change == "no frame":
        del image["frame_id"]
    if change == "no track":
        del annotation["track_id"]
    if change == "twice":
        data["annotations"][1]["image_id"] = annotation["image_id"]
    if change == "another size":
        image["width"] = 10
    if change == "few numbers":
        annotation["keypoints"] = annotation["keypoints"][:-3]
    if change == "nan":
        annotation["keypoints_3d"][4] = float("nan")
    if change == "image":
        annotation["image_id"] = 99
    if change == "names":
        data["categories"] = []
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("list", "an object was wanted, found list"),
        ("nobody", "there is nobody in it"),
        ("no frame", "no 'frame_id'"),
        ("no track", "no 'track_id'"),
        ("twice", "track 0 of video 0 is twice in frame 0"),
        ("another size", "is in images of sizes"),
        ("few numbers", "keypoints of image 0 must be 51 finite numbers"),
        ("nan", "keypoints_3d of image 0 must be 45 finite numbers"),
        ("image", "of image 99, not listed"),
        ("names", "no category names its keypoints"),
    ],
)
def test_a_file_of_another_form_is_told_in_one_line(tmp_path, change, message):
    with pytest.raises(InputError, match=message) as raised:
        read_tracks(write(tmp_path, damaged(change)), with_positions=True)

    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_json_is_told(tmp_path):
    path = tmp_path / "tracks.json"
    path.write_text("{")

    with pytest.raises(InputError):
        read_tracks(path)
