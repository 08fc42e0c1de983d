"""The online steps of sections 4, 5 and 6, one sample at a time, straight from their descriptions.

Nothing here knows about batches: that a superstep over one sample equals these steps is checked, not defined.
Order within a step (7.3): adapt, prune, insert, reconnect.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .common import (
    UNLABELLED,
    Map,
    box,
    bury,
    compatible,
    corrected_deviation,
    end_round,
    free_slot,
    gap,
    inside,
    logistic_relevances,
    nearest,
    own_label,
    prune,
    reconnect,
    rho_of,
    threshold,
)


class Newborn(NamedTuple):
    """A node that waits for its slot; a clone names its original."""

    original: int | None
    prototype: np.ndarray
    deviation: np.ndarray
    relevance: np.ndarray
    updates: int
    label: int


def online_step(before: Map, x: np.ndarray, y: int, config: Any) -> Map:
    """The map after it has seen one sample."""
    m = before.copy()
    y = own_label(y, config)
    step = _step_local_thresholds if config.variant == "altsssom" else _step_global_threshold
    newborn = step(m, x, y, config)
    m.clock += 1
    removed: list[int] = []
    pruned = m.clock >= config.pruning_period
    if pruned:
        removed = prune(m, config)
    if newborn is not None and newborn.original not in removed:
        _insert(m, newborn)
    reconnect(m, config)
    end_round(m, pruned, config)
    return m


# ---------------------------------------------------------------- sections 4 and 5


def _step_global_threshold(m: Map, x: np.ndarray, y: int, config: Any) -> Newborn | None:
    room = m.growing and free_slot(m) is not None
    b = nearest(m, x, m.nodes())
    own = nearest(m, x, [j for j in m.nodes() if compatible(m.classes[j], y)])
    if own is not None and rho_of(m, x, own) <= threshold(config):
        m.wins[own] += 1
        near = [j for j in m.nodes() if m.neighbours[own, j] and compatible(m.classes[j], y)]
        _move(m, own, x, config.bmu_rate, config)
        for j in near:
            _move(m, j, x, config.neighbour_rate, config)
        if b != own:
            _move(m, b, x, -config.push_rate, config)
        elif m.classes[b] == UNLABELLED:
            m.classes[b] = y
        return None
    if room:
        return _newborn_at(m, x, y, b)
    return None


def _move(m: Map, j: int, x: np.ndarray, rate: float, config: Any) -> None:
    """1.4; a negative rate pushes, and no deviation goes below zero (1.6)."""
    gain = rate * config.relevance_rate
    for d in range(len(x)):
        if math.isnan(x[d]):
            continue
        distance = gap(x[d], m.prototypes[j, d])
        m.deviations[j, d] = max(0.0, (1.0 - gain) * m.deviations[j, d] + gain * distance)
        m.prototypes[j, d] += rate * (x[d] - m.prototypes[j, d])
    m.relevances[j] = logistic_relevances(m.deviations[j], config.relevance_slope, config.relevance_floor)


# ---------------------------------------------------------------- section 6


def _step_local_thresholds(m: Map, x: np.ndarray, y: int, config: Any) -> Newborn | None:
    room = m.growing and free_slot(m) is not None
    b = nearest(m, x, m.nodes())
    if b is None:
        return _newborn_at(m, x, y, b) if room else None
    own = nearest(m, x, [j for j in m.nodes() if compatible(m.classes[j], y)])
    if own == b and inside(x, m.prototypes[b], box(m, b, config)):
        m.wins[b] += 1
        near = [j for j in m.nodes() if m.neighbours[b, j] and compatible(m.classes[j], y)]
        _node_update(m, b, x, config.bmu_rate, config)
        for j in near:
            _node_update(m, j, x, config.neighbour_rate, config)
        if m.classes[b] == UNLABELLED:
            m.classes[b] = y
        return None
    if own == b:
        _relevance_update(m, b, x, config)
        if room:
            return _newborn_at(m, x, y, b)
        if y != UNLABELLED:
            m.wins[b] += 1
        return None
    if own is not None:
        m.wins[own] += 1
        _node_update(m, own, x, config.bmu_rate, config)
        return None
    if room:
        return _clone_of(m, b, x, y, config)
    _relevance_update(m, b, x, config)
    return None


def _relevance_update(m: Map, j: int, x: np.ndarray, config: Any) -> None:
    kept = config.deviation_decay
    m.updates[j] += 1
    for d in range(len(x)):
        if not math.isnan(x[d]):
            distance = gap(x[d], m.prototypes[j, d])
            m.deviations[j, d] = kept * m.deviations[j, d] + (1.0 - kept) * distance
    hat = corrected_deviation(m.deviations[j], m.updates[j], kept)
    m.relevances[j] = logistic_relevances(hat, config.relevance_slope, config.relevance_floor)


def _node_update(m: Map, j: int, x: np.ndarray, rate: float, config: Any) -> None:
    _relevance_update(m, j, x, config)
    for d in range(len(x)):
        if not math.isnan(x[d]):
            m.prototypes[j, d] += rate * (x[d] - m.prototypes[j, d])


# ---------------------------------------------------------------- newborns


def _newborn_at(m: Map, x: np.ndarray, y: int, b: int | None) -> Newborn:
    """A node at x; a missing value is taken from the BMU's prototype, 0 if there is none."""
    fill = np.zeros(len(x)) if b is None else m.prototypes[b]
    here = np.array([fill[d] if math.isnan(x[d]) else x[d] for d in range(len(x))])
    flat = np.zeros(len(x))
    return Newborn(None, here, flat, flat + 1.0, 0, y)


def _clone_of(m: Map, b: int, x: np.ndarray, y: int, config: Any) -> Newborn:
    """First sight of class y: a copy of b, updated with x; b itself stays."""
    other = m.copy()
    _node_update(other, b, x, config.bmu_rate, config)
    return Newborn(b, other.prototypes[b], other.deviations[b], other.relevances[b], int(other.updates[b]), y)


def _insert(m: Map, newborn: Newborn) -> None:
    """Into the lowest free slot; wins 0, born now (0 if a period has just ended)."""
    j = free_slot(m)
    assert j is not None
    bury(m, j)
    m.alive[j] = True
    m.prototypes[j] = newborn.prototype
    m.deviations[j] = newborn.deviation
    m.relevances[j] = newborn.relevance
    m.updates[j] = newborn.updates
    m.classes[j] = newborn.label
    m.born[j] = m.clock
