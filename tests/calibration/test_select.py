"""Which crops cover a set, how unlike two sets are, and how stable ranges are over halves of one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.calibration.dataset import CalibrationSet, count_crops, read_calibration_set
from edgepose.calibration.ranges import find_ranges, ranges_and_halves
from edgepose.calibration.select import covering, features_of, scaled, support_points, unlikeness
from edgepose.calibration.table import CalibrationTable
from edgepose.cli import main
from tests.calibration.graphs import mobile_network, pose_network, prepare, toy_crops, toy_spec, write_model
from tests.makers import smooth_image

LINE = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]])


def test_the_middle_one_is_chosen_first_and_then_one_of_each_side():
    assert support_points(LINE, 1) == [2]
    first, second = sorted(support_points(np.array([[0.0], [1.0], [2.0], [8.0], [9.0], [10.0]]), 2))
    assert first <= 2 < second


@pytest.mark.parametrize(("count", "chosen"), [(0, 0), (5, 5), (9, 5)])
def test_no_more_are_chosen_than_there_are_and_nobody_twice(count, chosen):
    found = support_points(LINE, count)

    assert len(found) == len(set(found)) == chosen


def test_of_nobody_nobody_is_chosen():
    assert support_points(np.zeros((0, 3)), 5) == []


def test_chosen_ones_are_as_often_from_each_kind_as_all_are():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (90, 4)), rng.normal(30, 1, (10, 4))])

    chosen = support_points(features, 20)

    assert sum(row >= 90 for row in chosen) == pytest.approx(2, abs=1)  # one in ten


def test_a_feature_that_never_changes_counts_for_nothing():
    found = scaled(np.array([[1.0, 7.0], [3.0, 7.0]]))

    assert found.tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_halves_of_a_set_are_alike_and_moved_ones_are_not():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (2, 100, 8))

    assert abs(unlikeness(one, other)) < 0.01  # its standard deviation is 0.003 here, by 200 drawings
    assert unlikeness(one, other + 1) > 0.1
    assert unlikeness(one, one[:19]) is None


def test_sets_in_which_nothing_differs_are_alike():
    assert unlikeness(np.ones((20, 3)), np.ones((20, 3))) == 0


def test_a_crop_has_the_mean_and_the_largest_value_of_each_channel():
    prepared = prepare(pose_network())

    found = features_of(prepared, (crop[None] for crop in toy_crops(3)))

    assert found.shape == (3, 2 * 16)  # the last layer before the head reads 16 channels
    assert (found[:, 16:] >= found[:, :16]).all()
    assert features_of(prepared, []).shape == (0, 0)


def pictures(folder: Path, count: int, top: int = 255) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        cv2.imwrite(str(folder / f"{seed}.png"), (smooth_image(seed=seed).astype(float) * top / 255).astype(np.uint8))
    return folder


@pytest.mark.parametrize("count", [1, 4, 100])
def test_a_covering_choice_takes_from_those_who_give_ranges_and_leaves_the_others(tmp_path, count):
    people = read_calibration_set([pictures(tmp_path, 12)], None, limit=100, seed=0)

    chosen = covering(people, prepare(pose_network()), toy_spec(), count)

    assert count_crops(chosen.fitting) == min(count, count_crops(people.fitting))
    assert {image.sha256 for image in chosen.fitting} <= {image.sha256 for image in people.fitting}
    assert chosen.held_out == people.held_out


def test_of_several_people_in_an_image_single_ones_can_be_chosen(tmp_path):
    (image,) = read_calibration_set([pictures(tmp_path, 1)], None, limit=1, seed=0).fitting
    boxes = np.array([[0, 0, 50, 100], [20, 10, 60, 100], [60, 0, 150, 110]], np.float32)
    fitting = (replace(image, boxes_xyxy=boxes),)

    chosen = covering(CalibrationSet(fitting, fitting, ()), prepare(pose_network()), toy_spec(), 2)

    (kept,) = chosen.fitting
    assert len(kept) == 2
    assert {tuple(box) for box in kept.boxes_xyxy.tolist()} < {tuple(box) for box in boxes.tolist()}
    assert chosen.held_out == chosen.fitting


def test_halves_give_ranges_of_their_own_and_the_whole_is_that_of_all():
    prepared = prepare(pose_network())
    crops = [crop[None] for crop in toy_crops(4)]
    loud = [crops[0], 8 * crops[1], crops[2], 8 * crops[3]]

    ranges, halves = ranges_and_halves(prepared, loud, ["crops"], "minmax")

    assert ranges == find_ranges(prepared, loud, ["crops"], "minmax")
    assert halves["crops"] == [find_ranges(prepared, loud[start::2], ["crops"], "minmax")["crops"] for start in (0, 1)]
    assert next(iter(CalibrationTable({}, ranges, {}, {}, halves).unstable.values())) > 1


def test_one_crop_has_no_halves():
    assert ranges_and_halves(prepare(pose_network()), [toy_crops(1)], ["crops"], "minmax")[1] == {}


def test_the_command_chooses_people_and_says_where_annotated_ones_look_unlike(tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("plotly")
    model = write_model(tmp_path, mobile_network())
    dark = pictures(tmp_path / "dark", 30, top=60)
    person = {"category_id": 1, "iscrowd": 0, "area": 9000, "bbox": [0, 0, 160, 120], "num_keypoints": 2}
    labels = tmp_path / "labels.json"
    labels.write_text(
        json.dumps(
            {
                "images": [{"id": index + 1, "file_name": f"{index}.png"} for index in range(30)],
                "annotations": [
                    {**person, "id": index + 1, "image_id": index + 1, "keypoints": [40, 40, 2, 80, 80, 2]}
                    for index in range(30)
                ],
                "categories": [{"id": 1, "name": "person", "keypoints": list(toy_spec().skeleton.keypoints)}],
            }
        )
    )
    people = ["--boxes", "whole", "--images", pictures(tmp_path / "light", 40)]
    fixed = ["calibrate", "--model", model, *people, "--select", 25]
    report = ["--report", tmp_path / "out.html", "--annotations", labels, "--annotated-images", dark]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgepose.calibration.budget.LEAST_FIGURE", 0.0)  # random weights find nobody
        result = CliRunner().invoke(main, [*map(str, (*fixed, *report))])

    assert result.exit_code == 0, result.output
    assert "ranges of 25 people" in result.output
    assert "the people calibrated on look unlike those of labels.json" in result.output
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["unlikeness"] > 0.03
    assert all(share >= 0 for share in told["range_spread"].values())
    assert "How stable the ranges are" in (tmp_path / "out.html").read_text(encoding="utf-8")
