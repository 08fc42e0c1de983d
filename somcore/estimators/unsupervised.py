"""What the estimators without labels share.

Axes: N samples, D features, K nodes.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClusterMixin
from sklearn.utils.validation import _check_sample_weight

from somcore.estimators.base import MapEstimator
from somcore.metrics import sample_quality


class Unsupervised(ClusterMixin, MapEstimator):
    """A map that learns without labels; its clusters are its nodes."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train the map from the beginning.

        Args:
            X: (N, D) samples, feature units.
            y: ignored.
            sample_weight: (N,) whole numbers; a sample of weight m counts as m equal samples.

        Returns:
            The estimator.
        """
        with self._whole():
            features, _ = self._features(X, reset=True)
            self._train(features, sample_weight=sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """One pass over further samples, in their order; a call with one row is the online step.

        The first call makes the map; where a default needs the number of training rows, it takes the larger of
        the rows of that call and `batch_size`.

        Args:
            X: (N, D) samples.
            y: ignored.
            sample_weight: (N,) whole numbers.

        Returns:
            The estimator.
        """
        with self._whole():
            features, _ = self._features(X, reset=not hasattr(self, "state_"))
            self._train_further(features, sample_weight=sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(N,) node of each sample, an index into `prototypes_`; -1 = noise (with `noise_filter`)."""
        return self._nodes(self._read(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the quantization error: larger is better.

        Args:
            X: (N, D) samples, feature units.
            y: ignored.
            sample_weight: (N,) numbers >= 0, not all 0: how much each sample counts in the mean.
        """
        if sample_weight is None:
            return -self.quantization_error(X)
        features = self._read(X)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        distances = self._by_parts(features, lambda part: sample_quality(self.state_, part, self.config_)[0])
        return -float(np.average(distances, weights=weights))
