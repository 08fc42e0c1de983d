"""Sections 2 and 3: maps on a fixed lattice (Kohonen, DSSOM), online, superstep and batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .common import Map, end_round, gap, linear_relevances, nearest
from .sums import Sums, pull

# ---------------------------------------------------------------- geometry


def place(j: int, columns: int, lattice: str) -> tuple[float, float]:
    """(x, y) of node j; nodes are numbered row by row."""
    row, column = divmod(j, columns)
    if lattice == "hexagonal":
        return column + 0.5 * (row % 2), math.sqrt(3.0) / 2.0 * row
    return float(column), float(row)


def lattice_distance(i: int, j: int, rows: int, columns: int, lattice: str, toroidal: bool) -> float:
    """Euclidean on the plane; on the torus the smallest over the nine translates."""
    (xi, yi), (xj, yj) = place(i, columns, lattice), place(j, columns, lattice)
    if not toroidal:
        return math.hypot(xi - xj, yi - yj)
    height = math.sqrt(3.0) / 2.0 * rows if lattice == "hexagonal" else float(rows)
    gaps = []
    for up in (-height, 0.0, height):
        for right in (-float(columns), 0.0, float(columns)):
            gaps.append(math.hypot(xi - xj + right, yi - yj + up))
    return min(gaps)


def adjacent(i: int, j: int, rows: int, columns: int, lattice: str, toroidal: bool) -> bool:
    limit = 1.1 if lattice == "hexagonal" else 1.5
    return i != j and lattice_distance(i, j, rows, columns, lattice, toroidal) < limit


def in_window(i: int, j: int, config: Any) -> bool:
    """DSSOM: at most `kernel_radius` rows and columns apart, the short way round on a torus."""
    (row_i, column_i), (row_j, column_j) = divmod(i, config.columns), divmod(j, config.columns)
    down, across = abs(row_i - row_j), abs(column_i - column_j)
    if config.toroidal:
        down, across = min(down, config.rows - down), min(across, config.columns - across)
    return down <= config.kernel_radius and across <= config.kernel_radius


def kernel(kind: str, distance: float, radius: float) -> float:
    if kind == "bubble":
        return 1.0 if distance <= radius else 0.0
    return math.exp(-(distance**2) / (2.0 * radius**2))


def schedule(kind: str, start: float, end: float, progress: float) -> float:
    """All run from `start` to `end` exactly."""
    if kind == "linear":
        return start + (end - start) * progress
    if kind == "exponential":
        return float(start * (end / start) ** progress)
    if kind == "inverse":
        return start / (1.0 + progress * (start / end - 1.0))
    assert kind == "constant"
    return start


# ---------------------------------------------------------------- rates of a round


def kohonen_rates(m: Map, config: Any) -> tuple[float, float]:
    """(rate, radius) of this round."""
    progress = m.round / max(config.num_rounds - 1, 1)
    rate = schedule(config.rate_decay, config.rate, config.final_rate, progress)
    return rate, schedule(config.radius_decay, config.radius, config.final_radius, progress)


def dssom_rates(m: Map, config: Any) -> tuple[float, float]:
    """The authors' exponential schedules with their floors."""
    t, total = m.round, config.num_rounds
    rate = max(config.rate * math.exp(-t / (total * config.rate_decay_constant)), 1e-5)
    radius = max(config.radius * math.exp(-(t + 1) / (total * config.radius_decay_constant)), 1e-6)
    return rate, radius


def influence(b: int, j: int, radius: float, config: Any) -> float:
    """h_bj; for DSSOM zero outside the window."""
    if config.variant == "dssom" and not in_window(b, j, config):
        return 0.0
    apart = lattice_distance(b, j, config.rows, config.columns, config.lattice, config.toroidal)
    return kernel(config.kernel, apart, radius)


# ---------------------------------------------------------------- online


def lattice_online_step(before: Map, x: np.ndarray, config: Any) -> Map:
    m = before.copy()
    b = nearest(m, x, m.nodes())
    assert b is not None
    rate, radius = dssom_rates(m, config) if config.variant == "dssom" else kohonen_rates(m, config)
    for j in m.nodes():
        h = influence(b, j, radius, config)
        for d in range(len(x)):
            if math.isnan(x[d]):
                continue
            if config.variant == "dssom":
                gain = h * config.relevance_rate
                distance = gap(x[d], m.prototypes[j, d])
                m.deviations[j, d] = (1.0 - gain) * m.deviations[j, d] + gain * distance
            m.prototypes[j, d] += h * rate * (x[d] - m.prototypes[j, d])
        if config.variant == "dssom":
            m.relevances[j] = linear_relevances(m.deviations[j], config.relevance_floor)
    m.wins[b] += 1
    m.clock += 1
    end_round(m, False, config)
    return m


# ---------------------------------------------------------------- superstep and batch


def lattice_superstep(before: Map, samples: np.ndarray, config: Any, weights: np.ndarray | None = None) -> Map:
    """Rates add; the Kohonen map's `algorithm="batch"` has no rate: each node goes to its smoothed mean."""
    m, size = before.copy(), len(before.alive)
    rate, radius = dssom_rates(m, config) if config.variant == "dssom" else kohonen_rates(m, config)
    # sums[b, j]: the samples won by b, with their deviations from node j (Q_bj)
    sums = {(b, j): Sums(samples.shape[1]) for b in range(size) for j in range(size)}
    for i, x in enumerate(samples):
        b = nearest(before, x, before.nodes())
        assert b is not None
        for _ in range(1 if weights is None else int(weights[i])):
            for j in range(size):
                sums[b, j].add(x, before.prototypes[j])
            m.wins[b] += 1
            m.clock += 1
    for j in range(size):
        rows = [(influence(b, j, radius, config), sums[b, j]) for b in range(size)]
        for d in range(samples.shape[1]):
            old = before.prototypes[j, d]
            if config.variant == "kohonen" and config.algorithm == "batch":
                m.prototypes[j, d] = _smoothed_mean(old, rows, d)
                continue
            # A winner without influence on j does not pull it.
            pulls = [(h * rate, int(s.seen[d]), s.feature_sum[d]) for h, s in rows if h > 0.0]
            m.prototypes[j, d] = pull(old, pulls)
            if config.variant == "dssom":
                gains = [(h * config.relevance_rate, int(s.seen[d]), s.deviation_sum[d]) for h, s in rows if h > 0.0]
                m.deviations[j, d] = pull(before.deviations[j, d], gains)
        if config.variant == "dssom":
            m.relevances[j] = linear_relevances(m.deviations[j], config.relevance_floor)
    end_round(m, False, config)
    return m


def _smoothed_mean(old: float, rows: list[tuple[float, Sums]], d: int) -> float:
    total = sum(h * s.feature_sum[d] for h, s in rows)
    count = sum(h * s.seen[d] for h, s in rows)
    return old if count == 0.0 else total / count
