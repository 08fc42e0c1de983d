"""What a frozen map says of one tile: losses for the network, statistics for the next map.

Axes: n samples of a tile, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.config import LABEL_AWARE, UNLABELLED, MapConfig
from somcore.device import asking_is_free
from somcore.loss_config import LossConfig
from somcore.losses import RoundTotals, Views, loss_terms, weighted_sum
from somcore.matching import Match, match
from somcore.state import MapState
from somcore.statistics import BatchStatistics
from somcore.terms import Term
from somcore.update import accumulate


@dataclass(frozen=True)
class LayerOutput:
    """What the layer says of one tile.

    Attributes:
        terms: every active term of the loss: its sum and count.
        loss_sum: () Σ weight · sum over the terms, with a gradient to the features only; adds up over tiles.
        count: samples of the tile.
        statistics: what the map learns from the tile, on detached features; merges over tiles.
        match: BMU, best compatible node, accepted or not.
        losses: the weights that were used.
    """

    terms: dict[str, Term]
    loss_sum: Tensor
    count: int
    statistics: BatchStatistics
    match: Match
    losses: LossConfig

    def loss(self, totals: RoundTotals) -> Tensor:
        """Σ λ·sum/divisor: the tile's share of the round's loss, each term divided by its own size."""
        return weighted_sum(self.terms, self.losses, totals)


def measure(
    state: MapState,
    features: Tensor,
    labels: Tensor,
    config: MapConfig,
    losses: LossConfig,
    *,
    error_threshold: float,
    views: Views | None = None,
    positions: Tensor | None = None,
    scale: int | None = None,
) -> LayerOutput:
    """Losses and statistics of one tile on a frozen map: what the layer does, as a pure function.

    Args:
        state: the frozen map.
        features: (n, D) of the weak view; the losses reach them by gradient, the map's rule does not.
        labels: (n,) int64, UNLABELLED where unknown.
        config: resolved hyper-parameters of the map.
        losses: resolved weights of the loss.
        error_threshold: ρ_t.
        views: strong view, reconstruction and a classifier's scores, for the terms that need them.
        positions: (n,) int64, place of each sample in the round, unique within it; default 0 … n − 1.
        scale: fixed-point scale of the round; None = plain float64 sums.
    """
    told = config.variant in LABEL_AWARE and (state.num_classes > 0 or asking_is_free(labels))  # refused, where asked
    seen = labels if told else torch.full_like(labels, UNLABELLED)
    found = match(state, features, seen, config=config)
    statistics = accumulate(state, features, seen, config, positions=positions, scale=scale, found=found)
    terms = loss_terms(state, features, seen, found, losses, error_threshold=error_threshold, views=views)
    total = weighted_sum(terms, losses)
    return LayerOutput(terms, total.to(features.device), features.shape[0], statistics, found, losses)
