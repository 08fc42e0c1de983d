"""Selection rules: which of P parameter sets is scored, and on what. Pure functions of scores, no training here.

A score table is (P, F): accuracy of each parameter set on the test rows of each fold.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Scores = Sequence[Sequence[float]]
DEFAULT_SET = -1
"""Index of the documented defaults of a method."""


@dataclass(frozen=True)
class Summary:
    """Mean and spread over folds.

    Attributes:
        mean: mean over folds.
        sd: standard deviation over folds, n − 1.
        values: one value per fold.
    """

    mean: float
    sd: float
    values: tuple[float, ...]

    @property
    def se(self) -> float:
        """Standard error, sd / √folds."""
        return self.sd / math.sqrt(len(self.values))

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Summarise one value per fold."""
        mean = math.fsum(values) / len(values)
        spread = math.fsum((value - mean) ** 2 for value in values)
        return cls(mean, math.sqrt(spread / (len(values) - 1)) if len(values) > 1 else 0.0, tuple(values))


def oracle_choice(scores: Scores) -> list[int]:
    """Per fold the set that is best on its test rows: an upper bound that grows with P (defect 26)."""
    return [_best([row[fold] for row in scores]) for fold in range(len(scores[0]))]


def lofo_choice(scores: Scores) -> list[int]:
    """Leave one fold out (H2): per fold the set with the best mean on the other folds."""
    folds = range(len(scores[0]))
    return [_best([math.fsum(row[f] for f in folds if f != fold) for row in scores]) for fold in folds]


def inner_choice(inner: Sequence[float | None], nodes: Sequence[float]) -> int:
    """Honest (H1), in one fold: best inner score, then fewer nodes, then the lower index.

    Args:
        inner: mean accuracy on held-out labelled training rows, per set; None = selection is impossible.
        nodes: mean number of nodes per set.

    Returns:
        Index of the set; DEFAULT_SET where selection is impossible.
    """
    if any(score is None for score in inner):
        return DEFAULT_SET
    return min(range(len(inner)), key=lambda i: (-(inner[i] or 0.0), nodes[i], i))


def chosen(scores: Scores, choice: Sequence[int]) -> Summary:
    """Test accuracy of the chosen set of each fold."""
    return Summary.of([scores[index][fold] for fold, index in enumerate(choice)])


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: (values[i], -i))


def inner_splits(labels: Sequence[int], order: Sequence[int]) -> list[list[int]]:
    """Held-out rows of the cross-validation inside a training fold (H1).

    Stratified over the labelled rows, q = min(5, smallest class); leave-one-out with fewer than ten labelled
    rows. A class with one labelled row is never held out, and does not count as the smallest. Held-out rows
    stay in training without their label.

    Args:
        labels: class of every training row, −1 where it is not labelled. No test label is among them.
        order: a fixed shuffle of the rows.

    Returns:
        Lists of held-out rows; empty if fewer than two classes have two labelled rows: selection is impossible.
    """
    sizes = Counter(label for label in labels if label >= 0)
    eligible = {label: size for label, size in sizes.items() if size >= 2}
    if len(eligible) < 2:
        return []
    rows = {label: [i for i in order if labels[i] == label] for label in sorted(eligible)}
    if sum(sizes.values()) < 10:
        return [[row] for members in rows.values() for row in members]
    number = min(5, *eligible.values())
    splits: list[list[int]] = [[] for _ in range(number)]
    place = 0
    for members in rows.values():
        for row in members:
            splits[place % number].append(row)
            place += 1
    return splits


def best_and_mean(values: Sequence[float]) -> tuple[float, float]:
    """Clustering is scored on the whole table: best of P sets, and their mean."""
    return max(values), math.fsum(values) / len(values)
