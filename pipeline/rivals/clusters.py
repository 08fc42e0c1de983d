"""Clusterings of features and the map they leave: k-means of scikit-learn, one thread, no empty cluster.

N rows, D features, K clusters, C classes.
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import torch
from torch import Tensor

from pipeline.rivals.base import plain_map, voted_classes
from pipeline.rivals.world import World
from pipeline.training.checkpoint import Snapshot
from somcore.config import MapConfig
from somcore.matching import predict_nodes
from somcore.state import MapState

_TILE_ROWS = 4096
_PLAIN = MapConfig(variant="larfdssom", activation_threshold=0.5)


def k_means(features: Tensor, clusters: int, restarts: int, seed: int) -> tuple[Tensor, Tensor]:
    """The best of several k-means.

    Args:
        features: (N, D).
        clusters: K.
        restarts: starts (k-means++); the one with the least error is kept.
        seed: of the starts.

    Returns:
        Centres (K, D) float64 and (N,) int64 clusters, none of them empty if there are K different rows.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    values = features.numpy()
    with threadpool_limits(1), warnings.catch_warnings():  # more threads add in another order
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        found = KMeans(clusters, n_init=restarts, random_state=seed).fit(values)
    nodes = torch.from_numpy(found.labels_.astype(np.int64))
    return refilled(torch.from_numpy(found.cluster_centers_).to(torch.float64), nodes, features)


def refilled(centres: Tensor, nodes: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """No cluster is empty: each empty one takes half of the largest, cut at the median of its widest feature.

    Args:
        centres: (K, D) float64.
        nodes: (N,) int64 clusters of the rows.
        features: (N, D).
    """
    centres, nodes, values = centres.clone(), nodes.clone(), features.to(torch.float64)
    for empty in (torch.bincount(nodes, minlength=len(centres)) == 0).nonzero().squeeze(1).tolist():
        largest = int(torch.bincount(nodes, minlength=len(centres)).argmax())
        rows = (nodes == largest).nonzero().squeeze(1)
        if len(rows) < 2:
            break
        widest = int(values[rows].var(0, correction=0).argmax())
        order = values[rows, widest].sort(stable=True).indices
        nodes[rows[order[len(rows) // 2 :]]] = empty
        for node in (largest, empty):
            centres[node] = values[nodes == node].mean(0)
    return centres, nodes


def nearest_nodes(state: MapState, features: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) int64 nearest node of each row, and its mean squared error per feature."""
    parts = [predict_nodes(state, part, _PLAIN) for part in features.split(_TILE_ROWS)]
    return torch.cat([nodes for nodes, _ in parts]), torch.cat([errors for _, errors in parts])


def settled(snapshot: Snapshot, prototypes: Tensor, world: World, features: Tensor | None = None) -> Snapshot:
    """The final map of a clustering: classes voted by the labels that may be read, wins of all trained rows.

    Args:
        snapshot: after the last round.
        prototypes: (K, D).
        world: the workers.
        features: (N, D) of the trained rows, if they are at hand.
    """
    features = world.features(world.rows) if features is None else features
    state = plain_map(prototypes, snapshot.state)
    nodes, _ = nearest_nodes(state, features)
    classes = voted_classes(nodes, world.labels[world.rows], len(prototypes), state.num_classes)
    wins = torch.bincount(nodes, minlength=len(prototypes))
    return dataclasses.replace(snapshot, state=dataclasses.replace(state, classes=classes, wins=wins))
