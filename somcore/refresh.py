"""Repairs of a map behind an encoder that moves: warm-up of relevances, refresh of prototypes.

Axes: K nodes, D features.
"""

from __future__ import annotations

import dataclasses

import torch

from somcore.config import MapConfig
from somcore.relevance import logistic_relevances
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


def refresh_config(config: MapConfig) -> MapConfig:
    """For the statistics of a refresh: every sample is accepted by its best compatible node, none is proposed."""
    if config.threshold_quantile is None:
        return config
    return dataclasses.replace(config, activation_threshold=_ACCEPT_ALL, connection_threshold=0.0)


def refreshed(state: MapState, statistics: BatchStatistics, config: MapConfig) -> MapState:
    """The map put where the encoder is now: nodes that won samples move to their mean, deviations likewise.

    A repair of drift, not a round: no node is inserted, pruned or given a class, no win counted. Deviations are
    measured from the old prototypes, as every statistic is.

    Args:
        state: the frozen map.
        statistics: merged statistics of a pass over data with the current encoder, taken with `refresh_config`.
        config: resolved hyper-parameters of a growing map.
    """
    assert config.relevance_floor is not None
    number, features, gaps = statistics.split(statistics.sums["pull"])
    won, divisor = number > 0, number.clamp_min(1)
    prototypes = torch.where(won, features / divisor, state.prototypes)
    deviations = torch.where(won, gaps / divisor, state.deviations)
    relevances = logistic_relevances(deviations, config.relevance_slope, config.relevance_floor)
    return dataclasses.replace(state, prototypes=prototypes, deviations=deviations, relevances=relevances)
