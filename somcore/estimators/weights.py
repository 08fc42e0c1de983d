"""Sample weights as counts: whole numbers that sums take exactly.

Axes: N samples, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from somcore.fixed_point import LARGEST_WEIGHT


def counts_of(sample_weight: Any, features: np.ndarray) -> np.ndarray:
    """(N,) int64, how many equal samples each one stands for.

    Args:
        sample_weight: (N,) numbers, or one for all.
        features: (N, D), whose rows they belong to.

    Raises:
        ValueError: one that is no count, or too large for exact sums.
    """
    weights = _check_sample_weight(sample_weight, features, dtype=np.float64)
    wrong = np.flatnonzero((weights < 0) | (weights != np.floor(weights)))
    if len(wrong):
        got = f"Got {weights[wrong[0]]} at row {wrong[0]}."
        raise ValueError(f"sample_weight must hold whole numbers >= 0 (m stands for m equal samples). {got}")
    heaviest = int(weights.argmax())
    if weights[heaviest] > LARGEST_WEIGHT:
        got = f"Got {weights[heaviest]:.0f} at row {heaviest}. Divide all weights by a common factor."
        raise ValueError(f"sample_weight must be at most {LARGEST_WEIGHT}, for exact sums. {got}")
    counts: np.ndarray = weights.astype(np.int64)
    return counts
