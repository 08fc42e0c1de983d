"""From a tile of samples to statistics: match, give each sample its roles, add up.

A variant says which roles a sample plays (`somcore.variants`); the sums are the same for all.

Axes: n samples of a tile, K nodes, D features, C classes, M columns of a moment row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from somcore import device
from somcore.config import UNLABELLED, MapConfig
from somcore.distance import Tile, rows_where
from somcore.fixed_point import as_sums, error_scale, in_range, to_fixed
from somcore.matching import Match, compatible
from somcore.moments import Moments
from somcore.state import MapState
from somcore.statistics import TALLIES, BatchStatistics, Candidates, Contested


@dataclass(frozen=True)
class Roles:
    """What each sample of a tile does to a growing map; all (n,) masks, None = nobody.

    Attributes:
        pull: the sample pulls `Match.compatible_bmu`.
        neighbours: it also pulls the compatible neighbours of that node.
        direct: it is labelled and accepted by its own BMU.
        contested: its moments are kept by (BMU, class), for a clone.
        candidate: it proposes a new node.
        push: it pushes its BMU away.
        relevance: it moves the deviations of its BMU, not the prototype.
        extra_win: its BMU counts a win although it is not pulled.
    """

    pull: Tensor
    neighbours: Tensor
    direct: Tensor
    contested: Tensor | None
    candidate: Tensor | None
    push: Tensor | None = None
    relevance: Tensor | None = None
    extra_win: Tensor | None = None


Assign = Callable[[MapState, Tile, Tensor, Match, MapConfig], Roles]


def count_by(owners: Tensor, mask: Tensor, size: int, weights: Tensor | None) -> Tensor:
    """(size,) int64: samples (or their weights) by owner."""
    values = mask.to(torch.int64) if weights is None else mask * weights
    return values.new_zeros(size).index_add_(0, owners.clamp_min(0), values)


def grown_statistics(
    state: MapState,
    tile: Tile,
    labels: Tensor,
    found: Match,
    roles: Roles,
    config: MapConfig,
    positions: Tensor,
    weights: Tensor | None,
    scale: int | None,
) -> BatchStatistics:
    """Add up the roles of a tile for a growing map."""
    size, classes = state.capacity, state.num_classes
    candidate, contested = roles.candidate, roles.contested
    if weights is not None:  # a sample of weight 0 is not there
        candidate = None if candidate is None else candidate & (weights > 0)
        contested = None if contested is None else contested & (weights > 0)
    moments = Moments.of(state, tile, weights, scale)
    winner = found.compatible_bmu
    sums = {"pull": moments.table(winner, roles.pull, size)}
    rows, links = _neighbour_links(state, labels, winner, roles.neighbours)
    sums["neighbour"] = moments.pairs(rows, links)
    if roles.push is not None:
        sums["push"] = moments.table(found.bmu, roles.push, size)
    sums["wins"] = count_by(winner, roles.pull, size, weights)
    if roles.relevance is not None and roles.extra_win is not None:
        sums["relevance"] = moments.table(found.bmu, roles.relevance, size)
        pulls = (links if weights is None else links * weights[rows].unsqueeze(1)).sum(0)
        sums["updates"] = sums["wins"] + pulls + count_by(found.bmu, roles.relevance, size, weights)
        sums["wins"] = sums["wins"] + count_by(found.bmu, roles.extra_win, size, weights)
    key = found.bmu.clamp_min(0) * classes + labels.clamp_min(0)
    sums["classes"] = count_by(key, roles.direct, size * classes, weights) if classes else winner.new_zeros(0)
    sums |= _monitoring(state, tile, found, labels, roles.pull, weights, scale)
    return BatchStatistics(
        scale=scale,
        num_features=state.num_features,
        sums=sums,
        contested=_contested(moments, found, key, contested, weights),
        candidates=_candidates(tile, labels, found, candidate, positions, weights),
        per_group=config.candidates_per_group,
        round=state.round,
    ).canonical()


def lattice_statistics(
    state: MapState,
    tile: Tile,
    labels: Tensor,
    found: Match,
    windows: Tensor | None,
    weights: Tensor | None,
    scale: int | None,
) -> BatchStatistics:
    """Add up the samples of a tile by winner, for a lattice; (K, m) `windows` for sums seen from nearby nodes."""
    moments = Moments.of(state, tile, weights, scale)
    sums = {"won": moments.won(found.bmu, state.capacity)}
    if windows is not None:
        near = windows[found.bmu]  # (n, m)
        samples = torch.arange(len(labels), device=near.device).repeat_interleave(near.shape[1])
        gaps = moments.rows(samples, near.flatten().clamp_min(0))[:, -state.num_features :]
        slots = (found.bmu.unsqueeze(1) * near.shape[1] + torch.arange(near.shape[1], device=near.device)).flatten()
        totals = gaps.new_zeros(windows.numel(), state.num_features).index_add_(0, slots, gaps)
        sums["window"] = as_sums(totals, scale)
    sums["wins"] = count_by(found.bmu, found.matched, state.capacity, weights)
    sums |= _monitoring(state, tile, found, labels, found.matched, weights, scale)
    return BatchStatistics(
        scale=scale,
        num_features=state.num_features,
        sums=sums,
        contested=_contested(moments, found, labels, None, weights),
        candidates=_candidates(tile, labels, found, None, labels, weights),
        per_group=1,
        round=state.round,
    )


def _neighbour_links(state: MapState, labels: Tensor, winner: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours of the winner that a sample may pull (its own class, or none): rows (r,), links (r, K) bool."""
    pulls = mask & state.neighbours.any(dim=1)[winner]
    rows = rows_where(pulls)
    links = state.neighbours[winner[rows].clamp_min(0)] & pulls[rows].unsqueeze(1)
    if state.num_classes:
        links &= compatible(state.classes, labels[rows].unsqueeze(1))
    return rows, links


