from __future__ import annotations

import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.export.training.motions import (
    FOUND,
    HELD_OUT,
    Motion,
    detected,
    read_motions,
    sample_windows,
    seen_from,
    with_other_bones,
)
from edgepose.model.skeletons import BODY15, COCO17
from tests.shared_data import SHARED, needs_shared
from tests.walker import walking


@pytest.fixture(scope="module")
def motions() -> list[Motion]:
    upright = walking(40) * (1, -1, -1)
    return [Motion("there", upright, 1 / 30), Motion("back", upright[::-1].copy(), 1 / 60)]


def bones(windows: np.ndarray) -> np.ndarray:
    starts, ends = zip(*BODY15.limbs, strict=True)
    return np.asarray(np.linalg.norm(windows[..., list(ends), :] - windows[..., list(starts), :], axis=-1))


def test_a_motion_is_known_at_every_time(motions):
    motion = motions[0]

    positions = motion.at(np.array([-1.0, 0.0, 0.5 / 30, 99.0]))

    assert np.allclose(positions[:2], motion.positions[0])
    assert np.allclose(positions[2], (motion.positions[0] + motion.positions[1]) / 2)
    assert np.allclose(positions[3], motion.positions[-1])


def test_windows_are_repeatable_and_keep_the_body(motions):
    first, second = (sample_windows(motions, 9, 20, np.random.default_rng(1)) for _ in range(2))

    assert first.shape == (20, 9, 15, 3)
    assert np.array_equal(first, second)
    # between two frames of a walk a bone's ends move on chords, which shorten it by less than a per cent
    assert np.abs(bones(first) / bones(motions[0].positions[0]) - 1).max() < 0.01


def test_other_bodies_have_other_bones_on_both_sides_alike(motions):
    windows = sample_windows(motions, 3, 5, np.random.default_rng(1))

    changed = bones(with_other_bones(windows, np.random.default_rng(2))) / bones(windows)

    lengths = dict(zip(BODY15.limbs, changed[0, 0], strict=True))
    at = BODY15.keypoints.index
    assert lengths[at("left_hip"), at("left_knee")] == pytest.approx(lengths[at("right_hip"), at("right_knee")])
    assert 0.01 < np.abs(changed - 1).mean() < 0.1


def test_a_camera_changes_no_distances_and_sees_everybody(motions):
    windows = sample_windows(motions, 9, 50, np.random.default_rng(1))

    camera = seen_from(windows, np.random.default_rng(2))

    assert np.allclose(bones(camera), bones(windows))
    assert (camera[..., 2] > 0.5).all()
    assert (
        np.linalg.det(camera[:, 0, [1, 7, 11]] - camera[:, 0, :1])
        * np.linalg.det((windows[:, 0, [1, 7, 11]] - windows[:, 0, :1]) * (1, -1, -1))
        >= -1e-12
    ).all()  # not mirrored


def test_an_exact_detector_gives_the_picture(motions):
    camera = seen_from(sample_windows(motions, 3, 10, np.random.default_rng(1)), np.random.default_rng(2))

    points = detected(camera, np.zeros(10), np.random.default_rng(3))

    exact = camera[..., :2] / camera[..., 2:]
    limbs = [BODY15.keypoints.index(name) for name in FOUND.keypoints]
    assert np.allclose(points[:, :, limbs], exact[:, :, limbs])
    hips = [BODY15.keypoints.index(name) for name in ("left_hip", "right_hip")]
    assert np.allclose(points[:, :, 0], exact[:, :, hips].mean(axis=2))


def test_a_detectors_error_grows_with_cocos_constants(motions):
    camera = seen_from(sample_windows(motions, 3, 3000, np.random.default_rng(1)), np.random.default_rng(2))

    points = detected(camera, np.full(3000, 0.65), np.random.default_rng(3))

    error = np.abs(points - camera[..., :2] / camera[..., 2:]) * camera[:, :, :1, 2:]
    typical = dict(zip(BODY15.keypoints, np.median(error, axis=(0, 1, 3)), strict=True))
    sigmas = dict(zip(COCO17.keypoints, COCO17.sigmas, strict=True))
    for name in ("left_hip", "right_wrist"):  # a Gaussian's median magnitude is 0.674 of its deviation
        expected = 0.674 * 0.65 * sigmas[name] * 0.79
        assert typical[name] == pytest.approx(expected, rel=0.25)  # outliers, and perspective within a body


@needs_shared
def test_the_motions_that_are_held_out_are_there():
    motions = read_motions(SHARED / "data/motion/deepmimic_joints3d.npz")

    assert set(HELD_OUT) < {motion.name for motion in motions}
    assert all(motion.positions.shape[1:] == (15, 3) and motion.length_s > 0.5 for motion in motions)
    assert all(np.ptp(bones(motion.positions), axis=0).max() < 1e-3 for motion in motions)  # in their right order


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "motions.npz"
    np.savez(path, names=np.array(["root"]))

    with pytest.raises(InputError, match="not a file of motions"):
        read_motions(path)
