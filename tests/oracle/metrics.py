"""Measures of a map and of a clustering, by definition (sections 2 and 4)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from .common import Map, nearest, squared_distance


def quantization_error(m: Map, samples: np.ndarray) -> float:
    """Mean distance (not squared) to the BMU."""
    total = 0.0
    for x in samples:
        b = nearest(m, x, m.nodes())
        assert b is not None
        total += math.sqrt(squared_distance(x, m.prototypes[b], m.relevances[b]))
    return total / len(samples)


def topographic_error(m: Map, samples: np.ndarray, adjacent: Callable[[int, int], bool]) -> float:
    """Share of samples whose first and second BMU are not adjacent."""
    torn = 0
    for x in samples:
        first = nearest(m, x, m.nodes())
        second = nearest(m, x, [j for j in m.nodes() if j != first])
        assert first is not None and second is not None
        torn += not adjacent(first, second)
    return torn / len(samples)


def u_matrix(m: Map, adjacent: Callable[[int, int], bool]) -> np.ndarray:
    """Per node the mean distance to its adjacent nodes' prototypes."""
    out = np.zeros(m.capacity)
    for j in m.nodes():
        gaps = [math.dist(m.prototypes[j], m.prototypes[i]) for i in m.nodes() if adjacent(j, i)]
        out[j] = sum(gaps) / len(gaps) if gaps else 0.0
    return out


def purity(nodes: np.ndarray, labels: np.ndarray) -> float:
    """Share of samples that carry the commonest label of their node; without a node (-1) = error."""
    right = 0
    for j in set(nodes.tolist()) - {-1}:
        members = labels[nodes == j].tolist()
        right += max(members.count(y) for y in set(members))
    return right / len(labels)


def clustering_accuracy(nodes: np.ndarray, labels: np.ndarray) -> float:
    """Best one-to-one matching of clusters to classes, by trying all; without a node (-1) = error."""
    clusters, classes = sorted(set(nodes.tolist()) - {-1}), sorted(set(labels.tolist()))
    longer, shorter = (clusters, classes) if len(clusters) >= len(classes) else (classes, clusters)
    best = 0
    for choice in itertools.permutations(longer, len(shorter)):
        pairs = zip(choice, shorter, strict=True) if longer is clusters else zip(shorter, choice, strict=True)
        best = max(best, sum(int(np.sum((nodes == c) & (labels == y))) for c, y in pairs))
    return best / len(labels)
