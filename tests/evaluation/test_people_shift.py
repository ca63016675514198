import numpy as np
import pytest

from edgepose.evaluation.people_shift import compare_people, same_people
from edgepose.stages.poses import Poses


def poses(*people: np.ndarray) -> Poses:
    """Of (4, 2) key points each."""
    xy = np.array(people, np.float32).reshape(-1, 4, 2)
    boxes = np.concatenate([np.nanmin(xy, axis=1), np.nanmax(xy, axis=1)], axis=1) if len(xy) else np.zeros((0, 4))
    return Poses(xy, np.isfinite(xy).all(axis=2).astype(np.float32), boxes.astype(np.float32))


A = np.array([[0, 0], [100, 0], [0, 100], [100, 100]])
B = A + 1000
NONE = poses()


@pytest.mark.parametrize(
    ("first", "second", "people", "lost", "gained"),
    [
        (NONE, NONE, 0, 0, 0),
        (NONE, poses(A), 0, 0, 1),
        (poses(A), NONE, 1, 1, 0),
        (poses(A, B), poses(B, A), 2, 0, 0),
        (poses(A, B), poses(A + 7, B + 8), 2, 1, 1),  # of 100 px a tenth: hypot(7, 7) is nearer, hypot(8, 8) is not
        (poses(A), poses(A, A), 1, 0, 1),
    ],
)
def test_counts_who_was_lost_and_gained(first, second, people, lost, gained):
    figures = compare_people([(first, second)]).figures()

    assert (figures["people"], figures["lost"], figures["gained"]) == (people, lost, gained)


def test_the_nearer_one_is_the_same_person():
    rows, partners = same_people(poses(A, A + 5), poses(A + 6, A + 1))

    assert (rows.tolist(), partners.tolist()) == ([0, 1], [1, 0])


def test_key_points_that_one_result_lacks_are_counted_apart():
    first, second = A.astype(float), A + np.array([3.0, 4.0])
    first[0] = second[1] = np.nan

    found = compare_people([(poses(first), poses(second))])

    assert (found.lost, found.points_lost, found.points_gained) == (1, 0, 0)  # two common points are too few
    first[0] = 0
    found = compare_people([(poses(first), poses(second))])
    assert (found.lost, found.points_lost, found.points_gained) == (0, 1, 0)
    assert found.shift_px.tolist() == [5, 5, 5]
    assert found.figures()["mean"] == 5
