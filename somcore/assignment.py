"""The exact one-to-one matching of nodes and classes.

Axes: rows and columns of a table of counts.
"""

from __future__ import annotations

import math


def best_assignment(gain: list[list[int]]) -> int:
    """Largest sum of cells, one in each row and no two in a column.

    Args:
        gain: (rows, columns) whole numbers, rows <= columns.

    Returns:
        The sum; exact.

    Source: Kuhn 1955, Munkres 1957; shortest augmenting paths with potentials, O(rows^2 * columns).

    Example:
        >>> best_assignment([[5, 4], [4, 0]])
        8
    """
    rows, columns = len(gain), len(gain[0]) if gain else 0
    row_price, column_price = [0] * (rows + 1), [0] * (columns + 1)
    owner, previous = [0] * (columns + 1), [0] * (columns + 1)  # 1-based; 0 = nobody
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        slack: list[float] = [math.inf] * (columns + 1)
        used = [False] * (columns + 1)
        while owner[column]:
            used[column] = True
            current, step, following = owner[column], math.inf, 0
            for j in range(1, columns + 1):
                if used[j]:
                    continue
                reduced = -gain[current - 1][j - 1] - row_price[current] - column_price[j]
                if reduced < slack[j]:
                    slack[j], previous[j] = reduced, column
                if slack[j] < step:
                    step, following = slack[j], j
            for j in range(columns + 1):
                if used[j]:
                    row_price[owner[j]] += int(step)
                    column_price[j] -= int(step)
                else:
                    slack[j] -= step
            column = following
        while column:
            owner[column] = owner[previous[column]]
            column = previous[column]
    return sum(gain[owner[j] - 1][j - 1] for j in range(1, columns + 1) if owner[j])
