from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.io.boxes import MOST, boxes_for_images, boxes_of_frames, read_json
from tests.shared_data import SHARED, needs_shared

PATHS = [Path("pictures/000000000007.jpg"), Path("pictures/dancer.png")]


def boxes_file(folder: Path, data: object) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(data))
    return path


def annotation(image_id: int, *bbox: float, **more: object) -> dict[str, object]:
    return {"image_id": image_id, "category_id": 1, "bbox": list(bbox), **more}


def test_without_a_file_the_whole_image_is_one_person():
    seven, dancer = boxes_for_images(PATHS, None)

    np.testing.assert_array_equal(seven.boxes_in(np.zeros((20, 30, 3), np.uint8)), [[0, 0, 30, 20]])
    assert (seven.image_id, dancer.image_id) == (7, None)
    np.testing.assert_array_equal(seven.box_scores, [1])


def test_annotations_are_matched_by_file_name_whatever_the_folder(tmp_path):
    path = boxes_file(
        tmp_path,
        {
            "images": [{"id": 40, "file_name": "train/dancer.png"}, {"id": 41, "file_name": "000000000007.jpg"}],
            "annotations": [annotation(40, 1, 2, 10, 20), annotation(41, 5, 5, 5, 5), annotation(40, 3, 4, 30, 40)],
        },
    )

    seven, dancer = boxes_for_images(PATHS, path)

    assert (seven.image_id, dancer.image_id) == (41, 40)
    np.testing.assert_array_equal(dancer.boxes_in(np.zeros((9, 9, 3))), [[1, 2, 11, 22], [3, 4, 33, 44]])
    np.testing.assert_array_equal(dancer.box_scores, [1, 1])


def test_detection_results_are_matched_by_the_number_that_the_name_is(tmp_path):
    path = boxes_file(tmp_path, [annotation(7, 1, 2, 3, 4, score=0.25)])

    seven, dancer = boxes_for_images(PATHS, path)

    np.testing.assert_array_equal(seven.boxes_xyxy, np.array([[1, 2, 4, 6]], np.float32))
    np.testing.assert_array_equal(seven.box_scores, np.array([0.25], np.float32))
    assert dancer.boxes_xyxy.shape == (0, 4)


def test_ids_can_be_given(tmp_path):
    path = boxes_file(tmp_path, [annotation(1, 0, 0, 3, 4)])

    first, second = boxes_for_images([Path("clip.mp4")] * 2, path, range(2))

    assert (len(first.boxes_xyxy), len(second.boxes_xyxy)) == (0, 1)


def test_crowds_and_other_categories_are_left_out(tmp_path):
    cat = {**annotation(7, 1, 1, 5, 5), "category_id": 17}
    path = boxes_file(tmp_path, [annotation(7, 0, 0, 9, 9, iscrowd=1), cat, annotation(7, 2, 2, 5, 5)])

    (seven,) = boxes_for_images(PATHS[:1], path)

    np.testing.assert_array_equal(seven.boxes_xyxy, [[2, 2, 7, 7]])
    assert seven.unusable == 0


def test_boxes_of_a_low_score_are_left_out_and_their_image_stays_known(tmp_path):
    low = annotation(7, 1, 1, 5, 5, score=0.29)
    path = boxes_file(tmp_path, [low, annotation(7, 2, 2, 5, 5, score=0.3), annotation(8, 0, 0, 5, 5, score=0.2)])

    seven, eight = boxes_for_images([PATHS[0], Path("8.png")], path, min_score=0.3)
    (alone,) = boxes_for_images([Path("8.png")], path, min_score=0.3)

    np.testing.assert_array_equal(seven.boxes_xyxy, [[2, 2, 7, 7]])
    assert (len(eight.boxes_xyxy), len(alone.boxes_xyxy)) == (0, 0)
    assert (seven.unusable, eight.unusable) == (0, 0)
    assert list(boxes_of_frames(Path("clip.mp4"), path, min_score=0.3)) == [7, 8]


def test_unusable_boxes_are_counted_and_left_out(tmp_path):
    bad = [(1, 1, 0, 5), (1, 1, 5, -3), (float("nan"), 1, 5, 5), (1, 1, float("inf"), 5), (1, 1, 1e9, 5)]
    path = boxes_file(tmp_path, [annotation(7, *bbox) for bbox in [*bad, (0, 0, 4, 4)]])

    (seven,) = boxes_for_images(PATHS[:1], path)

    np.testing.assert_array_equal(seven.boxes_xyxy, [[0, 0, 4, 4]])
    assert seven.unusable == 5


