"""How nodes move, from merged statistics: the one place where sums are divided.

Many samples move a node by the strength of as many online steps, averaged over their orders:
c ← c + g (x̄ − c) with g = 1 − (1 − e)ⁿ. Roles add rates: Λ = Σ n η(e), η(e) = −ln(1 − e), g = 1 − exp(−Λ).

Axes: K nodes, D features, m nodes of a window.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from somcore.config import MapConfig
from somcore.fixed_point import from_fixed
from somcore.relevance import corrected_deviations, kept_share, linear_relevances, logistic_relevances
from somcore.state import MapState
from somcore.statistics import BatchStatistics
from somcore.topology import decayed_radius, decayed_rate, kernel, lattice_distances, lattice_window, schedule


def rate_per_pull(rate: float) -> float:
    """η(e) = −ln(1 − e): rates of independent pulls add."""
    return -math.log1p(-rate)


def strength(number: Tensor, rate: float) -> Tensor:
    """g = 1 − (1 − e)ⁿ, and e itself for one pull, to the bit."""
    return torch.where(number == 1, rate, -torch.expm1(-number * rate_per_pull(rate)))


def pulled(values: Tensor, pulls: Sequence[tuple[float, Tensor, Tensor]]) -> Tensor:
    """Values moved towards the means of several roles at once.

    Args:
        values: (K, D) prototypes or deviations.
        pulls: per role its rate e in [0, 1), number (K, 1) or (K, D) and sum (K, D).

    Returns:
        (K, D); untouched where nobody pulls.
    """
    pulls = [pull for pull in pulls if pull[0] > 0]
    if not pulls:
        return values
    total = torch.stack([number * rate_per_pull(rate) for rate, number, _ in pulls]).sum(0)
    count = torch.stack([number for _, number, _ in pulls]).sum(0)
    touched = total > 0
    divisor = torch.where(touched, total, 1.0)
    mean, single = torch.zeros_like(values), torch.zeros_like(total)
    for rate, number, sums in pulls:
        mean = mean + (number * rate_per_pull(rate) / divisor) * (sums / number.clamp_min(1))
        single = single + number * rate
    gain = torch.where(count == 1, single, -torch.expm1(-total))
    return torch.where(touched, values + gain * (mean - values), values)


def adapt_by_rates(state: MapState, statistics: BatchStatistics, config: MapConfig) -> MapState:
    """LARFDSSOM and SS-SOM: pushed nodes move away first, then winners and neighbours are pulled.

    Source: Bassani & Araújo 2015; Braga & Bassani 2018; saturating strengths are ours.
    """
    assert config.bmu_rate is not None and config.neighbour_rate is not None
    assert config.relevance_rate is not None and config.relevance_floor is not None
    prototypes, deviations = state.prototypes, state.deviations
    if "push" in statistics.sums and config.push_rate:
        number, features, gaps = statistics.split(statistics.sums["push"])
        pushed, divisor = number > 0, number.clamp_min(1)
        away = strength(number, config.push_rate) * (features / divisor - prototypes)
        prototypes = torch.where(pushed, prototypes - away, prototypes)
        looser = strength(number, config.push_rate * config.relevance_rate) * (gaps / divisor - deviations)
        deviations = torch.where(pushed, (deviations - looser).clamp_min(0), deviations)
    roles = [(config.bmu_rate, "pull"), (config.neighbour_rate, "neighbour")]
    moments = [(rate, *statistics.split(statistics.sums[role])) for rate, role in roles]
    prototypes = pulled(prototypes, [(rate, number, features) for rate, number, features, _ in moments])
    slow = [(rate * config.relevance_rate, number, gaps) for rate, number, _, gaps in moments]
    deviations = pulled(deviations, slow)
    relevances = logistic_relevances(deviations, config.relevance_slope, config.relevance_floor)
    return dataclasses.replace(state, prototypes=prototypes, deviations=deviations, relevances=relevances)


def adapt_by_decay(state: MapState, statistics: BatchStatistics, config: MapConfig) -> MapState:
    """ALTSS-SOM: deviations are moving means with decay κ per sample, prototypes move by rates.

    Source: Braga & Bassani, IJCNN 2019.
    """
    assert config.bmu_rate is not None and config.neighbour_rate is not None and config.relevance_floor is not None
    pull, neighbour, relevance = (
        statistics.split(statistics.sums[role]) for role in ("pull", "neighbour", "relevance")
    )
    prototypes = pulled(state.prototypes, [(config.bmu_rate, *pull[:2]), (config.neighbour_rate, *neighbour[:2])])
    number = pull[0] + neighbour[0] + relevance[0]
    mean = (pull[2] + neighbour[2] + relevance[2]) / number.clamp_min(1)
    kept = kept_share(number, config.deviation_decay)
    deviations = torch.where(number > 0, kept * state.deviations + (1 - kept) * mean, state.deviations)
    updates = state.updates + statistics.sums["updates"]
    relevances = logistic_relevances(
        corrected_deviations(deviations, updates, config.deviation_decay),
        config.relevance_slope,
        config.relevance_floor,
    )
    return dataclasses.replace(
        state, prototypes=prototypes, deviations=deviations, relevances=relevances, updates=updates
    )


def adapt_kohonen(state: MapState, statistics: BatchStatistics, config: MapConfig) -> MapState:
    """Kohonen's map: kernel-weighted means (batch), or rates that add over the round (superstep, online).

    Source: Kohonen, Proc. IEEE 78(9), 1990.
    """
    assert config.radius and config.final_radius and config.rate is not None and config.final_rate is not None
    progress = _progress(state, config)
    radius = schedule(config.radius_decay, config.radius, config.final_radius, progress)
    strengths = kernel(config.kernel, _distances(config).to(state.device), radius)
    if config.algorithm == "batch":
        number, features = _won(statistics)
        weight, pull = strengths @ number, strengths @ features
        prototypes = torch.where(weight > 0, pull / torch.where(weight > 0, weight, 1.0), state.prototypes)
    else:
        rate = schedule(config.rate_decay, config.rate, config.final_rate, progress)
        prototypes = _kernel_pull(state.prototypes, statistics, rate * strengths)
    return dataclasses.replace(state, prototypes=prototypes)


def adapt_dssom(state: MapState, statistics: BatchStatistics, config: MapConfig) -> MapState:
    """DSSOM: the winner and its window learn deviations and prototypes; relevances are linear in the deviations.

    Source: Bassani & Araújo, IJCNN 2012.
    """
    assert config.radius and config.rate is not None and config.num_rounds and config.relevance_rate is not None
    assert config.relevance_floor is not None
    radius = decayed_radius(config.radius, state.round, config.num_rounds, config.radius_decay_constant)
    rate = decayed_rate(config.rate, state.round, config.num_rounds, config.rate_decay_constant)
    strengths = kernel(config.kernel, _distances(config), radius) * _window(config)
    strengths = strengths.to(state.device)
    prototypes = _kernel_pull(state.prototypes, statistics, rate * strengths)
    deviations = _window_pull(state, statistics, config.relevance_rate * strengths, config)
    relevances = linear_relevances(deviations, config.relevance_floor)
    return dataclasses.replace(state, prototypes=prototypes, deviations=deviations, relevances=relevances)


def _progress(state: MapState, config: MapConfig) -> float:
    assert config.num_rounds is not None
    return state.round / max(config.num_rounds - 1, 1)


def _won(statistics: BatchStatistics) -> tuple[Tensor, Tensor]:
    """Number (K, 1 or D) and Σx (K, D) by winner."""
    table = statistics.sums["won"]
    number, features = table.split([table.shape[1] - statistics.num_features, statistics.num_features], dim=1)
    return number.to(torch.float64), from_fixed(features, statistics.scale)


def _kernel_pull(values: Tensor, statistics: BatchStatistics, rates: Tensor) -> Tensor:
    """Pull every node by every winner's samples with rates (K winners, K nodes)."""
    number, features = _won(statistics)
    if statistics.tally("samples") == 1:
        gain = rates.T @ number
        mean = features.sum(0).expand_as(values)
        return torch.where(number.sum(0) > 0, values + gain * (mean - values), values)
    eta = -torch.log1p(-rates.T)
    total, weighted = eta @ number, eta @ features
    mean = weighted / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, values - torch.expm1(-total) * (mean - values), values)


