from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgepose.backends.host import HostBackend
from edgepose.errors import ModelFileError
from edgepose.estimate.top_down import estimate_many, estimate_poses
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.volume import Volume
from edgepose.model.skeletons import COCO17, MPII16, Skeleton
from edgepose.model.spec import Input, ModelSpec, Region
from edgepose.stages.depth import FOCAL_PX, ROOT_DEPTH_M, positions, root_of
from tests.makers import TWO_POINTS
from tests.stages.test_volume import gaussian

POINTS = Skeleton("three", ("left_hand", "right_hand", "pelvis"), flip_pairs=((0, 1),))
HEAD = Volume((8, 16, 12), depth_m=2.0)
VOLUME = ModelSpec("volume", Input((64, 48)), HEAD, POINTS, Region(padding=1.0))
VECTORS = ModelSpec("vectors", Input((64, 48)), SimCC(depth_bins=20, depth_range=2.0), POINTS, Region(padding=1.0))
CELLS = [(3.0, 5.0, 2.0), (9.0, 5.0, 4.0), (6.0, 8.0, 4.0)]  # x, y, z of each key point
IMAGE = np.zeros((200, 300, 3), np.uint8)
BOXES = np.array([[10, 20, 106, 148], [50, 60, 50, 60], [100, 20, 292, 276]], np.float32)  # the second has no area


class FixedRuntime:
    """Gives the same outputs for every crop, and for a mirrored one (the odd half of a batch) those of the mirror."""

    name, arithmetic, path = "fixed", "FP32", Path("fixed.onnx")

    def __init__(self, spec: ModelSpec, outputs: dict[str, np.ndarray], flipped: dict[str, np.ndarray] | None = None):
        self.passport = SimpleNamespace(spec=spec)
        self.outputs, self.flipped = outputs, flipped

    def run(self, arrays):
        count = len(arrays["crops"])
        if self.flipped is None:
            return {name: np.repeat(value, count, axis=0) for name, value in self.outputs.items()}
        return {
            name: np.repeat([value[0], self.flipped[name][0]], count // 2, 0) for name, value in self.outputs.items()
        }

    def close(self):
        pass


def volume_of(cells: list[tuple[float, float, float]]) -> dict[str, np.ndarray]:
    return {"volume": np.stack([gaussian(HEAD, *cell, 0.6) for cell in cells]).reshape(1, -1, 16, 12)}


def vectors_of(bins: list[tuple[int, int, int]]) -> dict[str, np.ndarray]:
    outputs = {
        name: np.zeros((1, 3, size), np.float32) for name, size in (("simcc_x", 96), ("simcc_y", 128), ("simcc_z", 20))
    }
    for point, places in enumerate(bins):
        for name, place in zip(outputs, places, strict=True):
            outputs[name][0, point, place] = 0.5
    return outputs


def test_nobody_is_nowhere():
    for spec, outputs in ((VOLUME, volume_of(CELLS)), (VECTORS, vectors_of([(1, 1, 1)] * 3))):
        poses = estimate_poses(HostBackend(FixedRuntime(spec, outputs)), IMAGE, BOXES[:0])

        assert poses.xyz.shape == (0, 3, 3)


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_volumes_people_are_in_space_around_their_pelvis(flip_test):
    mirror = [(11 - x, y, z) for x, y, z in (CELLS[1], CELLS[0], CELLS[2])]  # left and right have changed places
    backend = HostBackend(FixedRuntime(VOLUME, volume_of(CELLS), volume_of(mirror) if flip_test else None))

    poses = estimate_poses(backend, IMAGE, BOXES, flip_test=flip_test)

    near, bad, far = poses.xyz
    metres = 2.0 / np.sqrt(96 * 128) * 8  # of a cell, 8 px wide; it is as many metres in a region twice as large
    expected = [(-3 * metres, -3 * metres, -0.5), (3 * metres, -3 * metres, 0.0), (0, 0, 0)]
    # a Gaussian summed over cells is off its mean by 4 pi sigma^2 exp(-2 pi^2 sigma^2) at most: 0.004 cells
    np.testing.assert_allclose(near, expected, atol=0.004)
    np.testing.assert_allclose(far, expected, atol=0.004)
    assert np.isnan(bad).all()
    np.testing.assert_allclose(poses.xy[0, 2], (10 + 6 * 8, 20 + 8 * 8), atol=0.1)


def test_a_volume_that_is_not_finite_is_nobody_and_harms_no_neighbour():
    broken = volume_of(CELLS)
    broken["volume"][0, 0, 0, 0] = np.nan  # of the left hand

    poses = estimate_poses(HostBackend(FixedRuntime(VOLUME, broken)), IMAGE, BOXES[:1])

    assert poses.scores[0, 0] == 0
    assert np.isnan(poses.xyz[0, 0]).all()
    assert np.isfinite(poses.xyz[0, 1:]).all()
    broken["volume"][:] = np.nan
    assert np.isnan(estimate_poses(HostBackend(FixedRuntime(VOLUME, broken)), IMAGE, BOXES[:1]).xyz).all()


@pytest.mark.parametrize("flip_test", [False, True])
def test_three_vectors_give_what_mmposes_default_camera_does(flip_test):
    """mmpose's TopdownPoseEstimator3D: (px - centre) / focal length * (depth + 5.14388), here less the pelvis's."""
    bins = [(20, 40, 4), (60, 40, 12), (40, 70, 10)]
    mirror = [(95 - x, y, z) for x, y, z in (bins[1], bins[0], bins[2])]
    backend = HostBackend(FixedRuntime(VECTORS, vectors_of(bins), vectors_of(mirror) if flip_test else None))

    poses = estimate_poses(backend, IMAGE, BOXES[:1], flip_test=flip_test)

    xy = np.array([(10 + x / 2 * 2, 20 + y / 2 * 2) for x, y, _ in bins])
    z = np.array([(z / 10 - 1) * 2.0 for _, _, z in bins])
    np.testing.assert_allclose(poses.xy[0], xy, atol=1e-4)
    camera = np.concatenate([(xy - (150, 100)) / FOCAL_PX * (z + ROOT_DEPTH_M)[:, None], z[:, None]], axis=1)
    np.testing.assert_allclose(poses.xyz[0], camera - camera[2], atol=1e-6)


def test_people_of_several_images_are_in_space_too():
    backend = HostBackend(FixedRuntime(VOLUME, volume_of(CELLS)))

    alone, nobody, both = estimate_many(backend, [IMAGE] * 3, [BOXES[:1], BOXES[:0], BOXES[[2, 0]]])

    assert nobody.xyz.shape == (0, 3, 3)
    np.testing.assert_array_equal(both.xyz[1], alone.xyz[0])


def test_the_root_is_the_pelvis_or_between_the_hips():
    assert root_of(MPII16) == [MPII16.keypoints.index("pelvis")]
    assert root_of(COCO17) == [11, 12]
    assert root_of(TWO_POINTS) == []


def test_a_root_that_was_not_found_leaves_nobody_anywhere():
    keypoints = np.array([[(1, 2, 0.9, 0.1), (3, 4, 0.9, 0.2), (5, 6, 0.0, 0.3)]], np.float32)

    assert np.isnan(positions(keypoints, VOLUME, np.array([[96.0, 128.0]]), (200, 300))).all()


def test_a_skeleton_without_a_root_is_told():
    spec = ModelSpec("hands", Input((64, 48)), HEAD, TWO_POINTS, Region())

    with pytest.raises(ModelFileError, match="skeleton two has neither pelvis nor hips"):
        HostBackend(FixedRuntime(spec, {}))
