"""What is said of features that maps are not made for (another scale, all the same, missing), and of lost classes.

Axes: N samples, D features, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from somcore.state import MapState

_SMALL, _SMALL_TO_GROW = 1e-6, 1e-3
_CONSTANT = 0.1  # share of the features
_NAMED = 5  # classes in a line


def refuse_missing(X: np.ndarray, masked: bool) -> None:
    """Raise for a NaN, or, where NaN is masked, for a row of nothing else."""
    if masked:
        empty = np.flatnonzero(np.isnan(X).all(axis=1))
        if len(empty):
            raise ValueError(f"Each row must have at least one feature that is not NaN. Row {empty[0]} has none.")
    elif np.isnan(X.min()):
        row, column = np.argwhere(np.isnan(X))[0]
        raise ValueError(
            f"X must hold numbers. It contains NaN, as in row {row}, column {column}. Make the estimator with "
            "missing='mask', which leaves them out, or fill them, with sklearn.impute.SimpleImputer for instance."
        )


def warn_of_scale(features: Tensor, grows: bool) -> None:
    """Both warnings, told at the line of the user who calls `fit` or `partial_fit`."""
    if grows:
        _warn_of_range(features)
    _warn_of_size(features, grows)


def warn_of_constants(features: Tensor) -> None:
    """A feature without deviation is relevant to every node, and the others by comparison less; of one row all are."""
    low, high = features.nan_to_num(torch.inf).amin(0), features.nan_to_num(-torch.inf).amax(0)
    count, total = int((low >= high).sum()), features.shape[1]
    if count >= _CONSTANT * total and len(features) > 1:
        remedy = "leave them out, with sklearn.feature_selection.VarianceThreshold for instance"
        warnings.warn(
            f"Features should not be constant: such a feature counts as relevant to every node and blurs the others. "
            f"Got {count} of {total}; {remedy if count < total else 'nothing tells one row from another'}.",
            UserWarning,
            stacklevel=4,
        )


def warn_of_lost_classes(state: MapState, classes: Sequence[int]) -> None:
    """Classes (C,) that the training had labels of and no node of the map has: their nodes won too little to stay."""
    said = state.said_classes
    lost = [name for code, name in enumerate(classes) if code not in said]
    if lost:
        nodes = f"{state.num_nodes} node{'' if state.num_nodes == 1 else 's'}"
        named = ", ".join(map(str, lost[:_NAMED])) + (f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else "")
        warnings.warn(
            f"Every class should have a node, else it is never said. Got {nodes} for {len(classes)} "
            f"classes, none for {named}. A lower min_win_share, a higher capacity or, if few nodes win all samples, a "
            "larger relevance_slope (0.3) keeps their nodes.",
            UserWarning,
            stacklevel=3,
        )


def _warn_of_size(features: Tensor, grows: bool) -> None:
    """Sums are whole multiples of about 1e-12 of a feature unit, thresholds of growing maps begin at about 1e-5."""
    largest = float(features.nan_to_num(0.0).abs().max())
    if 0 < largest < (_SMALL_TO_GROW if grows else _SMALL):
        limit = "thresholds begin at about 1e-5" if grows else "sums are kept in steps of about 1e-12"
        warnings.warn(
            f"Features should not be tiny: {limit}. Got at most {largest:.4g}; "
            "scale them, with sklearn.preprocessing.MinMaxScaler for instance.",
            UserWarning,
            stacklevel=5,
        )


def _warn_of_range(features: Tensor) -> None:
    """Thresholds of growing maps mean what the papers say only on features in [0, 1]."""
    low, high = float(features.nan_to_num(0.0).min()), float(features.nan_to_num(0.0).max())
    if low < -1e-6 or high > 1 + 1e-6:
        warnings.warn(
            f"Features should lie in [0, 1]: activation thresholds depend on their scale. Got {low:.4g} to {high:.4g}; "
            "scale them, with sklearn.preprocessing.MinMaxScaler for instance.",
            UserWarning,
            stacklevel=5,
        )
