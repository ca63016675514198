from __future__ import annotations

import sys

import numpy as np
import pytest

from edgepose.errors import EdgeposeError
from edgepose.io.overlay import LEFT, RIGHT
from edgepose.io.space import beside, draw_positions, for_page, with_positions
from edgepose.model.skeletons import BODY15
from tests.walker import walking


def pixels_near(drawing: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere(np.abs(drawing.astype(int) - color).max(axis=2) < 30)


@pytest.fixture(scope="module")
def walker() -> np.ndarray:
    """(1, 15, 3) in mid-stride, facing the camera: its left is on the picture's right."""
    pytest.importorskip("matplotlib", reason="matplotlib draws positions; install edgepose[plot]")
    xyz = walking(8)[7:]
    return xyz - xyz[:, :1]


def test_a_drawing_of_nobody_says_so(walker):
    drawing = draw_positions(walker[:0], BODY15, [], (240, 480))

    assert drawing.shape == (240, 480, 3)
    rows, columns = np.nonzero((drawing < 200).all(axis=2))
    assert np.allclose([rows.mean(), columns.mean()], [120, 240], atol=10)  # a line of grey text in the middle
    assert (drawing[:90] == 255).all()


def test_a_person_is_seen_from_two_sides(walker):
    drawing = draw_positions(walker, BODY15, ["person 1"], (240, 480))

    assert drawing.shape == (240, 480, 3)
    for color in (LEFT, RIGHT):
        columns = pixels_near(drawing, color)[:, 1]
        assert (columns < 240).any()
        assert (columns >= 240).any()
    in_front = drawing[:, :240]
    assert pixels_near(in_front, LEFT)[:, 1].mean() > pixels_near(in_front, RIGHT)[:, 1].mean()


def test_heads_are_up(walker):
    drawing = draw_positions(walker, BODY15, ["person 1"], (240, 480))[:, :240]
    arms_only, legs_only = walker.copy(), walker.copy()
    arms_only[:, 1:7], legs_only[:, 9:] = np.nan, np.nan

    arms, legs = (draw_positions(xyz, BODY15, ["person 1"], (240, 480))[:, :240] for xyz in (arms_only, legs_only))

    assert len(pixels_near(arms, LEFT)) < len(pixels_near(drawing, LEFT))
    assert pixels_near(arms, LEFT)[:, 0].mean() < pixels_near(legs, LEFT)[:, 0].mean()


def test_a_person_without_positions_is_an_empty_room(walker):
    drawing = draw_positions(np.full_like(walker, np.nan), BODY15, ["person 1"], (240, 480))

    assert len(pixels_near(drawing, LEFT)) == 0
    assert (drawing < 255).any()


def test_people_without_positions_leave_their_place_to_others(walker, monkeypatch):
    drawn = []
    monkeypatch.setattr("edgepose.io.space.draw_positions", lambda *given: drawn.append(given) or np.zeros((9, 9, 3)))
    people = np.concatenate([walker] * 7)
    people[[0, 2]] = np.nan

    with_positions(np.zeros((50, 80, 3), np.uint8), people, BODY15)
    page = for_page(people, BODY15)

    (xyz, _, names, _), *_ = drawn
    assert names == ["person 2", "person 4", "person 5", "person 6"]
    assert np.isfinite(xyz).all()
    assert len(page["people"]) == 4
    assert None not in page["people"][0]


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)

    with pytest.raises(EdgeposeError, match=r"edgepose\[plot\]"):
        draw_positions(np.zeros((0, 15, 3)), BODY15, [], (120, 160))


def test_a_drawing_stands_beside_its_picture():
    picture, drawing = np.zeros((50, 80, 3), np.uint8), np.full((100, 160, 3), 255, np.uint8)

    both = beside(picture, drawing)

    assert both.shape == (50, 160, 3)
    assert (both[:, :80] == 0).all()
    assert (both[:, 80:] == 255).all()
