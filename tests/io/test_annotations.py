from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.io.annotations import read_annotations


def coco(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "tail"]}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [1, 2, 10, 20],
                "area": 150,
                "keypoints": [5, 6, 2, 0, 0, 0],
            }
        ],
    }
    return {**data, **changes}


def written(folder: Path, data: Any) -> Path:
    path = folder / "people.json"
    path.write_text(json.dumps(data))
    return path


def person(**changes: Any) -> dict[str, Any]:
    return {**coco()["annotations"][0], **changes}


def test_reads_people(tmp_path):
    annotations = read_annotations(written(tmp_path, coco()))

    (image,) = annotations.images
    assert annotations.keypoint_names == ("nose", "tail")
    assert (image.image_id, image.file_name, image.size_wh) == (7, "a.jpg", (40, 30))
    assert image.boxes_xywh.tolist() == [[1, 2, 10, 20]]
    assert image.keypoints.tolist() == [[[5, 6, 2], [0, 0, 0]]]
    assert image.posed.tolist() == [True]
    assert np.isnan(image.head_sizes).all()


def test_crowds_and_people_without_key_points_are_not_posed(tmp_path):
    people = [person(), person(id=2, iscrowd=1), person(id=3, keypoints=[0] * 6)]

    (image,) = read_annotations(written(tmp_path, coco(annotations=people))).images

    assert image.posed.tolist() == [True, False, False]


def test_a_second_list_of_key_points_adds_names_and_fills_gaps(tmp_path):
    data = coco(annotations=[person(keypoints3=[9, 9, 1, 3, 4, 2, 8, 8, 2])])
    data["categories"][0]["keypoints3"] = ["tail", "ear", "nose"]

    annotations = read_annotations(written(tmp_path, data))

    assert annotations.keypoint_names == ("nose", "tail", "ear")
    assert annotations.images[0].keypoints.tolist() == [[[5, 6, 2], [9, 9, 1], [3, 4, 2]]]


def test_a_head_box_gives_the_head_size_of_mpii(tmp_path):
    (image,) = read_annotations(written(tmp_path, coco(annotations=[person(headbox=[10, 10, 13, 14])]))).images

    assert image.head_sizes == pytest.approx([0.6 * 5])


def test_other_categories_are_left_out(tmp_path):
    data = coco(annotations=[person(), {"id": 2, "image_id": 7, "category_id": 18, "bbox": [0, 0, 5, 5]}])

    assert len(read_annotations(written(tmp_path, data)).images[0]) == 1


@pytest.mark.parametrize("category", [{"id": 1, "name": "face", "keypoints": []}, {"id": 1, "name": "face"}])
def test_key_points_that_no_category_names_are_numbered(tmp_path, category):
    annotations = read_annotations(written(tmp_path, coco(categories=[category])))

    assert annotations.keypoint_names == ("0", "1")
    assert annotations.images[0].keypoints.tolist() == [[[5, 6, 2], [0, 0, 0]]]


def test_people_of_unequal_counts_of_unnamed_key_points_are_refused(tmp_path):
    people = [person(), person(id=2, keypoints=[1, 2, 2])]

    with pytest.raises(InputError, match="keypoints of annotation 2 must be 6 finite numbers"):
        read_annotations(written(tmp_path, coco(categories=[{"id": 1}], annotations=people)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b'{"images": [', "not readable as JSON"),
        (b"\x80\x02\x93 random bytes \xff", "not readable as JSON"),
        (b"a text", "not readable as JSON"),
        (b"[]", "an object was wanted, found list"),
        (b"{}", "no 'categories'"),
        (b'{"categories": 3, "images": [], "annotations": []}', "not COCO key-point annotations"),
        (b'{"categories": [{"id": 1, "name": "person"}], "images": [], "annotations": []}', "names its keypoints"),
    ],
)
def test_what_is_no_annotation_file_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "people.json"
    path.write_bytes(content)

    with pytest.raises(InputError, match=words) as caught:
        read_annotations(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (coco(annotations=[]), "nobody in it has a labelled key point"),
        (coco(annotations=[person(image_id=8)]), "of image 8, not listed"),
        (coco(annotations=[person(bbox=[0, 0, float("nan"), 5])]), "bbox of annotation 1 must be 4 finite numbers"),
        (coco(annotations=[person(bbox=[0, 0, 5])]), "bbox of annotation 1"),
        (coco(annotations=[person(keypoints=[1, 2, 2])]), "keypoints of annotation 1 must be 6 finite numbers"),
        (coco(annotations=[person(keypoints=["x"] * 6)]), "could not convert"),
        (coco(annotations=[person(area=None)]), "area of annotation 1 must be 1 finite number"),
        (coco(annotations=[person(area=float("inf"))]), "area of annotation 1 must be 1 finite number"),
        (coco(annotations=[{k: v for k, v in person().items() if k != "area"}]), "no 'area'"),
        (coco(annotations=[{k: v for k, v in person().items() if k != "keypoints"}]), "has no keypoints"),
        (coco(images=[{"id": float("inf"), "file_name": "a"}]), "infinity"),
        (coco(annotations=[3]), "not COCO key-point annotations"),
        (coco(images=[{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}]), "same id"),
        (coco(categories=[{"id": 1, "keypoints": ["nose", "nose"]}]), "twice"),
    ],
)
def test_entries_of_another_form_are_named(tmp_path, data, words):
    with pytest.raises(InputError, match=words):
        read_annotations(written(tmp_path, data))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: No such file"):
        read_annotations(tmp_path / "none.json")
