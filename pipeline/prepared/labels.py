"""Which rows keep their label: stratified, seeded, nested; and the honest validation split.

Axes: N rows, C classes. Every row has a hash that depends on (seed, purpose, row) alone; within a class
rows are taken in the order of their hash. So a smaller share is always inside a larger one, and no worker or
order of reading can change the choice. UNLABELLED = -1 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from pipeline.errors import must
from somcore.config import UNLABELLED
from somcore.sampling import hash_uniform

_CHUNK = 1 << 20
Labels = np.ndarray | torch.Tensor


def labelled_fraction(labels: Labels, fraction: float, seed: int) -> np.ndarray:
    """Labels with only a share of them kept; the other rows become UNLABELLED but stay in training.

    Of the n labelled rows of each class, max(1, round(fraction * n)) keep their label: every class keeps at
    least one, so on small tables with many classes the share is a little above nominal. 0 keeps none.
    Rows that are unlabelled already stay so. For one seed the choices are nested: 1 % is inside 5 % is inside
    100 %.

    Args:
        labels: (N,) integers, -1 = unlabelled.
        fraction: share of the labelled rows of each class, in [0, 1].
        seed: >= 0; another seed gives another choice.

    Returns:
        (N,) int64, a new array.

    Raises:
        UserError: fraction or labels out of range.

    Example:
        >>> labelled_fraction(np.array([0, 0, 1, 1, -1]), 0.5, seed=0).tolist().count(-1)
        3
    """
    labels = _checked(labels)
    _check_share("labelled_fraction", fraction, upper_open=False)
    if fraction == 1:
        return labels.copy()
    kept = np.full_like(labels, UNLABELLED)
    if fraction > 0:
        for rows in _classes_in_hash_order(labels, seed, "labelled_fraction"):
            rows = rows[: max(1, _rounded(fraction, len(rows)))]
            kept[rows] = labels[rows]
    return kept


def split_validation(labels: Labels, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Carve validation rows out of the labelled training rows, to choose parameters without the test split.

    Stratified: round(fraction * n) rows of each class, at least one where a class has two or more, and never
    the only labelled row of a class. Pass labels *after* `labelled_fraction`: then the validation rows are
    taken from the labels that are really there. Unlabelled rows always stay in training.

    Args:
        labels: (N,) integers, -1 = unlabelled.
        fraction: share of the labelled rows, in [0, 1).
        seed: >= 0.

    Returns:
        Row numbers (int64, ascending) of training and of validation: disjoint, together all N rows.

    Raises:
        UserError: fraction or labels out of range.

    Example:
        >>> train, validation = split_validation(np.array([0, 0, 1, 1, -1]), 0.5, seed=0)
        >>> len(train), len(validation)
        (3, 2)
    """
    held_out = stratified_rows(labels, fraction, seed, "validation")
    rows = np.arange(len(labels), dtype=np.int64)
    return rows[~held_out], rows[held_out]


def kept_labels(
    labels: Labels, fraction: float, validation_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The labels that a run reads: a share of them, without those of its validation rows.

    Args:
        labels: (N,) integers, -1 = unlabelled.
        fraction: as in `labelled_fraction`.
        validation_fraction: as in `split_validation`, of the labels that are kept.
        seed: >= 0.

    Returns:
        (N,) int64, -1 elsewhere, and the row numbers of validation.

    Raises:
        UserError: fraction or labels out of range.

    Example:
        >>> kept, validation = kept_labels(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.5, 0.5, seed=0)
        >>> int((kept >= 0).sum()), len(validation)
        (2, 2)
    """
    kept = labelled_fraction(labels, fraction, seed)
    _, withheld = split_validation(kept, validation_fraction, seed)
    kept[withheld] = UNLABELLED
    return kept, withheld


def stratified_rows(labels: Labels, fraction: float, seed: int, purpose: str) -> np.ndarray:
    """Mark a stratified share of the labelled rows; without any label, a plain share of all rows.

    Args:
        labels: (N,) integers, -1 = unlabelled.
        fraction: share in [0, 1).
        seed: >= 0.
        purpose: name of the choice; different purposes are independent.

    Returns:
        (N,) bool. Never all rows of a class, at least one row of a class that has two (if fraction > 0).

    Raises:
        UserError: fraction or labels out of range.
    """
    labels = _checked(labels)
    _check_share(f"{purpose}_fraction", fraction, upper_open=True)
    marked = np.zeros(len(labels), dtype=bool)
    if fraction == 0:
        return marked
    if (labels == UNLABELLED).all():
        labels = np.zeros_like(labels)
    for rows in _classes_in_hash_order(labels, seed, purpose):
        count = min(len(rows) - 1, max(1, _rounded(fraction, len(rows))))
        marked[rows[:count]] = True
    return marked


def _classes_in_hash_order(labels: np.ndarray, seed: int, purpose: str) -> Iterator[np.ndarray]:
    """Row numbers of each class, classes ascending, rows by (hash, row). One class is in memory at a time."""
    parts = (labels[start : start + _CHUNK] for start in range(0, len(labels), _CHUNK))
    for label in sorted(set().union(*(np.unique(part).tolist() for part in parts)) - {UNLABELLED}):
        rows = np.flatnonzero(labels == label)
        hashes = np.empty(len(rows), dtype=np.int64)
        for start in range(0, len(rows), _CHUNK):
            part = torch.from_numpy(rows[start : start + _CHUNK])
            hashes[start : start + _CHUNK] = hash_uniform(seed, purpose, part).numpy()
        yield rows[np.argsort(hashes, kind="stable")]


def _rounded(fraction: float, count: int) -> int:
    """fraction * count to the nearest integer, halves up: never decreasing in `fraction`."""
    return int(np.floor(fraction * count + 0.5))


def _check_share(field: str, fraction: float, upper_open: bool) -> None:
    if not (0 <= fraction < 1 or (fraction == 1 and not upper_open)):
        raise must(field, "in [0, 1)" if upper_open else "in [0, 1]", fraction)


def _checked(labels: Labels) -> np.ndarray:
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise must("labels", "a vector of integers", f"{values.dtype} of shape {values.shape}")
    if len(values) and values.min() < UNLABELLED:
        row = int(values.argmin())
        raise must("labels", ">= -1 (-1 = unlabelled)", int(values[row]), where=f"Row {row}")
    return values.astype(np.int64, copy=False)
