"""The assignment problem: who belongs to whom at the least total cost."""

from __future__ import annotations

import numpy as np


def assign(costs: np.ndarray) -> np.ndarray:
    """Give each row a column, or each column a row if there are fewer, so that the costs add up to the least.

    Shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987). A row that alone has the least cost in its
    column costs nothing more; only the others look for a path, so that clear cases are quick.

    Args:
        costs: (N, M), finite. N or M may be 0.

    Returns:
        (N,) int: each row's column, -1 for the N - M rows without one.
    """
    if costs.ndim != 2 or not np.isfinite(costs).all():
        raise ValueError(f"costs must be a finite matrix, got {costs.shape} {costs.dtype}")
    if costs.shape[0] <= costs.shape[1]:
        return _columns_of(costs.astype(np.float64))
    column_of = np.full(len(costs), -1)
    column_of[_columns_of(costs.T.astype(np.float64))] = np.arange(costs.shape[1])
    return column_of


def _columns_of(costs: np.ndarray) -> np.ndarray:
    """(N,) int of (N, M) float64 costs, with N <= M: each row's column."""
    rows, columns = costs.shape
    column_of, row_of = np.full(rows, -1), np.full(columns, -1)
    if rows == 0:
        return column_of
    nearest = costs.argmin(axis=1)
    row_of[nearest[::-1]] = np.arange(rows - 1, -1, -1)  # of several rows with one nearest column the first has it
    first = row_of[nearest] == np.arange(rows)
    column_of[first] = nearest[first]
    if first.all():
        return column_of
    row_price, column_price = costs.min(axis=1), np.zeros(columns)
    for row in np.flatnonzero(~first).tolist():
        if (column := _first_of_equal(row, costs, row_price, column_price, row_of)) >= 0:
            row_price[row] += costs[row, column] - row_price[row] - column_price[column]
            column_of[row], row_of[column] = column, row
        else:
            _add_row(row, costs, row_price, column_price, column_of, row_of)
    return column_of


def _first_of_equal(
    row: int, costs: np.ndarray, row_price: np.ndarray, column_price: np.ndarray, row_of: np.ndarray
) -> int:
    """The column that `_add_row` would find after other columns of the very same cost, whose rows lead nowhere; or -1.

    Where hundreds of costs are equal it would look at them one by one, for each row again.
    """
    through = costs[row] - row_price[row] - column_price
    equal = np.flatnonzero(through == through.min())
    free = np.flatnonzero(row_of[equal] < 0)
    if len(free) == 0 or free[0] < 2:
        return -1
    before = equal[: free[0]]
    owners = row_of[before]
    shorter = through[equal[0]] + costs[owners] - row_price[owners, None] - column_price < through
    shorter[:, before] &= np.arange(len(before)) > np.arange(len(before))[:, None]  # not those reached by then
    return -1 if shorter.any() else int(equal[free[0]])


def _add_row(
    start: int,
    costs: np.ndarray,
    row_price: np.ndarray,
    column_price: np.ndarray,
    column_of: np.ndarray,
    row_of: np.ndarray,
) -> None:
    """Dijkstra from a row to the nearest free column, in costs reduced by the prices; all arrays but costs change."""
    distance = np.full(costs.shape[1], np.inf)  # of columns that were not reached
    came_from = np.full(costs.shape[1], -1)
    price = column_price.copy()
    reached: list[int] = []
    walked_to: list[float] = []
    row, walked = start, 0.0
    while True:
        through = walked + costs[row]
        through -= row_price[row]
        through -= price
        shorter = through < distance
        distance[shorter], came_from[shorter] = through[shorter], row
        column = int(distance.argmin())
        walked = float(distance[column])
        reached.append(column)
        walked_to.append(walked)
        if row_of[column] < 0:
            break
        distance[column], price[column] = np.inf, -np.inf  # never again
        row = int(row_of[column])
    saved = walked - np.array(walked_to)
    row_price[start] += walked
    row_price[row_of[reached[:-1]]] += saved[:-1]
    column_price[reached] -= saved
    while True:
        row = int(came_from[column])
        row_of[column] = row
        column_of[row], column = column, int(column_of[row])
        if row == start:
            return
