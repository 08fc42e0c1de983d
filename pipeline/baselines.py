"""What labels give without a map: the commonest class, the nearest labelled row, label spreading.

N training rows, M test rows, D features; a label of −1 = unlabelled.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from pipeline.prepared.labels import kept_labels
from pipeline.prepared.shards import Dataset

_SPREADING_ROWS = 10_000  # label spreading holds a graph over all rows
_ALL_ROWS = 200_000
_PRODUCTS = 1e11  # of the comparisons with all labelled rows; some ten seconds
BASELINES = {
    "majority": "commonest class",
    "neighbour": "1-nearest labelled row",
    "spreading": "label spreading",
}


def baseline_accuracies(
    data: str, draws: Iterable[tuple[float, float, int]], num_folds: int = 1
) -> dict[str, dict[float, list[float]]]:
    """Test accuracy of what reads the same labels as runs, by method and fraction, one number for each draw.

    Label spreading is left out for more than 10,000 training rows, the nearest labelled row where the comparisons would
    take longer than some ten seconds, and both where there are no labels. Folds share that time.

    Args:
        data: the prepared data set.
        draws: labelled fraction, validation fraction and seed of the runs.
        num_folds: how many such data sets are looked at.
    """
    dataset = Dataset.open(data)
    count = dataset.num_samples("train")
    if not dataset.num_samples("test") or not dataset.num_classes or count > _ALL_ROWS:
        return {}
    features, labels = (part.numpy() for part in dataset.read("train", slice(0, count)))
    test, truth = (part.numpy() for part in dataset.read("test", slice(0, dataset.num_samples("test"))))
    test, truth = test[truth >= 0], truth[truth >= 0]  # as the accuracy of a map
    if not len(test):
        return {}
    features, test = np.nan_to_num(features), np.nan_to_num(test)
    found: dict[str, dict[float, list[float]]] = {name: {} for name in BASELINES}
    for fraction, validation_fraction, seed in draws:
        kept, _ = kept_labels(labels, fraction, validation_fraction, seed)
        for name, value in _reading(features, kept, test, truth, num_folds).items():
            found[name].setdefault(fraction, []).append(value)
    return {name: values for name, values in found.items() if values}


def _reading(
    features: np.ndarray, kept: np.ndarray, test: np.ndarray, truth: np.ndarray, num_folds: int
) -> dict[str, float]:
    from sklearn.neighbors import KNeighborsClassifier

    known = kept >= 0
    if not known.any():
        return {}
    scores = {"majority": majority_accuracy(kept, truth)}
    if known.sum() * test.size <= _PRODUCTS / num_folds:
        nearest = KNeighborsClassifier(1).fit(features[known], kept[known])
        scores["neighbour"] = float((nearest.predict(test) == truth).mean())
    if len(features) <= _SPREADING_ROWS / num_folds**0.5:  # its graph takes the square of them
        scores["spreading"] = spreading_accuracy(features, kept, test, truth)
    return scores


def majority_accuracy(labels: np.ndarray, truth: np.ndarray) -> float:
    """Test accuracy of the commonest class of the labels: (N,), (M,)."""
    return float((truth == np.bincount(labels[labels >= 0]).argmax()).mean())


def spreading_accuracy(features: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Test accuracy of label spreading over the training rows: (N, D), (N,), (M, D), (M,)."""
    from sklearn.semi_supervised import LabelSpreading

    model = LabelSpreading(kernel="knn", n_neighbors=min(7, len(features)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # graphs of few labels leave rows that no label reaches
        model.fit(features, labels)
        return float((model.predict(test) == truth).mean())