def _contested(moments: Moments, found: Match, key: Tensor, mask: Tensor | None, weights: Tensor | None) -> Contested:
    if mask is None:
        mask = torch.zeros_like(key, dtype=torch.bool)[:0]
    rows = rows_where(mask)
    updates = mask[rows].to(torch.int64) if weights is None else mask[rows] * weights[rows]
    node = found.bmu[rows].clamp_min(0)
    own = as_sums(moments.rows(rows, node, mask), moments.scale)
    return Contested(torch.where(mask[rows], key[rows], -1), own, updates)


def _candidates(
    tile: Tile, labels: Tensor, found: Match, mask: Tensor | None, positions: Tensor, weights: Tensor | None
) -> Candidates:
    if mask is None:
        mask = torch.zeros_like(labels, dtype=torch.bool)[:0]
    rows = rows_where(mask)
    features = tile.features[rows]
    if tile.observed is not None:
        features = torch.where(tile.observed[rows], features, torch.nan)
    return Candidates(
        valid=mask[rows],
        rho=found.compatible_rho[rows],
        position=positions[rows],
        bmu=found.bmu[rows],
        label=labels[rows],
        weight=torch.ones_like(rows) if weights is None else weights[rows],
        features=features,
    )


def _monitoring(
    state: MapState,
    tile: Tile,
    found: Match,
    labels: Tensor,
    accepted: Tensor,
    weights: Tensor | None,
    scale: int | None,
) -> dict[str, Tensor]:
    """Sums that do not move the map: quantization error, hits of the BMU, tallies, samples that `advance` refuses."""
    exists = found.bmu >= 0
    relevances = state.relevances[found.bmu]
    mass = (relevances if tile.observed is None else relevances * tile.observed).sum(1)
    distance = torch.where(exists, (found.rho * mass).sqrt(), 0.0)
    error = as_sums(to_fixed(distance, error_scale(scale, state.num_features)), scale)
    if weights is not None:
        error = error * weights
    labelled = labels >= 0
    bmu_class = state.classes[found.bmu]
    tallies = {
        "samples": torch.ones_like(labelled),
        "labelled": labelled,
        "unmatched": ~accepted,
        "rerouted": accepted & (found.bmu != found.compatible_bmu),
        "misplaced": labelled & exists & (bmu_class >= 0) & (bmu_class != labels),
    }
    counts = torch.stack([tallies[name] for name in TALLIES]).to(torch.int64)
    if weights is not None:
        counts = counts * weights
    return {
        "error_sum": error.new_zeros(state.capacity).index_add_(0, found.bmu.clamp_min(0), error),
        "hits": count_by(found.bmu, exists, state.capacity, weights),
        "tally": counts.sum(1),
        "unusable": _unusable(tile, labels, state.num_classes, scale),
    }


def _unusable(tile: Tile, labels: Tensor, num_classes: int, scale: int | None) -> Tensor:
    """(1,) int64: samples that are refused before on a CPU; elsewhere they are counted, which does not ask."""
    if device.asking_is_free(labels):
        return labels.new_zeros(1)
    wrong = ~in_range(to_fixed(tile.features, scale), scale) | (labels < UNLABELLED) | (labels >= num_classes)
    if tile.observed is not None:
        wrong |= ~tile.observed.any(1)
    return wrong.sum(0, keepdim=True)
