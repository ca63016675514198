from __future__ import annotations

import numpy as np
import pytest
import torch

from edgepose.export.drawn.people import make_background, make_pose
from edgepose.export.drawn.scene import drawn_cutout
from edgepose.export.networks.person_detector import PersonDetector, boxes_of, cells
from edgepose.export.training.assignment import assign, detection_loss, generalised_iou, pairwise_iou
from edgepose.export.training.scenes import Material, Photograph, make_scene

HW = (64, 96)
BOX = torch.tensor([[16.0, 16.0, 48.0, 48.0]])


def test_cells_lie_stride_by_stride_row_by_row():
    centers, strides = cells(HW)

    assert len(centers) == 8 * 12 + 4 * 6 + 2 * 3
    assert centers[1].tolist() == [12.0, 4.0]
    assert centers[8 * 12].tolist() == [8.0, 8.0]
    assert strides.unique().tolist() == [8.0, 16.0, 32.0]


def test_distances_of_a_box_give_the_box():
    centers, strides = cells(HW)
    inside = ((centers > BOX[0, :2]) & (centers < BOX[0, 2:])).all(1)
    reach = torch.cat([centers - BOX[0, :2], BOX[0, 2:] - centers], 1) / strides

    boxes = boxes_of(reach[inside].log()[None], centers[inside], strides[inside])

    assert torch.allclose(boxes[0], BOX.expand(int(inside.sum()), 4), atol=1e-3)


def test_ious_are_those_of_closed_forms():
    other = torch.tensor([[32.0, 16.0, 64.0, 48.0]])  # half of each in common

    assert pairwise_iou(BOX, other).item() == pytest.approx(1 / 3)
    assert generalised_iou(BOX, BOX).item() == pytest.approx(1)
    assert generalised_iou(BOX, other).item() == pytest.approx(1 / 3)  # the hull is their union
    assert generalised_iou(BOX, BOX + 32).item() == pytest.approx(-0.5)  # touching corners: union half of the hull


def test_every_box_is_learned_by_some_cell_and_nobody_by_none():
    centers, strides = cells(HW)
    scores, predicted = torch.full((len(centers),), 0.01), torch.zeros(len(centers), 4)

    owner, wanted = assign(scores, predicted, centers, strides, torch.cat([BOX, BOX + 20]))
    nobody, none = assign(scores, predicted, centers, strides, torch.zeros(0, 4))

    assert set(owner.tolist()) == {-1, 0, 1}
    assert float(wanted.max()) <= 1
    assert (nobody == -1).all()
    assert (none == 0).all()


def test_the_loss_falls_as_the_prediction_becomes_right():
    centers, strides = cells(HW)
    inside = ((centers > BOX[0, :2]) & (centers < BOX[0, 2:])).all(1)
    right = BOX.expand(1, len(centers), 4)
    nobody = [torch.zeros(1, dtype=torch.bool)]

    sure = detection_loss(torch.where(inside, 5.0, -5.0)[None], right, centers, strides, [BOX], nobody)
    wrong = detection_loss(torch.where(inside, -5.0, 5.0)[None], right + 30, centers, strides, [BOX], nobody)

    assert sure < wrong


def test_the_network_gives_a_score_and_a_box_for_each_cell():
    network = PersonDetector((4, 4, 4, 4, 4), (1, 1, 1, 1), 8).eval()

    scores, boxes = network(torch.zeros(2, 3, *HW))

    assert scores.shape == (2, 126, 1)
    assert boxes.shape == (2, 126, 4)
    assert (boxes[..., 2:] > boxes[..., :2]).all()


def test_scenes_have_boxes_in_view_and_flags_of_those_that_do_not_teach():
    rng = np.random.default_rng(0)
    backgrounds = [make_background(rng) for _ in range(3)]
    cutouts = [drawn_cutout(make_pose(rng), backgrounds, rng) for _ in range(2)]
    photograph = Photograph(backgrounds[0], np.array([[20.0, 20, 90, 200]]), np.array([False]))
    material = Material([photograph], cutouts, backgrounds)

    for _ in range(20):
        picture, boxes, ignored = make_scene(material, 96, rng)

        assert (picture.shape, picture.dtype) == ((96, 96, 3), np.uint8)
        assert boxes.shape == (len(ignored), 4)
        assert (boxes >= 0).all()
        assert (boxes <= 96).all()
