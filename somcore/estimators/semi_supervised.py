"""What the semi-supervised estimators share.

Axes: N samples, D features, K nodes, C classes. y holds class numbers >= 0, -1 = unlabelled.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

from somcore.config import UNLABELLED, MapConfig
from somcore.estimators.base import MapEstimator
from somcore.estimators.persistence import saved_indices
from somcore.estimators.scales import warn_of_lost_classes
from somcore.matching import class_probabilities, predict_classes
from somcore.state import MapState


class SemiSupervised(ClassifierMixin, MapEstimator):
    """A classifier that also learns from samples without a label.

    Attributes:
        classes_: (C,) class numbers that were seen, sorted.
        transduction_: (N,) class said of each training sample.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train the map from the beginning.

        Args:
            X: (N, D) samples, feature units.
            y: (N,) class numbers, -1 = unlabelled; None = no labels at all.
            sample_weight: (N,) whole numbers; a sample of weight m counts as m equal samples.

        Returns:
            The estimator.
        """
        with self._whole():
            _refuse_missing_labels(y)
            features, y = self._features(X, y, reset=True)
            labels = None if y is None else _class_numbers(y, "y")
            self.classes_ = _seen(labels)
            self._train(features, self._codes(labels), len(self.classes_), sample_weight)
            warn_of_lost_classes(self.state_, self.classes_.tolist())
            self.transduction_ = self._classes(features)
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> Self:
        """One pass over further samples, in their order; a call with one row is the online step.

        The first call makes the map; where a default needs the number of training rows, it takes the larger of
        the rows of that call and `batch_size`.

        Args:
            X: (N, D) samples.
            y: (N,) class numbers, -1 = unlabelled; None = no labels.
            classes: all classes that may ever come, each once; needed in the first call if its `y` does not hold them
                all, the same or None in every later call.
            sample_weight: (N,) whole numbers.

        Returns:
            The estimator.
        """
        with self._whole():
            first = not hasattr(self, "state_")
            _refuse_missing_labels(y)
            features, y = self._features(X, y, reset=first)
            labels = None if y is None else _class_numbers(y, "y")
            named = None if classes is None else _seen(_named(classes, len(features)))
            if first:
                self.classes_ = _seen(labels) if named is None else named
            elif named is not None and named.tolist() != self.classes_.tolist():
                was = self.classes_.tolist()
                raise ValueError(
                    f"classes must be those of the first call ({was}). Got {named.tolist()}; leave it out."
                )
            self._train_further(features, self._codes(labels), len(self.classes_), sample_weight)
            self.transduction_ = self._classes(features)
        return self

    def _codes(self, labels: np.ndarray | None) -> np.ndarray | None:
        """Labels as 0 ... C - 1, -1 = unlabelled; None if there is no class at all."""
        if labels is None:
            return None
        stranger = labels[(labels != UNLABELLED) & ~np.isin(labels, self.classes_)]
        if len(stranger):
            known = self.classes_.tolist()
            raise ValueError(
                f"y must hold classes of the first call ({known}), or -1. Got {stranger[0]}; name all that may come "
                "with classes=[...] in the first call."
            )
        codes = np.searchsorted(self.classes_, labels)
        return np.where(labels == UNLABELLED, UNLABELLED, codes) if len(self.classes_) else None

    def _classes(self, features: Tensor) -> np.ndarray:
        names = np.append(self.classes_, UNLABELLED)  # code -1 is the last entry
        codes = self._by_parts(features, lambda part: predict_classes(self.state_, part, self.config_))
        classes: np.ndarray = names[codes]
        return classes

    def predict(self, X: Any) -> np.ndarray:
        """(N,) class of each sample; -1 where the map cannot say one."""
        return self._classes(self._read(X))

    def predict_nodes(self, X: Any) -> np.ndarray:
        """(N,) node of each sample, an index into `prototypes_`; -1 = noise (with `noise_filter`)."""
        return self._nodes(self._read(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, C) probability of each class of `classes_`, from the nearest node of each."""
        features = self._read(X)
        if len(self.classes_) == 0:
            return np.empty((len(features), 0))
        return self._by_parts(features, lambda part: class_probabilities(self.state_, part, self.config_))

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Train, and return the class said of each training sample."""
        return self.fit(X, y, sample_weight).transduction_

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy over the samples that have a label.

        Args:
            X: (N, D) samples, feature units.
            y: (N,) class numbers, -1 = unlabelled.
            sample_weight: (N,) numbers >= 0, above 0 for a row with a label.
        """
        if y is None:
            raise ValueError("y must hold the classes to score against. Got None.")
        _refuse_missing_labels(y)
        y = _class_numbers(column_or_1d(y, warn=True), "y")
        check_consistent_length(X, y, sample_weight)
        labelled = np.flatnonzero(y != UNLABELLED)
        if len(labelled) == 0:
            raise ValueError("y must hold at least one label to score against. Got -1 in every row.")
        known = y[labelled]
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)[labelled]
            if not weights.any():
                raise ValueError("sample_weight must be above 0 for a row with a label. Got 0 in each of them.")
        right = self.predict(X)[labelled] == known
        return float(np.average(right, weights=weights))

    def _install(self, state: MapState, config: MapConfig) -> None:
        super()._install(state, config)
        self.node_classes_ = np.append(self.classes_, UNLABELLED)[self.node_classes_]

    def _saved_arrays(self) -> dict[str, np.ndarray]:
        return super()._saved_arrays() | {"classes": self.classes_, "transduction": self.transduction_}

    def _restore(self, document: dict[str, Any], state: MapState, tensors: dict[str, Tensor]) -> None:
        classes = tensors["classes"].numpy()
        if (
            classes.dtype != np.int64
            or len(np.unique(classes)) != state.num_classes
            or len(classes) != state.num_classes
        ):
            raise ValueError(f"'classes' of the saved map must name {state.num_classes} classes. Got {classes}.")
        self.classes_ = classes
        super()._restore(document, state, tensors)
        self.transduction_ = saved_indices(tensors, "transduction", classes)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        # scikit-learn scores classifiers on three blobs in two features, where the published relevances keep one
        # feature per node: 0.78 there, and 0.92 with flat relevances (a large relevance_slope).
        tags.classifier_tags.poor_score = True
        return tags


