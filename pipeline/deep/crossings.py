"""The last pass of a deep run: which nodes the views of samples cross between (`somcore.crossings`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.deep.augment import Draws, View
from pipeline.deep.network import Network
from pipeline.deep.plan import encode
from pipeline.prepared.shards import Dataset
from pipeline.training.reduction import Reduction, dealt
from somcore.config import MapConfig
from somcore.crossings import crossings_of, spread_classes
from somcore.growth import reconnect
from somcore.matching import predict_nodes
from somcore.state import MapState

_EPOCH = -7  # a draw of its own


def counted_crossings(
    state: MapState,
    network: Network,
    config: MapConfig,
    view: View,
    dataset: Dataset,
    rows: Tensor,
    reduction: Reduction,
    stay: Callable[[], None],
) -> Tensor:
    """(K, K) int64 crossings of all rows: each sample falls on a node, and one view of it on the same or another.

    Args:
        state: the map.
        network: the encoder.
        config: of the map.
        view: the strong one.
        dataset: with a training split.
        rows: (N,) rows to look at.
        reduction: joins the workers.
        stay: called before every tile; may raise to leave early.
    """
    tiles = range(0, len(rows), config.tile_size)
    crossings = torch.zeros(state.capacity, state.capacity, dtype=torch.int64, device=state.device)
    for start in tiles[dealt(len(tiles), reduction.rank, reduction.world_size)]:
        stay()
        positions = torch.arange(start, min(start + config.tile_size, len(rows)))
        samples = dataset.read("train", rows[positions])[0].to(state.device)
        viewed = view(samples, Draws(config.seed, _EPOCH, positions.to(state.device), "strong"))
        fallen, other = (predict_nodes(state, encode(network, x), config)[0] for x in (samples, viewed))
        crossings += crossings_of(fallen, other, state.capacity)
    return reduction.sum(crossings)


def with_classes_spread(state: MapState, crossings: Tensor, config: MapConfig) -> MapState:
    """The map with classes for nodes that have none, from those that do; nodes of two classes are no neighbours."""
    if not state.num_classes:
        return state
    classes = spread_classes(state.classes, crossings, state.num_classes)
    return reconnect(dataclasses.replace(state, classes=classes), config)
