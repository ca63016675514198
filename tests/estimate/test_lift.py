from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgepose.errors import ModelFileError
from edgepose.estimate.lift import Lifter, lift_frames
from edgepose.model.heads.lift import Lift
from edgepose.model.skeletons import BODY15, COCO17, H36M17, MPII16, Skeleton
from edgepose.stages.poses import Poses

WH = (200, 100)  # so x / w * 2 - 1 is x / 100 - 1, and y / w * 2 - h / w is y / 100 - 0.5


def middle_frame(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """A lifter that gives the window's middle frame, with the sum of all frames' x as its depth."""
    points = inputs["points"]
    depth = points[..., :1].sum(axis=1)
    return {"xyz": np.concatenate([points[:, points.shape[1] // 2], depth], axis=2)}


def make_lifter(frames: int = 5, *, causal: bool = False) -> Lifter:
    return Lifter(middle_frame, Lift(frames, causal=causal), H36M17, H36M17)


def make_track(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    xy = np.random.default_rng(0).uniform(0, 100, (length, 17, 2))
    return np.arange(length), xy, np.ones((length, 17))


def from_the_root(xy: np.ndarray) -> np.ndarray:
    return (xy - xy[:, :1]) / 100


def test_a_track_without_frames_has_no_positions():
    assert make_lifter().track(*make_track(0), H36M17, WH).shape == (0, 17, 3)


@pytest.mark.parametrize("length", [1, 2, 5, 600])
def test_each_frame_is_lifted_from_the_frames_around_it(length):
    frames, xy, scores = make_track(length)

    xyz = make_lifter().track(frames, xy, scores, H36M17, WH)

    padded = np.pad(xy[..., 0] - xy[:, :1, 0], ((2, 2), (0, 0)), "edge") / 100
    assert np.allclose(xyz[..., :2], from_the_root(xy), atol=1e-5)
    assert np.allclose(xyz[..., 2], sum(padded[i : i + length] for i in range(5)), atol=1e-5)


def test_a_causal_lifter_sees_no_later_frame():
    frames, xy, scores = make_track(8)
    other = xy.copy()
    other[6:] += 50

    before, after = (make_lifter(causal=True).track(frames, points, scores, H36M17, WH) for points in (xy, other))

    assert np.array_equal(before[:6], after[:6])
    assert not np.array_equal(before[6:], after[6:])


def test_coco_keypoints_are_converted():
    xy = np.random.default_rng(0).uniform(0, 100, (3, 17, 2))

    xyz = make_lifter(1).track(np.arange(3), xy, np.ones((3, 17)), COCO17, WH)

    pelvis = (xy[:, 11] + xy[:, 12]) / 2
    assert np.allclose(xyz[:, 4, :2], (xy[:, 11] - pelvis) / 100, atol=1e-5)  # the left hip


def test_nan_in_the_middle_of_a_track_is_taken_from_before_and_after():
    frames, xy, scores = make_track(7)
    xy[3] = (xy[2] + xy[4]) / 2
    holed = xy.copy()
    holed[3] = np.nan

    assert np.allclose(
        make_lifter().track(frames, holed, scores, H36M17, WH), make_lifter().track(frames, xy, scores, H36M17, WH)
    )


def test_a_point_of_score_0_is_not_believed():
    frames, xy, scores = make_track(7)
    wild = xy.copy()
    wild[3, 5] = 1e6
    scores[3, 5] = 0

    xyz = make_lifter().track(frames, wild, scores, H36M17, WH)

    assert np.abs(xyz).max() < 10


def test_a_lost_track_is_lifted_across_a_short_gap_and_in_parts_across_a_long_one():
    frames, xy, scores = make_track(6)
    short, long = frames + np.array([0, 0, 0, 2, 2, 2]), frames + np.array([0, 0, 0, 20, 20, 20])

    across = make_lifter().track(short, xy, scores, H36M17, WH)
    apart = make_lifter().track(long, xy, scores, H36M17, WH)

    assert np.allclose(across[..., :2], from_the_root(xy), atol=1e-5)
    assert np.array_equal(apart[:3], make_lifter().track(frames[:3], xy[:3], scores[:3], H36M17, WH))
    assert not np.allclose(across[2, :, 2], apart[2, :, 2])


def test_a_point_that_is_never_found_leaves_the_track_without_positions():
    frames, xy, scores = make_track(3)
    scores[:, 3] = 0

    assert np.isnan(make_lifter().track(frames, xy, scores, H36M17, WH)).all()


def test_the_flip_test_averages_with_the_mirrored_person():
    def only_left(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        xyz = np.zeros((len(inputs["points"]), 17, 3), np.float32)
        xyz[:, H36M17.keypoints.index("left_wrist")] = (1, 2, 3)
        return {"xyz": xyz}

    lifter = Lifter(only_left, Lift(1), H36M17, H36M17)

    xyz = lifter.track(*make_track(1), H36M17, WH, flip_test=True)

    assert xyz[0, H36M17.keypoints.index("left_wrist")].tolist() == [0.5, 1, 1.5]
    assert xyz[0, H36M17.keypoints.index("right_wrist")].tolist() == [-0.5, 1, 1.5]


def test_a_lifter_for_another_skeleton_is_refused():
    frames, xy, scores = make_track(2)
    hand = Skeleton("hand", tuple(f"finger_{index}" for index in range(17)), ())

    with pytest.raises(ModelFileError, match="hand key points cannot be read as h36m17"):
        make_lifter().track(frames, xy, scores, hand, WH)


@pytest.mark.parametrize("skeleton", [COCO17, MPII16])
def test_published_skeletons_go_into_the_embedded_lifters(skeleton):
    lifter = Lifter(middle_frame, Lift(3, points="body15", units="person"), BODY15, BODY15)
    xy = np.random.default_rng(0).uniform(0, 100, (2, len(skeleton), 2))

    assert np.isfinite(lifter.track(np.arange(2), xy, np.ones(xy.shape[:2]), skeleton, WH)).all()


def make_poses(xy: np.ndarray) -> Poses:
    """(N, 17, 2) found for sure."""
    return Poses(xy.astype(np.float32), np.ones(xy.shape[:2], np.float32), np.zeros((len(xy), 4), np.float32))


def test_a_video_of_one_person_is_one_track():
    frames, xy, scores = make_track(6)

    found = lift_frames(make_lifter(), [make_poses(one[None]) for one in xy], H36M17, WH)

    assert np.allclose(np.concatenate(found), make_lifter().track(frames, xy, scores, H36M17, WH), atol=1e-5)


def test_a_frame_without_people_has_no_positions_and_keeps_the_track():
    frames, xy, scores = make_track(6)
    seen = np.array([0, 1, 3, 4, 5])
    poses = [make_poses(xy[i : i + 1] if i in seen else xy[:0]) for i in frames]

    found = lift_frames(make_lifter(), poses, H36M17, WH)

    assert [len(xyz) for xyz in found] == [1, 1, 0, 1, 1, 1]
    expected = make_lifter().track(frames[seen], xy[seen], scores[seen], H36M17, WH)
    assert np.allclose(np.concatenate(found), expected, atol=1e-5)


def test_people_are_told_apart_by_their_track():
    frames, xy, scores = make_track(6)
    other = xy[::-1] + 20
    poses = [make_poses(np.stack([other[i], xy[i]] if i % 2 else [xy[i], other[i]])) for i in frames]
    ids = [np.array([9, 4] if i % 2 else [4, 9]) for i in frames]

    found = lift_frames(make_lifter(), poses, H36M17, WH, track_ids=ids)

    mine = np.stack([found[i][list(ids[i]).index(4)] for i in frames])
    assert np.allclose(mine, make_lifter().track(frames, xy, scores, H36M17, WH), atol=1e-5)


def test_several_people_whom_nobody_followed_are_lifted_frame_by_frame():
    _, xy, scores = make_track(4)

    found = lift_frames(make_lifter(), [make_poses(xy[:2]), make_poses(xy[2:])], H36M17, WH)

    for i in range(4):
        alone = make_lifter().track(np.array([0]), xy[i : i + 1], scores[:1], H36M17, WH)[0]
        assert np.allclose(found[i // 2][i % 2], alone, atol=1e-5)


def test_a_video_without_frames_or_people_is_no_trouble():
    assert lift_frames(make_lifter(), [], H36M17, WH) == []
    assert [len(xyz) for xyz in lift_frames(make_lifter(), [make_poses(np.zeros((0, 17, 2)))], H36M17, WH)] == [0]
