"""Section 7 for LARFDSSOM, SS-SOM and ALTSS-SOM: assign on the frozen map, add up, update once.

The statistics are added by loops over samples (a sample of weight m is m equal samples), one sum per node and
role; `growth.py` does what follows from them for clones and candidates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .common import (
    UNLABELLED,
    Map,
    box,
    compatible,
    end_round,
    free_slot,
    inside,
    nearest,
    node_relevances,
    own_label,
    prune,
    reconnect,
    rho_of,
    squared_distance,
    threshold,
)
from .growth import Candidate, Clone, cover, keep_first, settle_classes
from .sums import Sums, pull, push, smooth


@dataclass
class Statistics:
    """What a round knows of its samples."""

    num_features: int
    accepted: dict[int, Sums] = field(default_factory=dict)
    neighbour: dict[int, Sums] = field(default_factory=dict)
    pushed: dict[int, Sums] = field(default_factory=dict)
    relevance_only: dict[int, Sums] = field(default_factory=dict)
    contested: dict[tuple[int, int], Sums] = field(default_factory=dict)
    class_count: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    win_count: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    candidates: list[Candidate] = field(default_factory=list)
    error_sum: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    sample_count: int = 0
    labelled_count: int = 0
    unmatched_count: int = 0

    def role(self, rows: dict[Any, Sums], key: Any) -> Sums:
        return rows.setdefault(key, Sums(self.num_features))


# ---------------------------------------------------------------- 7.1 assign and 7.2 add


def collect(
    m: Map,
    samples: np.ndarray,
    labels: np.ndarray,
    config: Any,
    weights: np.ndarray | None = None,
    positions: np.ndarray | None = None,
) -> Statistics:
    """The statistics of one round on the frozen map."""
    stats = Statistics(m.prototypes.shape[1])
    for i, x in enumerate(samples):
        y = own_label(labels[i], config)
        position = i if positions is None else int(positions[i])
        for _ in range(1 if weights is None else int(weights[i])):
            _present(m, stats, x, y, position, config)
    stats.candidates = keep_first(stats.candidates, config.candidates_per_group, m.capacity)
    return stats


def _present(m: Map, stats: Statistics, x: np.ndarray, y: int, position: int, config: Any) -> None:
    b = nearest(m, x, m.nodes())
    own = nearest(m, x, [j for j in m.nodes() if compatible(m.classes[j], y)])
    room = m.growing and free_slot(m) is not None
    stats.sample_count += 1
    stats.labelled_count += y != UNLABELLED
    if b is not None:
        stats.error_sum[b] += math.sqrt(squared_distance(x, m.prototypes[b], m.relevances[b]))
    if config.variant == "altsssom":
        accepted = _assign_by_box(m, stats, x, y, b, own, room, config)
    else:
        accepted = _assign_by_threshold(m, stats, x, y, b, own, config)
    # With local thresholds only a sample whose BMU is compatible (or absent) may ask for a node here.
    may_ask = config.variant != "altsssom" or own == b
    if not accepted:
        stats.unmatched_count += 1
        if room and may_ask:
            worth = math.inf if own is None else rho_of(m, x, own)
            fill = np.zeros(len(x)) if b is None else m.prototypes[b]
            stats.candidates.append(Candidate(x, y, b, worth, position, np.where(np.isnan(x), fill, x)))


def _assign_by_threshold(
    m: Map, stats: Statistics, x: np.ndarray, y: int, b: int | None, own: int | None, config: Any
) -> bool:
    """Section 5."""
    if own is None or rho_of(m, x, own) > threshold(config):
        return False
    stats.role(stats.accepted, own).add(x, m.prototypes[own])
    stats.win_count[own] += 1
    _add_neighbours(m, stats, x, y, own)
    if b != own:
        stats.role(stats.pushed, b).add(x, m.prototypes[b])
    else:
        _add_class(m, stats, x, y, own)
    return True


def _assign_by_box(
    m: Map, stats: Statistics, x: np.ndarray, y: int, b: int | None, own: int | None, room: bool, config: Any
) -> bool:
    """Section 6."""
    if b is None:
        return False
    if own == b and inside(x, m.prototypes[b], box(m, b, config)):
        stats.role(stats.accepted, b).add(x, m.prototypes[b])
        stats.win_count[b] += 1
        _add_neighbours(m, stats, x, y, b)
        _add_class(m, stats, x, y, b)
        return True
    if own == b:
        stats.role(stats.relevance_only, b).add(x, m.prototypes[b])
        if not room and y != UNLABELLED:
            stats.win_count[b] += 1
        return False
    if own is not None:
        stats.role(stats.accepted, own).add(x, m.prototypes[own])
        stats.win_count[own] += 1
        return True
    if room:
        stats.role(stats.contested, (b, y)).add(x, m.prototypes[b])
    else:
        stats.role(stats.relevance_only, b).add(x, m.prototypes[b])
    return False


def _add_neighbours(m: Map, stats: Statistics, x: np.ndarray, y: int, winner: int) -> None:
    for j in m.nodes():
        if m.neighbours[winner, j] and compatible(m.classes[j], y):
            stats.role(stats.neighbour, j).add(x, m.prototypes[j])


def _add_class(m: Map, stats: Statistics, x: np.ndarray, y: int, winner: int) -> None:
    if y == UNLABELLED:
        return
    stats.class_count[winner, y] += 1
    if m.classes[winner] == UNLABELLED:
        stats.role(stats.contested, (winner, y)).add(x, m.prototypes[winner])


# ---------------------------------------------------------------- 7.3 advance


def advance(frozen: Map, stats: Statistics, config: Any) -> Map:
    m = frozen.copy()
    clones = settle_classes(m, frozen, stats)
    _adapt(m, frozen, stats, config)
    boxes = {j: box(m, j, config) for j in m.nodes()} if config.variant == "altsssom" else {}
    m.clock += stats.sample_count
    removed: list[int] = []
    pruned = m.clock >= config.pruning_period
    if pruned:
        removed = prune(m, config)
    if frozen.growing:
        for clone in clones:
            if clone.original not in removed and free_slot(m) is not None:
                _insert_clone(m, frozen, clone, pruned, config)
        cover(m, stats, boxes, set(removed), config)
    reconnect(m, config)
    end_round(m, pruned, config)
    return m


def superstep(
    m: Map,
    samples: np.ndarray,
    labels: np.ndarray,
    config: Any,
    weights: np.ndarray | None = None,
    positions: np.ndarray | None = None,
) -> Map:
    return advance(m, collect(m, samples, labels, config, weights, positions), config)


def _adapt(m: Map, frozen: Map, stats: Statistics, config: Any) -> None:
    """7.3, step 2; sums were measured from the frozen prototypes."""
    nothing = Sums(stats.num_features)
    for j in frozen.nodes():
        pushed = stats.pushed.get(j, nothing)
        for d in range(stats.num_features):
            if pushed.seen[d]:
                n, places, gaps = int(pushed.seen[d]), pushed.feature_sum[d], pushed.deviation_sum[d]
                m.prototypes[j, d] = push(m.prototypes[j, d], config.push_rate, n, places)
                gain = config.push_rate * config.relevance_rate
                m.deviations[j, d] = max(0.0, push(m.deviations[j, d], gain, n, gaps))
        own, near = stats.accepted.get(j, nothing), stats.neighbour.get(j, nothing)
        only = stats.relevance_only.get(j, nothing)
        _move(m, j, own, near, only, config)
        m.wins[j] += stats.win_count[j]


def _move(m: Map, j: int, own: Sums, near: Sums, only: Sums, config: Any) -> None:
    for d in range(len(own.seen)):
        n_own, n_near = int(own.seen[d]), int(near.seen[d])
        m.prototypes[j, d] = pull(
            m.prototypes[j, d],
            [
                (config.bmu_rate, n_own, own.feature_sum[d]),
                (config.neighbour_rate, n_near, near.feature_sum[d]),
            ],
        )
        if config.variant == "altsssom":
            count = n_own + n_near + int(only.seen[d])
            total = own.deviation_sum[d] + near.deviation_sum[d] + only.deviation_sum[d]
            if count:
                m.deviations[j, d] = smooth(m.deviations[j, d], config.deviation_decay, count, total)
        else:
            roles = [
                (config.bmu_rate * config.relevance_rate, n_own, own.deviation_sum[d]),
                (config.neighbour_rate * config.relevance_rate, n_near, near.deviation_sum[d]),
            ]
            m.deviations[j, d] = pull(m.deviations[j, d], roles)
    if config.variant == "altsssom":
        m.updates[j] += own.count + near.count + only.count
    m.relevances[j] = node_relevances(m, j, config)


def _insert_clone(m: Map, frozen: Map, clone: Clone, pruned: bool, config: Any) -> None:
    """A copy of the frozen original, moved by the samples it was made for."""
    j, parent = free_slot(m), clone.original
    assert j is not None
    m.alive[j] = True
    m.prototypes[j] = frozen.prototypes[parent]
    m.deviations[j] = frozen.deviations[parent]
    m.updates[j] = frozen.updates[parent]
    m.classes[j] = clone.label
    nothing = Sums(len(clone.sums.seen))
    _move(m, j, clone.sums, nothing, nothing, config)
    m.wins[j] = 0 if pruned else clone.wins
    m.born[j] = m.clock
