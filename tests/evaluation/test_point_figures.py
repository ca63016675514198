"""Figures of hands and faces, against values that a sheet of paper gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepose.evaluation.figures import FIGURES, Found, figures_of
from edgepose.evaluation.point_figures import NAMES, point_figures
from edgepose.io.annotations import AnnotatedImage
from edgepose.model.skeletons import COCO17, FACE98, FACE106, HAND21, MPII16, Skeleton
from edgepose.model.spec import heatmap_spec
from edgepose.stages.poses import Poses


def of_points(
    distances: list[list[float]], boxes: list[tuple[float, float]], eyes: list[float] | None = None, labelled=None
) -> dict[str, float | None]:
    """The figures of points that lie so far to the right of the true ones."""
    right = np.array(distances, dtype=float)
    xy = np.stack([right, np.where(np.isnan(right), np.nan, 0)], axis=2)
    labelled = np.ones(right.shape, bool) if labelled is None else np.array(labelled, bool)
    corners = None if eyes is None else np.array(eyes)
    return point_figures(xy, np.zeros_like(xy), labelled, np.array(boxes, dtype=float), corners)


def test_nobody_has_no_figure():
    empty = np.empty((0, 21, 2))

    figures = point_figures(empty, empty, np.empty((0, 21), bool), np.empty((0, 2)), np.empty(0))

    assert figures == dict.fromkeys(NAMES)


def test_two_people_of_two_points_by_hand():
    figures = of_points([[0, 8], [7.9, 24]], [(40, 10), (30, 40)])  # a reach of 8 px for both

    assert figures == {
        "PCK@0.2 box": pytest.approx((2 / 2 + 0 / 2) / 2),  # 8 px are not nearer than 8
        "AUC": pytest.approx(
            np.mean([(19 + 14) / 20 / 2, (14 + 3) / 20 / 2])
        ),  # steps beyond 0, 7.9; 8, 24 px: 19 at most
        "EPE px": pytest.approx((0 + 8 + 7.9 + 24) / 4),
        "NME eyes": None,
        "NME box": pytest.approx((8 / 20 + (7.9 + 24) / np.sqrt(1200)) / 4),
    }


def test_each_key_point_weighs_the_same_in_pck_however_often_it_is_labelled():
    figures = of_points([[0, 0], [0, 99], [0, 99]], [(50, 50)] * 3, labelled=[[1, 1], [0, 1], [0, 1]])

    assert figures["PCK@0.2 box"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures["EPE px"] == pytest.approx((0 + 0 + 99 + 99) / 4)


def test_points_that_nobody_labelled_count_neither_way():
    figures = of_points([[3, 99]], [(50, 50)], labelled=[[1, 0]])

    assert figures["PCK@0.2 box"] == 1
    assert figures["EPE px"] == 3


def test_a_face_is_measured_in_distances_of_its_eyes():
    figures = of_points([[2, 4], [6, 0], [9, 9]], [(50, 50)] * 3, eyes=[20, 60, np.nan])

    assert figures["NME eyes"] == pytest.approx((2 / 20 + 4 / 20 + 6 / 60 + 0) / 4)
    assert figures["NME box"] is None


def test_points_that_were_not_found_are_missed_and_have_no_distance():
    figures = of_points([[1, 3], [np.nan, np.nan]], [(50, 50)] * 2)

    assert figures["PCK@0.2 box"] == 0.5
    assert figures["EPE px"] == 2
    assert figures["NME box"] == pytest.approx(2 / 50)


def test_people_in_boxes_without_a_size_have_no_reach():
    figures = of_points([[1], [1]], [(50, 50), (0, 0)])

    assert figures["PCK@0.2 box"] == 1
    assert figures["NME box"] == pytest.approx(1 / 50)


def one_of(skeleton: Skeleton, right: float = 6.0) -> tuple[list[AnnotatedImage], list[Found]]:
    """One set of points on a grid of 10 px, in a box of 90 x 160 px, all found so many px to the right."""
    grid = np.array([(10.0 * (k % 10), 10.0 * (k // 10)) for k in range(len(skeleton))])
    points = np.concatenate([grid, np.ones((len(skeleton), 1))], axis=1)[None]
    box = np.array([[0.0, 0, 90, 160]])
    image = AnnotatedImage(1, "1.jpg", None, box, np.ones(1), np.zeros(1, bool), points, np.full(1, np.nan))
    xy = (points[..., :2] + [right, 0]).astype(np.float32)
    poses = Poses(xy, np.ones((1, len(skeleton)), np.float32), box)
    return [image], [Found(poses, np.ones(1), np.zeros(1, int))]


def spec_of(skeleton: Skeleton):
    return heatmap_spec("points", (256, 256), (64, 64), skeleton)


@pytest.mark.parametrize(
    ("skeleton", "nme"),
    [
        (HAND21, {"NME box": 6 / np.sqrt(90 * 160)}),
        (FACE98, {"NME eyes": 6 / np.hypot(20, 10)}),  # points 60 and 72 lie at (0, 60) and (20, 70)
        (FACE106, {"NME eyes": 6 / np.hypot(30, 10)}),  # points 66 and 79 at (60, 60) and (90, 70)
    ],
)
def test_hands_and_faces_get_their_figures_and_no_reasons(skeleton, nme):
    truth, found = one_of(skeleton)

    figures, reasons = figures_of(truth, skeleton.keypoints, found, spec_of(skeleton))

    assert reasons == []
    assert {name: value for name, value in figures.items() if value is not None} == {
        "PCK@0.2 box": 1,
        "AUC": pytest.approx(15 / 20),  # within 7.5, 9, ... 28.5 px
        "EPE px": pytest.approx(6),
        **{name: pytest.approx(value) for name, value in nme.items()},
    }


def test_points_without_names_are_taken_in_order_and_that_is_said():
    truth, found = one_of(FACE98)

    figures, (said,) = figures_of(truth, [str(k) for k in range(98)], found, spec_of(FACE98))

    assert figures["EPE px"] == pytest.approx(6)
    assert "98 points are taken in order" in said


def test_points_of_another_set_are_refused_with_both_numbers():
    truth, found = one_of(COCO17)

    figures, reasons = figures_of(truth, COCO17.keypoints, [replace(found[0], poses=one_of(HAND21)[1][0].poses)],
                                  spec_of(HAND21))  # fmt: skip

    assert figures == dict.fromkeys(FIGURES)
    assert reasons == [
        "the annotations' 17 key points (nose, left_eye, right_eye, ...) are not the 21 of hand21, neither by name nor "
        "in number"
    ]


def test_a_body_without_constants_for_oks_gets_figures_of_points_beside_its_own():
    truth, found = one_of(MPII16)

    figures, reasons = figures_of(truth, MPII16.keypoints, found, spec_of(MPII16))

    assert figures["AP"] is None
    assert figures["PCKh@0.5"] is not None
    assert figures["EPE px"] == pytest.approx(6)
    assert len(reasons) == 1


def test_people_with_cocos_key_points_get_ap_alone():
    pytest.importorskip("pycocotools")
    truth, found = one_of(COCO17)

    figures, _ = figures_of(truth, COCO17.keypoints, found, spec_of(COCO17))

    assert figures["AP"] is not None
    assert not any(figures[name] for name in NAMES)
