"""Maps on a fixed lattice: Kohonen's map, and DSSOM with relevances.

Axes: N samples, D features, K = R * Q nodes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from somcore.config import MapConfig
from somcore.estimators.unsupervised import Unsupervised
from somcore.metrics import full_u_matrix


@dataclass(kw_only=True, eq=False, repr=False)
class _Lattice(Unsupervised):
    """Nodes that stand on a lattice."""

    rows: int | None = None
    columns: int | None = None
    lattice: str = "hexagonal"
    toroidal: bool = False
    kernel: str = "gaussian"
    radius: float | None = None
    rate: float | None = None
    algorithm: str | None = None
    initialisation: str = "sample"

    def topographic_error(self, X: Any) -> float:
        """Share of samples whose first and second BMU are not adjacent on the lattice.

        Args:
            X: (N, D) samples.
        """
        return self._quality(X).topographic_error

    def u_matrix(self, full: bool = False) -> np.ndarray:
        """Mean distance of each prototype to its adjacent ones, laid out as the lattice.

        Args:
            full: put the distances along the edges between the nodes.

        Returns:
            (R, Q) array; full: (2R - 1, 2Q - 1), on a torus (2R, 2Q).
        """
        check_is_fitted(self, "state_")
        config, state = self.config_, self.state_.to("cpu")
        assert config.rows is not None and config.columns is not None
        values = full_u_matrix(
            state.prototypes, config.rows, config.columns, state.neighbours, config.lattice, config.toroidal
        )
        return (values if full else values[::2, ::2]).numpy()


@dataclass(kw_only=True, eq=False, repr=False)
class KohonenSOM(_Lattice):
    """Kohonen's self-organizing map on a rectangular or hexagonal lattice, planar or toroidal.

    Args:
        rows: lattice rows; None = near-square with 5 sqrt(N) nodes.
        columns: lattice columns; None likewise.
        lattice: "hexagonal" or "rectangular".
        toroidal: opposite borders meet.
        kernel: "gaussian" or "bubble".
        radius: first neighbourhood radius, lattice steps; None = half the longer side.
        final_radius: last radius; None = 0.5.
        rate: first learning rate, superstep and online only; None = 0.5.
        final_rate: last learning rate; None = 0.01.
        radius_decay: "exponential", "linear", "inverse" or "constant".
        rate_decay: the same for the rate.
        algorithm: "batch" (None), "superstep" or "online".
        initialisation: "sample" or "linear".
        epochs: passes; None = 20.
        batch_size: samples per round of the superstep, and of `partial_fit`.
        sampling: "permutation" or "replacement".
        missing: "error", or "mask": NaN takes no part.
        seed: order of samples and initialisation.
        device: where the map is computed, "cpu" or "cuda".

    Source: Kohonen, Proc. IEEE 78(9), 1990.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> som = KohonenSOM(rows=4, columns=5, epochs=3).fit(load_digits().data / 16)
        >>> som.prototypes_.shape
        (20, 64)
    """

    _variant = "kohonen"

    final_radius: float | None = None
    final_rate: float | None = None
    radius_decay: str = "exponential"
    rate_decay: str = "exponential"

    def _endless(self, config: MapConfig) -> MapConfig:
        """A stream moves the map by rates: a batch step would forget all samples but the last."""
        if config.algorithm != "batch":
            return config
        return dataclasses.replace(config, algorithm="superstep", batch_size=self._map_config().batch_size)


@dataclass(kw_only=True, eq=False, repr=False)
class DSSOM(_Lattice):
    """Dimension-selective map on a lattice: each node learns which features are relevant to it.

    Args:
        rows: lattice rows; None = near-square with 5 sqrt(N) nodes.
        columns: lattice columns; None likewise.
        lattice: "hexagonal" or "rectangular".
        toroidal: opposite borders meet.
        kernel: "gaussian" or "bubble".
        radius: first neighbourhood radius, lattice steps; None = 0.3.
        rate: first learning rate; None = 0.01.
        relevance_rate: speed of the deviations, below 1; None = 0.01.
        relevance_floor: smallest relevance; None = 0.1.
        kernel_radius: the update reaches nodes up to so many rows and columns away.
        rate_decay_constant: decay of the rate, in shares of the training.
        radius_decay_constant: decay of the radius, likewise.
        algorithm: "superstep" (None) or "online".
        initialisation: "sample" or "linear".
        noise_filter: samples below `outlier_threshold` belong to no node (-1).
        outlier_threshold: activation below which a sample is noise.
        residual_threshold: relevance left that ends the search for further members.
        max_members: nodes one sample may belong to.
        epochs: passes; None = 20.
        batch_size: samples per round.
        sampling: "permutation" or "replacement".
        missing: "error", or "mask": NaN takes no part.
        seed: order of samples and initialisation.
        device: where the map is computed, "cpu" or "cuda".

    Source: Bassani & Araújo, IJCNN 2012.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X = load_iris().data / 8
        >>> som = DSSOM(rows=3, columns=3, epochs=5).fit(X)
        >>> som.relevances_.shape
        (9, 4)
    """

    _variant = "dssom"

    relevance_rate: float | None = None
    relevance_floor: float | None = None
    kernel_radius: int = 1
    rate_decay_constant: float = 0.2
    radius_decay_constant: float = 1.0
    noise_filter: bool = False
    outlier_threshold: float = 0.9
    residual_threshold: float = 0.5
    max_members: int = 5