def _seen(labels: np.ndarray | None) -> np.ndarray:
    """(C,) the classes among labels, sorted."""
    return np.empty(0, dtype=np.int64) if labels is None else np.unique(labels[labels != UNLABELLED])


def _named(classes: Any, num_rows: int) -> np.ndarray:
    """Class numbers from `classes`; what looks like the weights of the rows is refused."""
    given = np.asarray(classes)
    weights = given.dtype.kind == "f" and given.shape == (num_rows,)
    if weights or given.ndim != 1 or len(set(given.tolist())) < len(given):
        raise ValueError(
            "classes must name each class once, as integers: [0, 1, 2] for instance. Got an array of shape "
            f"{given.shape} and type {given.dtype}; weights are given by name, sample_weight=..."
        )
    return _class_numbers(given, "classes")


def _refuse_missing_labels(y: Any) -> None:
    """NaN, None and NA of pandas mark a row without a label elsewhere; here -1 does."""
    kind = y.dtype.kind if isinstance(getattr(y, "dtype", None), np.dtype) else ""
    if y is None or (kind and kind in "iub") or (kind == "f" and not np.isnan(y).any()):
        return
    for row, value in enumerate(np.asarray(y, dtype=object).ravel()):
        if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value):
            raise ValueError(f"y must hold class numbers, -1 = unlabelled. Got {value} at row {row}; write -1 there.")


def _class_numbers(y: np.ndarray, name: str) -> np.ndarray:
    """Class numbers as int64; strings are refused, because a "-1" among them would become a class."""
    if y.dtype == object and all(isinstance(value, Real) for value in y):
        y = np.array(y.tolist())
    if y.dtype.kind not in "iubf":
        raise ValueError(f"{name} must hold whole numbers, -1 = unlabelled. Got {y.dtype}; encode it first.")
    check_classification_targets(y)
    numbers = y.astype(np.int64)
    wrong = np.flatnonzero((numbers != y) | (numbers < UNLABELLED))
    if len(wrong):
        got = f"Got {y[wrong[0]]} at row {wrong[0]}."
        raise ValueError(f"{name} must hold class numbers >= 0, or -1 for unlabelled. {got}")
    return numbers
