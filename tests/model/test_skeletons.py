from __future__ import annotations

import json

import pytest

from edgepose.errors import ModelFileError
from edgepose.model.skeletons import COCO17, MPII16, SKELETONS, Skeleton
from tests.makers import TWO_POINTS


@pytest.mark.parametrize(
    ("skeleton", "pairs"),
    [
        (COCO17, [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)]),
        (MPII16, [(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)]),
    ],
)
def test_built_in_pairs_are_the_published_ones(skeleton, pairs):
    assert sorted(tuple(sorted(pair)) for pair in skeleton.flip_pairs) == pairs


def test_coco_constants_are_pycocotools():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    assert COCO17.sigmas == pytest.approx(cocoeval.Params("keypoints").kpt_oks_sigmas)


@pytest.mark.parametrize("skeleton", SKELETONS.values())
def test_mirroring_twice_changes_nothing(skeleton):
    order = skeleton.flip_order

    assert [order[k] for k in order] == list(range(len(skeleton)))
    for name, other in zip(skeleton.keypoints, order, strict=True):
        if name.startswith("left_"):
            assert skeleton.keypoints[other] == "right_" + name.removeprefix("left_")


@pytest.mark.parametrize(
    ("name", "count", "unpaired"),  # how many have no mirror twin: mmpose's data set files say so with swap=""
    [
        *(("halpe26", 26, 4), ("wholebody133", 133, 11), ("aic14", 14, 2), ("crowdpose14", 14, 2)),
        *(("openpose18", 18, 2), ("blazepose33", 33, 1)),
        *(("posetrack17", 17, 3), ("hand21", 21, 21), ("face98", 98, 10), ("face106", 106, 10)),
    ],
)
def test_published_sets_have_their_points_and_pairs(name, count, unpaired):
    skeleton = SKELETONS[name]

    assert len(skeleton) == count
    assert len(skeleton) - 2 * len(skeleton.flip_pairs) == unpaired
    assert len(skeleton.sigmas) == (0 if name.startswith(("hand", "face", "blazepose")) else count)


@pytest.mark.parametrize("skeleton", SKELETONS.values())
def test_limbs_are_the_same_in_the_mirror(skeleton):
    order = skeleton.flip_order
    limbs = {frozenset(limb) for limb in skeleton.limbs}

    assert {frozenset((order[a], order[b])) for a, b in skeleton.limbs} == limbs


def test_whole_body_has_the_hands_where_they_are():
    skeleton = SKELETONS["wholebody133"]

    assert skeleton.keypoints[91] == "left_hand_root"
    assert skeleton.keypoints[112] == "right_hand_root"
    assert skeleton.keypoints[22] == "right_heel"
    assert skeleton.keypoints[95] == "left_thumb4"
    assert skeleton.flip_order[23 + 36] == 23 + 45  # the outer corners of the eyes


@pytest.mark.parametrize("name", ["face98", "face106"])
def test_outer_eye_corners_are_each_others_mirror(name):
    skeleton = SKELETONS[name]
    one, other = skeleton.eye_corners

    assert skeleton.flip_order[one] == other


@pytest.mark.parametrize(
    "skeleton",
    [COCO17, MPII16, TWO_POINTS, Skeleton("one", ("tip",), ()), Skeleton("eyes", ("a", "b"), (), eye_corners=(0, 1))],
)
def test_json_brings_a_skeleton_back(skeleton):
    text = json.dumps(skeleton.to_json())

    assert Skeleton.from_json(json.loads(text)) == skeleton


def test_json_of_a_built_in_skeleton_is_its_name():
    assert COCO17.to_json() == "coco17"
    assert isinstance(Skeleton("coco17", ("a", "b"), ()).to_json(), dict)


def test_pairs_left_out_are_found_by_name():
    found = Skeleton.from_json({"keypoints": ["nose", "right_eye", "left_eye", "left_tail"]})

    assert found.flip_pairs == ((2, 1),)
    assert Skeleton.from_json({"keypoints": ["left_eye", "right_eye"], "flip_pairs": []}).flip_pairs == ()


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        3,
        [],
        {},
        "coco18",
        {"keypoints": None},
        {"keypoints": "nose"},
        {"keypoints": []},
        {"keypoints": ["a", 2]},
        {"keypoints": ["a", "a"]},
        {"keypoints": ["a", "b"], "flip_pairs": [[0, 2]]},
        {"keypoints": ["a", "b"], "flip_pairs": [[0, -1]]},
        {"keypoints": ["a", "b"], "flip_pairs": [[0, 0.5]]},
        {"keypoints": ["a", "b"], "flip_pairs": [[0, "b"]]},
        {"keypoints": ["a", "b"], "flip_pairs": [0, 1]},
        {"keypoints": ["a", "b", "c"], "flip_pairs": [[0, 1, 2]]},
        {"keypoints": ["a", "b", "c"], "flip_pairs": [[0, 1], [1, 2]]},
        {"keypoints": ["a", "b"], "flip_pairs": None},
        {"keypoints": ["a", "b"], "limbs": [[0, 5]]},
        {"keypoints": ["a", "b"], "limbs": 7},
        {"keypoints": ["a", "b"], "eye_corners": [0]},
        {"keypoints": ["a", "b"], "eye_corners": [0, 2]},
        {"keypoints": ["a", "b"], "eye_corners": 1},
        {"keypoints": ["a", "b"], "sigmas": [0.1]},
        {"keypoints": ["a", "b"], "sigmas": [0.1, float("nan")]},
        {"keypoints": ["a", "b"], "sigmas": [0.1, "x"]},
        {"keypoints": ["a", "b"], "sigmas": [0.1, -1]},
    ],
)
def test_damaged_json_is_one_line(damaged):
    with pytest.raises(ModelFileError) as raised:
        Skeleton.from_json(damaged)

    assert "\n" not in str(raised.value)
    assert "coco17" in str(raised.value)  # says what would do
