"""What float32 keeps of the columns of a table: far from 0, values that lie close together become the same.

Axes: n rows, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SHARE = 1e-3  # of the range of a column: a step of float32 above it is coarse


class Precision:
    """The range of every column over the training rows, before it is rounded.

    Args:
        names: (D,) of the columns.

    Example:
        >>> precision, seconds = Precision(["t"]), np.array([1.7e9, 1.7e9 + 98])
        >>> precision.add(0, seconds, seconds.astype(np.float32), np.array([True, True]))
        >>> precision.coarse()
        {'t': [128.0, 98.0]}
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._low, self._high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
        self._rounded = np.zeros(len(names), dtype=bool)

    def add(self, column: int, exact: np.ndarray, stored: np.ndarray, training: np.ndarray) -> None:
        """Look at (n,) values of a column, and at the same as float32; `training` says which rows count."""
        if np.can_cast(exact.dtype, stored.dtype):
            return
        counts = training & np.isfinite(stored)
        exact, stored = exact[counts], stored[counts]
        self._low[column] = exact.min(initial=self._low[column])
        self._high[column] = exact.max(initial=self._high[column])
        self._rounded[column] |= bool((exact != stored).any())

    def coarse(self) -> dict[str, list[float]]:
        """Step of float32 and range of each column that was rounded and has a range of less than a thousand steps."""
        found = {}
        for column in np.flatnonzero(self._rounded).tolist():
            low, high = float(self._low[column]), float(self._high[column])
            step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
            if 0 < high - low < step / _SHARE:
                found[self._names[column]] = [step, high - low]
        return found
