"""What a trained map says about a sample: nodes, subspace clusters, classes, noise (sections 3 to 6)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .common import UNLABELLED, Map, box, corrected_deviation, inside, nearest, rho, rho_of, threshold


def reaches(m: Map, x: np.ndarray, j: int, config: Any) -> bool:
    """Does node j accept x, whatever the classes?"""
    if config.variant == "altsssom":
        return inside(x, m.prototypes[j], box(m, j, config))
    if config.variant == "dssom":
        return 1.0 / (1.0 + rho_of(m, x, j)) >= config.outlier_threshold
    return rho_of(m, x, j) <= threshold(config)


def predict_node(m: Map, x: np.ndarray, config: Any) -> int:
    """Projected output: the BMU, -1 for noise where the filter is on."""
    b = nearest(m, x, m.nodes())
    if b is None or (config.noise_filter and not reaches(m, x, b, config)):
        return -1
    return b


def predict_class(m: Map, x: np.ndarray, config: Any) -> int:
    b = nearest(m, x, m.nodes())
    if b is None or (config.noise_filter and not reaches(m, x, b, config)):
        return UNLABELLED
    if m.classes[b] != UNLABELLED:
        return int(m.classes[b])
    other = nearest(m, x, [j for j in m.nodes() if m.classes[j] != UNLABELLED])
    if other is None or (config.fallback == "threshold" and not reaches(m, x, other, config)):
        return UNLABELLED
    return int(m.classes[other])


def class_probabilities(m: Map, x: np.ndarray, config: Any) -> np.ndarray:
    """Softmax over the classes that have a node; the others get 0."""
    scale = threshold(config) if config.variant != "altsssom" else _mean_squared_deviation(m, config)
    powers = {}
    for y in range(m.num_classes):
        own = nearest(m, x, [j for j in m.nodes() if m.classes[j] == y])
        if own is not None:
            powers[y] = -rho_of(m, x, own) / scale
    highest = max(powers.values())
    total = sum(math.exp(p - highest) for p in powers.values())
    return np.array([math.exp(powers[y] - highest) / total if y in powers else 0.0 for y in range(m.num_classes)])


def _mean_squared_deviation(m: Map, config: Any) -> float:
    hats = [corrected_deviation(m.deviations[j], m.updates[j], config.deviation_decay) for j in m.nodes()]
    return float(np.mean(np.square(hats)))


def subspace_nodes(m: Map, x: np.ndarray, config: Any) -> list[int]:
    """Growing maps: the BMU and every other node that accepts x, by increasing rho. DSSOM: by depletion."""
    if config.variant == "dssom":
        return _depletion(m, x, config)
    b = nearest(m, x, m.nodes())
    others = [j for j in m.nodes() if j != b and reaches(m, x, j, config)]
    return [b] * (b is not None) + sorted(others, key=lambda j: (rho_of(m, x, j), j))


def _depletion(m: Map, x: np.ndarray, config: Any) -> list[int]:
    residual, chosen = np.ones(len(x)), []
    while not chosen or (max(residual) > config.residual_threshold and len(chosen) < config.max_members):
        best = min(m.nodes(), key=lambda j: (rho(x, m.prototypes[j], m.relevances[j] * residual), j))
        chosen.append(best)
        residual = residual * (1.0 - m.relevances[best])
    return chosen


def relevant_features(m: Map, j: int) -> np.ndarray:
    return m.relevances[j] >= np.mean(m.relevances[j])