def _window_pull(state: MapState, statistics: BatchStatistics, rates: Tensor, config: MapConfig) -> Tensor:
    """The same for deviations, whose sums are kept for every (winner, node of its window)."""
    near = window_nodes(config).to(state.device)
    number, _ = _won(statistics)
    sums = from_fixed(statistics.sums["window"], statistics.scale).view(*near.shape, state.num_features)
    nodes = near.clamp_min(0).flatten()
    rate = torch.where(near >= 0, rates.gather(1, near.clamp_min(0)), 0.0)
    single = statistics.tally("samples") == 1
    eta = rate if single else -torch.log1p(-rate)
    numbers = number.unsqueeze(1).expand(-1, near.shape[1], -1)
    total = torch.zeros(state.capacity, numbers.shape[2], dtype=torch.float64, device=state.device)
    total = total.index_add_(0, nodes, (eta.unsqueeze(2) * numbers).flatten(0, 1))
    present = torch.where(rate.unsqueeze(2) > 0, sums, 0.0)
    weighted = torch.zeros_like(state.deviations)
    weighted.index_add_(0, nodes, (present if single else eta.unsqueeze(2) * present).flatten(0, 1))
    if single:
        return torch.where(total > 0, state.deviations + total * (weighted - state.deviations), state.deviations)
    mean = weighted / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, state.deviations - torch.expm1(-total) * (mean - state.deviations), state.deviations)


def window_nodes(config: MapConfig) -> Tensor:
    """(K, m) nodes in the square window of each node, −1 outside the lattice (DSSOM)."""
    near = _window(config)
    size = int(near.sum(1).max())
    order = (~near).to(torch.int8).argsort(dim=1, stable=True)[:, :size]
    return torch.where(near.gather(1, order), order, -1)


def _distances(config: MapConfig) -> Tensor:
    assert config.rows is not None and config.columns is not None
    return _cached_distances(config.rows, config.columns, config.lattice, config.toroidal)


def _window(config: MapConfig) -> Tensor:
    assert config.rows is not None and config.columns is not None
    return _cached_window(config.rows, config.columns, config.kernel_radius, config.toroidal)


_cached_distances = lru_cache(maxsize=8)(lattice_distances)
_cached_window = lru_cache(maxsize=8)(lattice_window)
