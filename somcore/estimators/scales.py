"""Warnings of features on a scale that maps are not made for.

Axes: N samples, D features.
"""

from __future__ import annotations

import warnings

from torch import Tensor

_SMALL = 1e-6


def warn_of_size(features: Tensor) -> None:
    """Sums are whole multiples of about 1e-12 of a feature unit: what is not much larger than that is lost."""
    largest = float(features.nan_to_num(0.0).abs().max())
    if 0 < largest < _SMALL:
        warnings.warn(
            f"Features should not be tiny: sums are kept in steps of about 1e-12. Got at most {largest:.4g}; "
            "scale them, with sklearn.preprocessing.MinMaxScaler for instance.",
            UserWarning,
            stacklevel=4,
        )


def warn_of_range(features: Tensor) -> None:
    """Thresholds of growing maps mean what the papers say only on features in [0, 1]."""
    low, high = float(features.nan_to_num(0.0).min()), float(features.nan_to_num(0.0).max())
    if low < -1e-6 or high > 1 + 1e-6:
        warnings.warn(
            f"Features should lie in [0, 1]: activation thresholds depend on their scale. Got {low:.4g} to {high:.4g}; "
            "scale them, with sklearn.preprocessing.MinMaxScaler for instance.",
            UserWarning,
            stacklevel=4,
        )
