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
