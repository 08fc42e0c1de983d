"""What the estimators without labels share.

Axes: N samples, D features, K nodes.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClusterMixin

from somcore.estimators.base import MapEstimator


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

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the quantization error: larger is better."""
        return -self.quantization_error(X)
