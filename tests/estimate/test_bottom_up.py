from dataclasses import replace

import numpy as np
import pytest

from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.estimate.bottom_up import find_people, merge_mirrored
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.skeletons import COCO17
from edgepose.stages.letterbox import Letterbox

MAP_HW = (96, 160)
INPUT_HW = (384, 640)
FIELDS = Fields(MAP_HW, upsample=1)
TAGS = Tags(MAP_HW, center_shift=0.0)


def one_person(*, keypoints: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Where one person's key points are in the maps, which of them are drawn, and the maps."""
    rng = np.random.default_rng(1)
    points = draw_people(1, MAP_HW, rng, height=60)
    points += np.array([80, 48]) - points.mean(axis=1)
    if keypoints == 17:
        points = points[:, COCO17_OF_18]
    heatmaps, drawn = draw_maps(points, MAP_HW, rng, missing=0)
    if keypoints == 17:
        return points[0], drawn[0], {"heatmaps": heatmaps, "tags": draw_tags(points, drawn, MAP_HW, rng)}
    background = np.zeros((1, *MAP_HW), np.float32)
    pafs = draw_fields(points, drawn, MAP_HW, rng)
    return points[0], drawn[0], {"heatmaps": np.concatenate([heatmaps, background]), "pafs": pafs}


@pytest.mark.parametrize("image_hw", [(384, 640), (192, 320), (1000, 500)])
@pytest.mark.parametrize(("head", "keypoints"), [(FIELDS, 18), (TAGS, 17)])
def test_people_are_where_they_are_in_the_image(head, keypoints, image_hw):
    in_maps, _, outputs = one_person(keypoints=keypoints)
    letterbox = Letterbox.fit(image_hw, INPUT_HW, "letterbox-center")

    poses, scores = find_people(outputs, head, letterbox)

    px = 4 / letterbox.scale_xy[0]  # image px of a map's
    expected = ((in_maps + 0.5) * 4 - letterbox.offset_xy) / letterbox.scale_xy - 0.5
    assert poses.xy.shape == (1, keypoints, 2)
    # to the nearest pixel, and what noise moves the top of a Gaussian of sigma 2
    assert np.abs(poses.xy[0] - expected).max() < 1.3 * px
    assert (poses.boxes_xyxy[0, :2] < poses.xy[0].min(axis=0)).all()
    assert (poses.boxes_xyxy[0, 2:] > poses.xy[0].max(axis=0)).all()
    assert scores.shape == (1,)


def test_one_output_with_fields_behind_heat_maps_is_the_same():
    _, _, outputs = one_person(keypoints=18)
    letterbox = Letterbox.fit((384, 640), INPUT_HW, "plain")
    apart, _ = find_people(outputs, FIELDS, letterbox)

    joined = {"heatmaps": np.concatenate([outputs["heatmaps"], outputs["pafs"]])}
    together, _ = find_people(joined, replace(FIELDS, joined=True), letterbox)

    np.testing.assert_array_equal(together.xy, apart.xy)


@pytest.mark.parametrize(
    ("head", "names"), [(FIELDS, {"heatmaps": 19, "pafs": 38}), (TAGS, {"heatmaps": 17, "tags": 17})]
)
def test_nobody_in_an_empty_picture(head, names):
    outputs = {name: np.zeros((channels, *MAP_HW), np.float32) for name, channels in names.items()}

    poses, scores = find_people(outputs, head, Letterbox.fit((480, 640), INPUT_HW, "letterbox"))

    assert poses.xy.shape == (0, names["heatmaps"] - (head is FIELDS), 2)
    assert poses.boxes_xyxy.shape == (0, 4)
    assert scores.shape == (0,)


def test_a_key_point_that_was_not_found_is_in_no_box():
    _, _, outputs = one_person(keypoints=18)
    outputs["heatmaps"][4] = 0

    poses, _ = find_people(outputs, FIELDS, Letterbox.fit((384, 640), INPUT_HW, "plain"))

    assert np.isnan(poses.xy[0, 4]).all()
    assert poses.scores[0, 4] == 0
    assert np.isfinite(poses.boxes_xyxy).all()


def test_a_mirrored_picture_of_the_same_changes_nothing():
    _, _, outputs = one_person(keypoints=17)
    mirrored = {name: maps[COCO17.flip_order, :, ::-1] for name, maps in outputs.items()}
    letterbox = Letterbox.fit((384, 640), INPUT_HW, "plain")

    merged = merge_mirrored(outputs, mirrored, TAGS, COCO17.flip_order)

    assert merged["tags"].shape == (34, *MAP_HW)
    np.testing.assert_array_equal(merged["heatmaps"], outputs["heatmaps"])
    np.testing.assert_array_equal(merged["tags"][17:], outputs["tags"])
    np.testing.assert_array_equal(
        find_people(merged, TAGS, letterbox)[0].xy, find_people(outputs, TAGS, letterbox)[0].xy
    )


def test_there_is_no_flip_test_of_fields():
    with pytest.raises(ValueError, match="no flip test of fields"):
        merge_mirrored({}, {}, FIELDS, COCO17.flip_order)


def test_a_missing_output_is_named():
    letterbox = Letterbox.fit((9, 9), INPUT_HW, "plain")
    alone = {"heatmaps": np.zeros((57, *MAP_HW), np.float32)}

    with pytest.raises(ValueError, match="must have pafs; found heatmaps"):
        find_people(alone, FIELDS, letterbox)


def test_swapped_outputs_are_refused():
    letterbox = Letterbox.fit((9, 9), INPUT_HW, "plain")
    swapped = {"heatmaps": np.zeros((38, *MAP_HW), np.float32), "pafs": np.zeros((19, *MAP_HW), np.float32)}

    with pytest.raises(ValueError, match=r"wanted heatmaps \(18 or 19, h, w\) and pafs \(38, h, w\), got \(38, "):
        find_people(swapped, FIELDS, letterbox)
