"""MPII's PCKh against the published evaluation's own steps, written as loops over its 1-based coordinates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepose.evaluation.figures import Found, figures_of
from edgepose.io.annotations import AnnotatedImage
from edgepose.model.skeletons import MPII16
from edgepose.model.spec import heatmap_spec
from edgepose.stages.poses import Poses

SPEC = heatmap_spec("mpii", (256, 256), (64, 64), MPII16)
PELVIS, THORAX, HEAD_TOP, WRIST = 6, 7, 9, 10


def make_people(images: int = 12, seed: int = 0) -> tuple[list[AnnotatedImage], list[Found], list[np.ndarray]]:
    """People with some key points unlabelled, poses near them, and each image's head boxes as MPII has them."""
    rng = np.random.default_rng(seed)
    truth, found, head_boxes = [], [], []
    for image_id in range(images):
        count = int(rng.integers(1, 4))
        points = np.concatenate([rng.uniform(0, 400, (count, 16, 2)), rng.integers(0, 2, (count, 16, 1))], axis=2)
        points[:, 0, 2] = 1  # everybody is posed
        corners = rng.uniform(50, 100, (count, 2))
        heads = np.concatenate([corners, corners + rng.uniform(20, 80, (count, 2))], axis=1)
        sizes = 0.6 * np.hypot(*(heads[:, 2:] - heads[:, :2]).T)
        moved = rng.normal(0, 0.5, (count, 16, 2)) * sizes[:, None, None] * rng.uniform(0.05, 1.5, (1, 16, 1))
        poses = Poses((points[..., :2] + moved).astype(np.float32), np.ones((count, 16), np.float32), heads)
        boxes = np.tile([0.0, 0, 400, 400], (count, 1))
        crowd = np.zeros(count, bool)
        truth.append(
            AnnotatedImage(image_id, f"{image_id}.jpg", None, boxes, np.full(count, 1e4), crowd, points, sizes)
        )
        found.append(Found(poses, np.ones(count), np.arange(count)))
        head_boxes.append(heads)
    return truth, found, head_boxes


def published_pckh(
    truth: list[AnnotatedImage], found: list[Found], head_boxes: list[np.ndarray], threshold: float
) -> float:
    """leoxiaobin's `mpii.py`: rates by joint, then their mean, weighted by how often each is labelled."""
    hits, labelled = np.zeros(16), np.zeros(16)
    for image, each, heads in zip(truth, found, head_boxes, strict=True):
        for person in range(len(image)):
            x1, y1, x2, y2 = heads[person]
            head = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 * 0.6
            for joint in range(16):
                if image.keypoints[person, joint, 2] == 0:
                    continue
                true_x, true_y = image.keypoints[person, joint, :2] + 1
                x, y = each.poses.xy[person, joint].astype(float) + 1
                labelled[joint] += 1
                hits[joint] += ((x - true_x) ** 2 + (y - true_y) ** 2) ** 0.5 / head <= threshold
    rates = [hits[joint] / labelled[joint] for joint in range(16)]
    counted = [joint for joint in range(16) if joint not in (PELVIS, THORAX)]
    total = sum(labelled[joint] for joint in counted)
    return float(sum(rates[joint] * labelled[joint] / total for joint in counted))


@pytest.mark.parametrize("seed", range(5))
def test_pckh_is_mpiis_weighted_mean_at_both_thresholds(seed):
    truth, found, head_boxes = make_people(seed=seed)

    figures, _ = figures_of(truth, MPII16.keypoints, found, SPEC)

    for name, threshold in (("PCKh@0.5", 0.5), ("PCKh@0.1", 0.1)):
        expected = published_pckh(truth, found, head_boxes, threshold)
        assert 0.02 < expected < 0.98
        assert figures[name] == pytest.approx(expected, abs=1e-12)


def one_person(**points: tuple[float, float]) -> tuple[list[AnnotatedImage], list[Found]]:
    """All key points labelled at (100, 100), a head of 60 px, found there but for those given."""
    keypoints = np.tile([100.0, 100, 1], (1, 16, 1))
    xy = keypoints[..., :2].astype(np.float32)
    for name, at in points.items():
        xy[0, MPII16.keypoints.index(name)] = at
    boxes = np.array([[0.0, 0, 200, 200]])
    image = AnnotatedImage(1, "1.jpg", None, boxes, np.full(1, 1e4), np.zeros(1, bool), keypoints, np.full(1, 60.0))
    return [image], [Found(Poses(xy, np.ones((1, 16), np.float32), boxes), np.ones(1), np.zeros(1, int))]


def test_pelvis_and_thorax_count_neither_way():
    truth, found = one_person(pelvis=(900, 900), thorax=(900, 900))

    assert figures_of(truth, MPII16.keypoints, found, SPEC)[0]["PCKh@0.5"] == 1


@pytest.mark.parametrize(("distance", "half", "tenth"), [(30, 14, 13), (30.01, 13, 13), (6, 14, 14), (6.01, 14, 13)])
def test_a_point_at_the_very_threshold_is_found(distance, half, tenth):
    truth, found = one_person(right_wrist=(100 + distance, 100))

    figures, _ = figures_of(truth, MPII16.keypoints, found, SPEC)

    assert figures["PCKh@0.5"] == pytest.approx(half / 14)
    assert figures["PCKh@0.1"] == pytest.approx(tenth / 14)


def test_without_a_head_box_the_head_reaches_from_its_top_to_the_neck():
    truth, found = one_person(right_wrist=(149, 100))
    (image,) = truth
    image.keypoints[0, HEAD_TOP, :2] = found[0].poses.xy[0, HEAD_TOP] = (100, 0)  # 100 px from the neck
    truth = [replace(image, head_sizes=np.full(1, np.nan))]

    assert figures_of(truth, MPII16.keypoints, found, SPEC)[0]["PCKh@0.5"] == 1


def test_points_that_nobody_labelled_and_people_who_were_not_found_count_as_published():
    truth, found = one_person(right_wrist=(900, 900))
    truth[0].keypoints[0, WRIST, 2] = 0
    unlabelled, _ = figures_of(truth, MPII16.keypoints, found, SPEC)
    missed, _ = figures_of(truth, MPII16.keypoints, [replace(found[0], pose_of=np.array([-1]))], SPEC)

    assert unlabelled["PCKh@0.5"] == 1
    assert missed["PCKh@0.5"] == 0
