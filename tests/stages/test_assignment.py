from itertools import permutations

import numpy as np
import pytest

from edgepose.stages.assignment import assign


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(shape):
    assert assign(np.zeros(shape)).tolist() == [-1] * shape[0]


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (5, 3), (5, 5)])
@pytest.mark.parametrize("highest", [2, 4, 1000])  # few different costs: many equal ones
def test_costs_add_up_to_the_least(shape, highest):
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs = rng.integers(0, highest, shape).astype(float)
        tall = costs if shape[0] <= shape[1] else costs.T
        least = min(tall[range(len(tall)), columns].sum() for columns in permutations(range(tall.shape[1]), len(tall)))

        columns = assign(costs)

        given = columns >= 0
        assert len(set(columns[given])) == given.sum() == min(shape)
        assert costs[given, columns[given]].sum() == least


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_costs_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match="finite matrix"):
        assign(np.array([[0, value]]))


class Counted(np.ndarray):
    """Costs that count how often a part of them is read."""

    reads = 0

    def __getitem__(self, key):
        Counted.reads += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("columns", [60, 90])
def test_rows_of_equal_costs_are_not_looked_at_one_by_one(columns):
    costs = np.repeat(np.arange(60.0)[:, None], columns, axis=1).view(Counted)
    Counted.reads = 0

    given = assign(costs)

    assert given.tolist() == list(range(60))
    assert Counted.reads <= 10 * 60  # one by one over 60 * 60 / 2


def test_of_equal_costs_the_path_through_others_is_still_found():
    costs = np.array([[0, 0, 0, 9, 9], [0, 0, 0, 9, 9], [0, 0, 0, -9, 9], [0, 0, 0, 9, 9], [0, 0, 0, 9, 9.0]])

    given = assign(costs)

    assert sorted(given) == list(range(5))
    assert costs[range(5), given].sum() == 0
