from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.backends import load_backend
from edgepose.calibration import dataset
from edgepose.calibration.dataset import (
    CalibrationImage,
    CalibrationSet,
    count_crops,
    crops_of,
    read_calibration_set,
    with_close_crops,
)
from edgepose.errors import CalibrationError, InputError
from edgepose.io.images import read_image
from edgepose.model.heads.heatmaps import Refine
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions
from tests.makers import dots_spec, make_spec, smooth_image, with_orientation, write_toy_model


def write_images(folder: Path, count: int) -> Path:
    for seed in range(count):
        cv2.imwrite(str(folder / f"{seed + 1:03}.png"), smooth_image(seed=seed))
    return folder


def write_boxes(path: Path, boxes: dict[int, list[list[float]]]) -> Path:
    results = [
        {"image_id": image_id, "category_id": 1, "bbox": box, "score": 1.0}
        for image_id, rows in boxes.items()
        for box in rows
    ]
    path.write_text(json.dumps(results))
    return path


def count_of(people: CalibrationSet) -> int:
    """People in all, each counted once."""
    return sum(map(len, {image.sha256: image for image in (*people.fitting, *people.held_out)}.values()))


def paths_of(people: CalibrationSet) -> list[str]:
    return [image.path.name for image in (*people.fitting, *people.held_out)]


def test_without_boxes_each_image_is_one_person(tmp_path):
    people = read_calibration_set([write_images(tmp_path, 3)], None, limit=10, seed=0)

    assert [image.boxes_xyxy.tolist() for image in people.fitting] == [[[0, 0, 160, 120]]] * 2


def test_crops_are_those_that_infer_cuts(tmp_path):
    spec = make_spec()
    boxes = write_boxes(tmp_path / "boxes.json", {1: [[10, 5, 40, 80], [60, 20, 30, 50]]})
    people = read_calibration_set([write_images(tmp_path, 1)], boxes, limit=10, seed=0)

    crops = np.concatenate(list(crops_of(people.fitting, spec)))

    wanted = np.array([[10, 5, 50, 85], [60, 20, 90, 70]], np.float32)
    image = read_image(tmp_path / "001.png")
    np.testing.assert_array_equal(crops, cut_out(image, Regions.around(wanted, spec), spec))


def test_held_out_people_are_in_other_images(tmp_path):
    people = read_calibration_set([write_images(tmp_path, 25)], None, limit=100, seed=0)

    assert len(people.held_out) == 2  # one in ten
    assert not {image.sha256 for image in people.fitting} & {image.sha256 for image in people.held_out}
    assert len(people.fitting) + len(people.held_out) == 25


@pytest.mark.parametrize(("images", "parts"), [(6, (2, 2, 2)), (7, (3, 2, 2)), (25, (9, 8, 8))])
def test_those_who_give_ranges_choose_and_confirm_share_no_image(tmp_path, images, parts):
    people = read_calibration_set([write_images(tmp_path, images)], None, limit=100, seed=0, held_out=3, confirm=True)

    sets = [{image.sha256 for image in part} for part in (people.fitting, people.held_out, people.confirming)]
    assert tuple(map(len, sets)) == parts
    assert len(set.union(*sets)) == images
    assert people.showing == people.confirming


def test_one_person_is_enough(tmp_path):
    people = read_calibration_set([write_images(tmp_path, 1)], None, limit=512, seed=0)

    assert people.fitting == people.held_out
    assert count_of(people) == 1


def test_the_limit_counts_people_and_the_seed_says_which(tmp_path):
    folder = write_images(tmp_path, 12)
    boxes = write_boxes(tmp_path / "b.json", {i: [[10, 5, 40, 80], [60, 20, 30, 50]] for i in range(1, 13)})

    first, again, other = (read_calibration_set([folder], boxes, limit=7, seed=seed) for seed in (0, 0, 1))

    assert count_of(first) == count_of(other) == 7
    assert paths_of(first) == paths_of(again) != paths_of(other)


def test_unreadable_images_are_listed_and_the_others_used(tmp_path):
    folder = write_images(tmp_path, 3)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "empty.png").touch()

    people = read_calibration_set([folder], None, limit=10, seed=0)

    assert count_of(people) == 3
    assert sorted(Path(line.split(":")[0]).name for line in people.unreadable) == ["broken.jpg", "empty.png"]


def test_an_image_that_is_there_twice_counts_once(tmp_path):
    folder = write_images(tmp_path, 2)
    for copy in range(8):
        (folder / f"copy{copy}.png").write_bytes((folder / "001.png").read_bytes())

    for limit in (10, 2):
        assert count_of(read_calibration_set([folder], None, limit=limit, seed=0)) == 2


