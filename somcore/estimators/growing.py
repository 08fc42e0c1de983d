"""The growing maps: LARFDSSOM, SS-SOM and ALTSS-SOM.

Axes: N samples, D features, K nodes, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from somcore.estimators.base import MapEstimator
from somcore.estimators.semi_supervised import SemiSupervised
from somcore.estimators.unsupervised import Unsupervised


@dataclass(kw_only=True, eq=False, repr=False)
class _Growing(MapEstimator):
    """Nodes that come and go."""

    capacity: int | None = None
    bmu_rate: float | None = None
    neighbour_rate: float | None = None
    relevance_slope: float = 0.07
    relevance_floor: float | None = None
    connection_threshold: float = 0.08
    min_win_share: float | None = None
    pruning_period: int | None = None
    pruning_epochs: float = 10
    newborn_credit: bool | None = None
    candidates_per_group: int = 8
    noise_filter: bool = False


@dataclass(kw_only=True, eq=False, repr=False)
class LARFDSSOM(_Growing, Unsupervised):
    """Growing map with local relevances: projected and subspace clustering without labels.

    Args:
        capacity: upper bound of nodes; None = 70.
        activation_threshold: activation a node must reach to accept a sample, or "auto": from the data.
        threshold_quantile: share of close pairs that "auto" takes for one node; None = 0.05.
        bmu_rate: how far the BMU follows one sample; None = 0.05.
        neighbour_rate: the same for its neighbours; None = 0.45 * bmu_rate.
        relevance_rate: speed of the deviations; None = 0.1.
        relevance_slope: small = binary relevances, large = flat.
        relevance_floor: smallest relevance; None = 1e-6.
        connection_threshold: nodes with relevances closer than this are neighbours.
        min_win_share: nodes that win a smaller share of the samples are pruned; None = 0.002.
        pruning_period: samples between prunings; None = pruning_epochs * N.
        pruning_epochs: the same in passes.
        newborn_credit: judge nodes on their own lifetime; None = False.
        candidates_per_group: insertions proposed per BMU and round.
        noise_filter: samples that no node accepts belong to none (-1).
        epochs: passes of the organisation; None = 50.
        batch_size: samples per round; 1 = online.
        sampling: "permutation" or "replacement".
        missing: "error", or "mask": NaN takes no part.
        seed: order of samples.
        device: where the map is computed, "cpu" or "cuda".

    Source: Bassani & Araújo, IEEE TNNLS 26(3), 2015.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.preprocessing import minmax_scale
        >>> X = minmax_scale(load_iris().data)
        >>> som = LARFDSSOM(capacity=10).fit(X)
        >>> som.transform(X).shape == (150, som.n_nodes_)
        True
    """

    _variant = "larfdssom"

    activation_threshold: float | str = "auto"
    threshold_quantile: float | None = None
    relevance_rate: float | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class SSSOM(_Growing, SemiSupervised):
    """Semi-supervised growing map: labels steer which nodes accept, are pushed, and get a class.

    Args:
        capacity: upper bound of nodes; None = 200.
        activation_threshold: activation a node must reach to accept a sample, or "auto": from the data.
        threshold_quantile: share of close pairs that "auto" takes for one node; None = 1 / 2C.
        bmu_rate: how far the BMU follows one sample; None = 0.05.
        neighbour_rate: the same for its neighbours; None = 0.45 * bmu_rate.
        push_rate: repulsion of a nearest node of another class, where a node of the right one, or of none, accepts the
            sample; None = 0.6 * bmu_rate.
        relevance_rate: speed of the deviations; None = 0.1.
        relevance_slope: small = binary relevances, large = flat.
        relevance_floor: smallest relevance; None = 1e-6.
        connection_threshold: nodes with relevances closer than this are neighbours.
        min_win_share: nodes that win a smaller share of the samples are pruned; None = 0.002.
        pruning_period: samples between prunings; None = pruning_epochs * N.
        pruning_epochs: the same in passes.
        newborn_credit: judge nodes on their own lifetime; None = False.
        candidates_per_group: insertions proposed per BMU, class and round.
        fallback: prediction when the BMU has no class: "nearest" that has one, or "threshold" (published).
        noise_filter: samples that no node accepts belong to none (-1).
        epochs: passes of the organisation; None = 50.
        batch_size: samples per round; 1 = online.
        sampling: "permutation" or "replacement".
        missing: "error", or "mask": NaN takes no part.
        seed: order of samples.
        device: where the map is computed, "cpu" or "cuda".

    Source: Braga & Bassani, IJCNN 2018.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.preprocessing import minmax_scale
        >>> X, y = minmax_scale(load_iris().data), load_iris().target
        >>> y_few = [label if i % 10 == 0 else -1 for i, label in enumerate(y)]
        >>> som = SSSOM(seed=0).fit(X, y_few)
        >>> som.score(X, y) > 0.8
        True
    """

    _variant = "sssom"

    activation_threshold: float | str = "auto"
    threshold_quantile: float | None = None
    push_rate: float | None = None
    relevance_rate: float | None = None
    fallback: str = "nearest"


@dataclass(kw_only=True, eq=False, repr=False)
class ALTSSSOM(_Growing, SemiSupervised):
    """Semi-supervised growing map whose nodes accept inside boxes of their own, without a global threshold.

    Args:
        capacity: upper bound of nodes; None = 250.
        bmu_rate: how far the BMU follows one sample; None = 0.1.
        neighbour_rate: the same for its neighbours; None = 0.45 * bmu_rate.
        deviation_decay: share of a deviation kept per sample.
        relevance_slope: small = binary relevances, large = flat.
        relevance_floor: smallest relevance; None = 1e-6.
        connection_threshold: nodes with relevances closer than this are neighbours.
        min_win_share: nodes that win a smaller share of the samples are pruned; None = 0.001.
        pruning_period: samples between prunings; None = pruning_epochs * N.
        pruning_epochs: the same in passes.
        newborn_credit: judge nodes on their own lifetime; None = True.
        candidates_per_group: insertions proposed per BMU, class and round.
        fallback: prediction when the BMU has no class: "nearest" that has one, or "threshold" (published).
        noise_filter: samples that no node accepts belong to none (-1).
        epochs: passes of the organisation; None = 50.
        batch_size: samples per round; 1 = online.
        sampling: "permutation" or "replacement".
        missing: "error", or "mask": NaN takes no part.
        seed: order of samples.
        device: where the map is computed, "cpu" or "cuda".

    Source: Braga & Bassani, IJCNN 2019.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.preprocessing import minmax_scale
        >>> X, y = minmax_scale(load_iris().data), load_iris().target
        >>> y_few = [label if i % 2 == 0 else -1 for i, label in enumerate(y)]
        >>> som = ALTSSSOM(seed=0).fit(X, y_few)
        >>> som.score(X, y) > 0.8
        True
    """

    _variant = "altsssom"

    deviation_decay: float = 0.92
    fallback: str = "nearest"