def test_of_a_hundred_thousand_boxes_of_an_image_the_surest_are_kept_in_their_order(tmp_path):
    sure = range(0, 100_000, 100)  # as many as are kept
    boxes = [annotation(7, i, 0, 10, 10, score=0.9 if i in sure else 0.1) for i in range(100_000)]
    path = boxes_file(tmp_path, [*boxes, annotation(8, 1, 0, 10, 10, score=0.01)])

    seven, eight = boxes_for_images([PATHS[0], Path("8.png")], path)

    assert len(sure) == MOST
    assert seven.boxes_xyxy[:, 0].tolist() == list(sure)
    assert (seven.unusable, eight.unusable, len(eight.boxes_xyxy)) == (99_000, 0, 1)


@pytest.mark.parametrize(
    "data",
    [
        {"images": []},
        {"annotations": []},
        "text",
        7,
        [7],
        [{"bbox": [1, 2, 3, 4]}],
        [{"image_id": 7, "bbox": [1, 2, 3]}],
        [{"image_id": 7, "bbox": "none"}],
        [{"image_id": "seven", "bbox": [1, 2, 3, 4]}],
        {"images": [{"id": 7}], "annotations": []},
    ],
)
def test_a_file_of_another_form_is_one_line(tmp_path, data):
    path = boxes_file(tmp_path, data)

    with pytest.raises(InputError) as error:
        boxes_for_images(PATHS, path)

    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"annotations": []}, "no 'images'"),
        ([7], "entry 0 is int"),
        ([annotation(7, 1, 2, 3, 4), {"image_id": 7, "bbox": [1, 2, 3]}], "bbox of entry 1 must be 4 numbers"),
    ],
)
def test_what_is_wrong_in_a_file_and_what_was_wanted_are_told(tmp_path, data, words):
    with pytest.raises(InputError) as error:
        boxes_for_images(PATHS, boxes_file(tmp_path, data))

    assert words in str(error.value)
    assert "wanted: a list of objects with image_id, bbox" in str(error.value)


def test_a_file_about_other_images_is_refused(tmp_path):
    path = boxes_file(tmp_path, [annotation(99, 1, 2, 3, 4)])

    with pytest.raises(InputError, match="knows none of the 2 images"):
        boxes_for_images(PATHS, path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"hello", b"[" * 100_000, b'[{"image_id": 7, "bbox": [1,', np.random.default_rng(0).bytes(500)],
    ids=["empty", "truncated", "text", "deep", "cut", "random"],
)
def test_what_is_no_json_is_one_line(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_bytes(content)

    with pytest.raises(InputError) as error:
        read_json(path)

    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        boxes_for_images(PATHS, tmp_path / "none.json")


@pytest.mark.parametrize("folder", ["", "pictures", "/elsewhere/pictures"])
def test_images_of_the_same_name_are_told_apart_by_their_folders(tmp_path, folder):
    path = boxes_file(
        tmp_path,
        {
            "images": [{"id": 1, "file_name": "x/1.png"}, {"id": 2, "file_name": "y/1.png"}],
            "annotations": [annotation(1, 0, 0, 5, 5), annotation(2, 0, 0, 9, 9)],
        },
    )

    found = boxes_for_images([Path(folder) / "x" / "1.png", Path(folder) / "y" / "1.png"], path)

    assert [each.image_id for each in found] == [1, 2]


def test_an_image_that_two_names_fit_is_refused(tmp_path):
    images = [{"id": 1, "file_name": "x/1.png"}, {"id": 2, "file_name": "y/1.png"}]
    path = boxes_file(tmp_path, {"images": images, "annotations": []})

    with pytest.raises(InputError, match=r"2 images that z/1.png may be \(ids 1, 2"):
        boxes_for_images([Path("z/1.png")], path)


@pytest.mark.parametrize("data", [[], {"images": [], "annotations": []}])
def test_a_file_without_anybody_means_nobody(tmp_path, data):
    found = boxes_for_images(PATHS, boxes_file(tmp_path, data))

    assert [each.boxes_xyxy.shape for each in found] == [(0, 4), (0, 4)]


def test_boxes_of_frames_are_by_number(tmp_path):
    frames = boxes_of_frames(
        Path("clip.mp4"), boxes_file(tmp_path, [annotation(5, 1, 2, 3, 4), annotation(9, 0, 0, 0, 4)])
    )

    np.testing.assert_array_equal(frames[5].boxes_xyxy, [[1, 2, 4, 6]])
    assert (len(frames[9].boxes_xyxy), frames[9].unusable) == (0, 1)


@needs_shared
def test_reads_boxes_without_key_points_of_real_annotations():
    folder = SHARED / "data" / "calib_coco"
    images = sorted((folder / "images").iterdir())

    found = boxes_for_images(images, folder / "person_boxes.json")

    assert len(images) == 73
    assert sum(len(each.boxes_xyxy) + each.unusable for each in found) == 198