def test_no_usable_person_is_an_error_that_says_what_was_found(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")

    with pytest.raises(CalibrationError, match=r"no usable person in 1 images \(1 unreadable.*at least one"):
        read_calibration_set([tmp_path], None, limit=10, seed=0)


def test_boxes_without_area_are_no_people(tmp_path):
    boxes = write_boxes(tmp_path / "b.json", {1: [[10, 5, 0, 80]]})

    with pytest.raises(CalibrationError, match="check that the boxes belong to these images"):
        read_calibration_set([write_images(tmp_path, 1)], boxes, limit=10, seed=0)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no images"):
        read_calibration_set([tmp_path], None, limit=10, seed=0)


def test_boxes_that_show_nobody_are_left_out_and_counted(tmp_path):
    nan = float("nan")
    boxes = write_boxes(tmp_path / "boxes.json", {1: [[10, 5, 40, 80], [900, 900, 40, 80], [nan, 0, 10, 10]]})

    people = read_calibration_set([write_images(tmp_path, 1)], boxes, limit=10, seed=0)

    assert [image.boxes_xyxy.tolist() for image in people.fitting] == [[[10, 5, 50, 85]]]
    assert people.unusable_boxes == 2


def test_pictures_that_exif_would_turn_are_counted(tmp_path):
    for seed, orientation in enumerate((1, 3, 6)):
        jpeg = cv2.imencode(".jpg", smooth_image(seed=seed))[1].tobytes()
        (tmp_path / f"{seed}.jpg").write_bytes(with_orientation(jpeg, orientation))

    people = read_calibration_set([tmp_path], None, limit=10, seed=0)

    assert people.turned == 2


def test_a_network_that_is_run_twice_is_calibrated_with_what_its_second_pass_gets(tmp_path):
    spec = dots_spec(refine=Refine(share=0.5, decoder="argmax"))
    backend = load_backend(write_toy_model(tmp_path / "m.onnx", spec), backend="onnxruntime")
    people = read_calibration_set([write_images(tmp_path, 4)], None, limit=10, seed=0)

    closer = with_close_crops(people, backend, seed=0)

    for image in (*closer.fitting, *closer.held_out):
        keypoints = backend.keypoints(read_image(image.path), Regions.around(image.boxes_xyxy, spec))
        assert sorted(map(tuple, image.close.center_xy)) == sorted(map(tuple, keypoints[0, :, :2].astype(float)))
        np.testing.assert_allclose(
            image.close.size_wh, 0.5 * Regions.around(image.boxes_xyxy, spec).size_wh.repeat(2, 0)
        )
        crops = np.concatenate(list(crops_of([image], spec)))
        np.testing.assert_array_equal(crops[1:], cut_out(read_image(image.path), image.close, spec))
    assert count_crops(closer.fitting) == 3 * len(closer.fitting)
    assert [image.path for image in closer.held_out] == [image.path for image in people.held_out]


def test_nothing_is_looked_at_closely_where_no_key_point_was_located(tmp_path):
    spec = dots_spec(refine=Refine(share=0.5, decoder="argmax"))
    backend = load_backend(write_toy_model(tmp_path / "m.onnx", spec), backend="onnxruntime")
    images = tmp_path / "images"
    images.mkdir()
    green = np.zeros((64, 48, 3), np.uint8)
    red = green.copy()
    green[20:24, 10:14, 1] = 255  # no point's colour
    red[20:24, 10:14, 2] = 255  # BGR: of the two points the first
    cv2.imwrite(str(images / "green.png"), green)
    cv2.imwrite(str(images / "red.png"), red)
    people = read_calibration_set([images], None, limit=10, seed=0)

    closer = with_close_crops(people, backend, seed=0)

    assert {image.path.stem: len(image.close) for image in (*closer.fitting, *closer.held_out)} == {
        "green": 0,
        "red": 1,
    }
    assert count_crops([*closer.fitting, *closer.held_out]) == 3


def test_close_crops_are_few_and_the_same_every_time(tmp_path, monkeypatch):
    spec = dots_spec(refine=Refine(share=0.5, decoder="argmax"))
    backend = load_backend(write_toy_model(tmp_path / "m.onnx", spec), backend="onnxruntime")
    people = read_calibration_set([write_images(tmp_path, 4)], None, limit=10, seed=0)
    monkeypatch.setattr(dataset, "CLOSE_CROPS", 1)

    first, again = (with_close_crops(people, backend, seed=3) for _ in range(2))

    assert [len(image.close) for image in first.fitting] == [1] * len(first.fitting)
    for one, other in zip(first.fitting, again.fitting, strict=True):
        np.testing.assert_array_equal(one.close.center_xy, other.close.center_xy)


def test_blank_boxes_are_left_out_and_counted(tmp_path):
    picture = smooth_image()
    picture[:, 80:] = 7 + np.indices((120, 80)).sum(axis=0)[:, :, None] % 16  # 15 grey levels of noise
    cv2.imwrite(str(tmp_path / "001.png"), picture)
    boxes = write_boxes(tmp_path / "boxes.json", {1: [[10, 5, 40, 80], [85, 5, 60, 80]]})

    people = read_calibration_set([tmp_path / "001.png"], boxes, limit=10, seed=0)

    assert (people.blank, people.fitting[0].boxes_xyxy.tolist()) == (1, [[10, 5, 50, 85]])


def test_pictures_without_content_are_refused(tmp_path):
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((120, 160, 3), number, np.uint8))

    with pytest.raises(CalibrationError, match=r"no usable person in 5 images.*5 people blank"):
        read_calibration_set([tmp_path], None, limit=10, seed=0)


def test_annotated_images_confirm_where_they_neither_gave_ranges_nor_chose():
    def images(*digests: str) -> tuple[CalibrationImage, ...]:
        return tuple(CalibrationImage(Path(digest), digest, np.zeros((1, 4))) for digest in digests)

    people = CalibrationSet(images("a1"), images("b1"), (), confirming=images("c0"))

    assert [people.confirms(digest) for digest in ("a1", "b1", "c0", "d1", "d0")] == [False, False, True, True, False]
