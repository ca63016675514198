"""What INT8 loses, and how certain that is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgepose.calibration.budget import FigureJudge, Loss, certain
from edgepose.errors import InputError
from edgepose.io.annotations import AnnotatedImage, Annotations
from edgepose.io.images import write_image
from edgepose.model.skeletons import HAND21
from tests.makers import make_spec


@pytest.mark.parametrize(
    ("freedom", "wanted"),  # one-sided 95 % of Student's t, from tables
    [(1, 6.314), (2, 2.920), (3, 2.353), (5, 2.015), (9, 1.833), (29, 1.699), (1000, 1.646)],
)
def test_few_parts_need_more_standard_errors(freedom, wanted):
    assert certain(freedom) == pytest.approx(wanted, abs=0.01)


def test_a_single_part_makes_nothing_certain():
    assert Loss(0.49, np.array([0.49])).upper == float("inf")


def test_the_certain_loss_covers_the_true_one_in_95_of_100_draws():
    rng = np.random.default_rng(0)
    draws = rng.normal(1.0, 0.5, (4000, 4))

    covered = np.mean([Loss(float(parts.mean()), parts).upper >= 1.0 for parts in draws])

    assert covered == pytest.approx(0.95, abs=0.0138)  # four standard errors of a share of 4000


HANDS = np.concatenate([np.mgrid[10:80:10, 20:50:10].reshape(2, -1).T, np.ones((21, 1))], axis=1)


def finds_hands(*wrong: int) -> Any:
    """A backend that puts some of the key points 50 px too far to the right."""
    points = np.concatenate([HANDS[None, :, :2], np.ones((1, 21, 1))], axis=2).astype(np.float32)
    points[:, wrong, 0] += 50
    spec = make_spec(skeleton=HAND21)

    def found(images: Any, regions: Any, **options: Any) -> list[np.ndarray]:
        return [np.repeat(points, len(each), 0) for each in regions]

    return SimpleNamespace(spec=spec, keypoints_of=found)


def hands(folder: Path, count: int = 3) -> Annotations:
    images = []
    for i in range(count):
        write_image(folder / f"{i}.png", np.full((120, 160, 3), i, np.uint8))
        box, crowd = np.array([[5.0, 15, 80, 100]]), np.zeros(1, bool)
        images.append(AnnotatedImage(i, f"{i}.png", None, box, np.full(1, 8e3), crowd, HANDS[None], np.full(1, np.nan)))
    return Annotations("hands.json", "0" * 64, HAND21.keypoints, tuple(images))


def test_a_budget_of_pck_is_measured_on_boxes_where_there_are_no_limbs(tmp_path):
    judge = FigureJudge("pck", finds_hands(), hands(tmp_path), tmp_path, frozenset())

    assert judge.figure == "PCK@0.2 box"
    assert judge.wanted == 100
    assert judge.loss(finds_hands(0, 3, 5)).value == pytest.approx(100 * 3 / 21)


def test_a_budget_of_ap_says_what_hands_are_measured_by(tmp_path):
    with pytest.raises(InputError, match=r"AP cannot be measured with hands\.json: hand21 is measured by its PCK"):
        FigureJudge("ap", finds_hands(), hands(tmp_path), tmp_path, frozenset())
