"""Repairs of a map behind an encoder that moves: warm-up of relevances, refresh of nodes.

Axes: K nodes, D features, C classes.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from somcore.config import UNLABELLED, MapConfig
from somcore.growth import keep_nodes, reconnect
from somcore.relevance import kept_share, logistic_relevances
from somcore.state import MapState
from somcore.statistics import BatchStatistics

_ACCEPT_ALL = 1e-12  # a threshold that every sample reaches


def with_plain_relevances(state: MapState, warmup_rounds: int) -> MapState:
    """The map as it is used during relevance warm-up: ω = 1 while deviations are being collected.

    Neighbours stay those of the relevances that the deviations give.
    """
    if state.round >= warmup_rounds:
        return state
    return dataclasses.replace(state, relevances=torch.ones_like(state.relevances))


def open_map(state: MapState, config: MapConfig) -> tuple[MapState, MapConfig]:
    """What the statistics of a refresh are taken on: every sample is accepted by its BMU, whatever its class.

    Returns:
        The map without classes, growth and neighbours, and a configuration that accepts everything.
    """
    nobody = torch.full_like(state.classes, UNLABELLED)
    opened = dataclasses.replace(state, classes=nobody, neighbours=torch.zeros_like(state.neighbours), growing=False)
    if config.has_boxes:  # its boxes would refuse samples, and shrink by what they refuse
        decay = MapConfig.deviation_decay  # not read, and refused if it is another
        config = dataclasses.replace(config, variant="sssom", deviation_decay=decay, push_rate=0.0)
        return opened, dataclasses.replace(config, activation_threshold=_ACCEPT_ALL)
    if config.has_threshold:
        config = dataclasses.replace(config, activation_threshold=_ACCEPT_ALL)
    return opened, config


def refreshed(state: MapState, statistics: BatchStatistics, config: MapConfig) -> MapState:
    """The map rebuilt where the encoder is now: one step of k-means, with classes voted anew.

    Nodes move to the mean of the samples they win, their deviations likewise (measured from the old prototypes, as
    every statistic is), their class is that of most labelled samples they win (ties: lowest), none without such a
    sample; where nothing grows any more, in a full map or a finished one, no class that has samples is left without a
    node (`with_every_class`). Nodes that win nothing are removed: they stand where samples used to be. Nothing is
    inserted, no round or win counted.

    Args:
        state: the frozen map.
        statistics: merged statistics of a pass over data with the current encoder, taken on `open_map`.
        config: resolved hyper-parameters of a growing map.

    Source: this project, decision 0008.
    """
    assert config.relevance_floor is not None
    number, features, gaps = statistics.split(statistics.sums["pull"])
    won, divisor = number > 0, number.clamp_min(1)
    deviations = torch.where(won, gaps / divisor, 0.0)
    classes = state.classes
    if state.num_classes:
        votes = statistics.sums["classes"].view(state.capacity, state.num_classes)
        classes = torch.where(votes.sum(1) > 0, votes.argmax(1), UNLABELLED)
        if bool(state.alive.all()) or not state.growing:  # growth cannot help
            classes = with_every_class(classes, votes)
    stored, updates = deviations, state.updates
    if config.has_boxes:
        updates = updates + number.squeeze(1).to(torch.int64)
        stored = deviations * (1 - kept_share(updates.unsqueeze(1), config.deviation_decay))  # δ̂ is what was seen
    moved = dataclasses.replace(
        state,
        prototypes=torch.where(won, features / divisor, state.prototypes),
        deviations=stored,
        updates=updates,
        relevances=logistic_relevances(deviations, config.relevance_slope, config.relevance_floor),
        classes=classes,
    )
    return reconnect(keep_nodes(moved, state.alive & won.all(1)), config)


def with_every_class(classes: Tensor, votes: Tensor) -> Tensor:
    """Classes of nodes, such that a class with samples has a node wherever another can spare one.

    A class that is nowhere in the majority takes the node that won most of its samples, of those whose own class has
    another node; the class with most samples first, ties to the lowest. Without a node it could never be said again.

    Args:
        classes: (K,) int64, by majority.
        votes: (K, C) labelled samples that each node won.

    Returns:
        (K,) int64.

    Source: decision of this project (decision 0021).

    Example:
        >>> with_every_class(torch.tensor([0, 0]), torch.tensor([[5, 0], [4, 3]])).tolist()
        [0, 1]
    """
    classes, samples = classes.clone(), votes.sum(0)
    for label in samples.argsort(stable=True, descending=True).tolist():
        if samples[label] == 0 or bool((classes == label).any()):
            continue
        spare = (classes.unsqueeze(1) == classes).sum(1) > 1
        won = torch.where(spare, votes[:, label], 0)
        if int(won.max()) > 0:
            classes[won.argmax()] = label
    return classes
