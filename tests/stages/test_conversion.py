from __future__ import annotations

import numpy as np
import pytest

from edgepose.errors import ModelFileError
from edgepose.model.skeletons import BODY15, COCO17, H36M16, H36M17, MPII16, SKELETONS, Skeleton
from edgepose.stages.conversion import convert_keypoints


def coco_points(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(*shape, 17, 2)), rng.uniform(size=(*shape, 17))


def test_nobody_becomes_nobody():
    xy, scores = convert_keypoints(np.zeros((0, 17, 2)), np.zeros((0, 17)), COCO17, H36M17)

    assert xy.shape == (0, 17, 2)
    assert scores.shape == (0, 17)


def test_coco_becomes_human36m_as_published():
    """The index arithmetic of mmpose's convert_keypoint_definition, and of MotionBERT's coco2h36m."""
    x, scores = coco_points(np.random.default_rng(0), 3, 5)
    pelvis, thorax = (x[..., 11, :] + x[..., 12, :]) / 2, (x[..., 5, :] + x[..., 6, :]) / 2
    head = (x[..., 1, :] + x[..., 2, :]) / 2

    xy, _ = convert_keypoints(x, scores, COCO17, H36M17)

    plain = {1: 12, 2: 14, 3: 16, 4: 11, 5: 13, 6: 15, 9: 0, 11: 5, 12: 7, 13: 9, 14: 6, 15: 8, 16: 10}
    for ours, cocos in plain.items():
        assert np.array_equal(xy[..., ours, :], x[..., cocos, :])
    for ours, middle in {0: pelvis, 7: (pelvis + thorax) / 2, 8: thorax, 10: head}.items():
        assert np.allclose(xy[..., ours, :], middle, rtol=0, atol=1e-15)


def test_a_middle_is_as_sure_as_the_least_sure_of_its_ends():
    scores = np.ones((1, 17))
    scores[0, COCO17.keypoints.index("left_hip")] = 0.25

    _, found = convert_keypoints(np.zeros((1, 17, 2)), scores, COCO17, H36M17)

    lower = {H36M17.keypoints[index] for index in np.flatnonzero(found[0] == 0.25)}
    assert lower == {"left_hip", "pelvis", "spine"}
    assert (found[0][found[0] != 0.25] == 1).all()


def test_what_is_unknown_makes_unknown_only_what_is_made_of_it():
    xy = np.zeros((1, 17, 2))
    xy[0, COCO17.keypoints.index("right_shoulder")] = np.nan

    found, _ = convert_keypoints(xy, np.ones((1, 17)), COCO17, H36M17)

    unknown = {H36M17.keypoints[index] for index in np.flatnonzero(np.isnan(found[0]).any(axis=1))}
    assert unknown == {"right_shoulder", "thorax", "spine"}


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_a_skeleton_becomes_itself(skeleton):
    xy = np.random.default_rng(0).normal(size=(2, len(skeleton), 3)).astype(np.float32)

    found, scores = convert_keypoints(xy, np.ones((2, len(skeleton))), skeleton, skeleton)

    assert np.array_equal(found, xy)
    assert found.dtype == np.float32
    assert (scores == 1).all()


def test_mpii_has_a_thorax_and_a_head_of_its_own():
    xy = np.arange(32, dtype=np.float64).reshape(1, 16, 2)

    found, _ = convert_keypoints(xy, np.ones((1, 16)), MPII16, H36M17)

    for name, mpiis in {"thorax": "thorax", "pelvis": "pelvis", "head": "head_top", "nose": "upper_neck"}.items():
        assert np.array_equal(found[0, H36M17.keypoints.index(name)], xy[0, MPII16.keypoints.index(mpiis)])


@pytest.mark.parametrize("source", [COCO17, MPII16, H36M17])
@pytest.mark.parametrize("target", [H36M17, H36M16, BODY15])
def test_left_stays_left(source, target):
    xy = np.random.default_rng(0).normal(size=(1, len(source), 2))
    scores = np.ones((1, len(source)))

    mirrored = convert_keypoints(xy[:, source.flip_order], scores, source, target)[0]

    assert np.allclose(mirrored, convert_keypoints(xy, scores, source, target)[0][:, target.flip_order])


def test_a_skeleton_without_what_is_wanted_is_refused():
    hand = Skeleton("hand", ("thumb", "little_finger"), ())

    with pytest.raises(ModelFileError, match="hand key points cannot be read as body15: there is no pelvis"):
        convert_keypoints(np.zeros((1, 2, 2)), np.ones((1, 2)), hand, BODY15)


def test_points_of_another_count_are_a_callers_mistake():
    with pytest.raises(ValueError, match="coco17 has 17 key points"):
        convert_keypoints(np.zeros((1, 16, 2)), np.ones((1, 16)), COCO17, H36M17)


def test_human36m_stands_in_its_published_order():
    parents = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)  # VideoPose3D's h36m_dataset.py, 17 points
    left, right = (4, 5, 6, 11, 12, 13), (1, 2, 3, 14, 15, 16)

    assert {(parent, child) for child, parent in enumerate(parents) if parent >= 0} == set(H36M17.limbs)
    assert set(H36M17.flip_pairs) == set(zip(left, right, strict=True))
    assert H36M16.keypoints == tuple(name for name in H36M17.keypoints if name != "nose")
