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
    rows, columns = costs.shape
    if rows > columns:
        column_of = np.full(rows, -1)
        column_of[assign(costs.T)] = np.arange(columns)
        return column_of
    column_of, row_of = np.full(rows, -1), np.full(columns, -1)
    if rows == 0:
        return column_of
    costs = costs.astype(np.float64)
    row_price, column_price = costs.min(axis=1), np.zeros(columns)
    nearest, first = np.unique(costs.argmin(axis=1), return_index=True)
    column_of[first], row_of[nearest] = nearest, first
    for row in np.flatnonzero(column_of < 0):
        _add_row(int(row), costs, row_price, column_price, column_of, row_of)
    return column_of


def _add_row(
    start: int,
    costs: np.ndarray,
    row_price: np.ndarray,
    column_price: np.ndarray,
    column_of: np.ndarray,
    row_of: np.ndarray,
) -> None:
    """Dijkstra from a row to the nearest free column, in costs reduced by the prices; all arrays but costs change."""
    distance = np.full(costs.shape[1], np.inf)
    came_from = np.full(costs.shape[1], -1)
    reached = np.zeros(costs.shape[1], dtype=bool)
    row, walked = start, 0.0
    while True:
        through = walked + costs[row] - row_price[row] - column_price
        shorter = ~reached & (through < distance)
        distance[shorter], came_from[shorter] = through[shorter], row
        column = int(np.where(reached, np.inf, distance).argmin())
        walked = distance[column]
        reached[column] = True
        if row_of[column] < 0:
            break
        row = row_of[column]
    saved = walked - distance[reached]
    owners = row_of[reached]
    row_price[start] += walked
    row_price[owners[owners >= 0]] += saved[owners >= 0]
    column_price[reached] -= saved
    while True:
        row = came_from[column]
        row_of[column] = row
        column_of[row], column = column, column_of[row]
        if row == start:
            return
