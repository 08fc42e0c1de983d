"""The torch map and the oracle's map side by side: conversion, random maps and data, comparison, rounds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from somcore import BatchStatistics, MapConfig, MapState, accumulate, advance
from somcore.fixed_point import fixed_point_scale
from tests import oracle
from tests.oracle import common

ARRAYS = ("prototypes", "relevances", "deviations", "alive", "neighbours", "classes", "wins", "updates", "born")
FLOATS = ARRAYS[:3]
SCALARS = ("clock", "round", "growing", "finished")
GROWING = ("larfdssom", "sssom", "altsssom")
SCALE = fixed_point_scale(8.0, 2**14)  # room for prototypes that a push has moved out of [0, 1]


def to_torch(m: oracle.Map) -> MapState:
    tensors = {name: torch.from_numpy(getattr(m, name).copy()) for name in ARRAYS}
    return MapState(**tensors, **{name: getattr(m, name) for name in SCALARS}, num_classes=m.num_classes)


def to_oracle(state: MapState) -> oracle.Map:
    arrays = {name: getattr(state, name).numpy().copy() for name in ARRAYS}
    return oracle.Map(**arrays, **{name: getattr(state, name) for name in SCALARS}, num_classes=state.num_classes)


def difference(state: MapState, m: oracle.Map) -> float:
    """Fails unless everything discrete is equal; returns the largest difference of the floats."""
    for name in ARRAYS[3:]:
        ours, theirs = getattr(state, name).numpy(), getattr(m, name)
        where = np.argwhere(ours != theirs)
        assert not where.size, (
            f"{name} in round {m.round}: at {where[0]} torch {ours[*where[0]]} oracle {theirs[*where[0]]}"
        )
    for name in SCALARS:
        ours, theirs = getattr(state, name), getattr(m, name)
        assert ours == theirs, f"{name} in round {m.round}: torch {ours}, oracle {theirs}"
    return max(float(np.abs(getattr(state, name).numpy() - getattr(m, name)).max()) for name in FLOATS)


def statistics_of(
    state: MapState,
    samples: np.ndarray,
    labels: np.ndarray | None,
    config: MapConfig,
    weights: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    scale: int | None = SCALE,
) -> BatchStatistics:
    """One tile."""
    return accumulate(
        state,
        torch.from_numpy(samples),
        None if labels is None else torch.from_numpy(labels),
        config,
        positions=torch.arange(len(samples)) if positions is None else torch.from_numpy(positions),
        weights=None if weights is None else torch.from_numpy(weights),
        scale=scale,
    )


def torch_round(
    state: MapState,
    samples: np.ndarray,
    labels: np.ndarray | None,
    config: MapConfig,
    weights: np.ndarray | None = None,
    tile: int = 16,
) -> MapState:
    """One round, in tiles."""
    total = None
    for start in range(0, len(samples), tile):
        rows = slice(start, start + tile)
        part = statistics_of(
            state,
            samples[rows],
            None if labels is None else labels[rows],
            config,
            None if weights is None else weights[rows],
            np.arange(len(samples))[rows],
        )
        total = part if total is None else total.merge(part)
    assert total is not None
    return advance(state, total, config)


# ---------------------------------------------------------------- random maps and data


def blobs(rng: np.random.Generator, num_samples: int, num_features: int, num_classes: int) -> tuple[Any, Any]:
    """Two clusters per class in [0, 1], each tight in some features and wide in others; rows in random order."""
    centres = rng.uniform(0.15, 0.85, (2 * num_classes, num_features))
    widths = rng.choice([0.02, 0.15], (2 * num_classes, num_features))
    source = rng.integers(0, 2 * num_classes, num_samples)
    samples = np.clip(centres[source] + widths[source] * rng.standard_normal((num_samples, num_features)), 0, 1)
    return samples, (source % num_classes).astype(np.int64)


def hide_labels(rng: np.random.Generator, labels: np.ndarray, share: float) -> np.ndarray:
    return np.where(rng.random(len(labels)) < share, labels, -1)


def hide_values(rng: np.random.Generator, samples: np.ndarray, share: float) -> np.ndarray:
    """NaN for a share of the values, never for a whole row."""
    hidden = rng.random(samples.shape) < share
    hidden[np.arange(len(samples)), rng.integers(0, samples.shape[1], len(samples))] = False
    return np.where(hidden, np.nan, samples)


def start(config: MapConfig, num_features: int, num_classes: int) -> oracle.Map:
    """An empty map."""
    return oracle.empty_map(config.capacity, num_features, num_classes)


def random_map(
    rng: np.random.Generator, config: MapConfig, num_features: int, num_classes: int, nodes: int, step: float = 0.0
) -> oracle.Map:
    """A map in the middle of its life, in random slots; floats are multiples of `step` if it is given."""
    if config.variant in ("kohonen", "dssom"):
        capacity = config.rows * config.columns
        slots = np.arange(capacity)
    else:
        capacity = config.capacity
        slots = rng.permutation(capacity)[:nodes]
    m = oracle.empty_map(capacity, num_features, num_classes)

    def draw(high: float) -> np.ndarray:
        values = rng.uniform(0, high, num_features)
        return np.round(values / step) * step if step else values

    for j in slots:
        m.alive[j] = True
        m.prototypes[j] = draw(1.0)
        if config.variant != "kohonen":
            m.deviations[j] = draw(0.2)
        if config.variant in ("sssom", "altsssom") and num_classes:
            m.classes[j] = rng.integers(-1, num_classes)
        if config.variant in GROWING:
            m.wins[j] = rng.integers(0, 20)
            m.born[j] = rng.integers(0, 40)
        if config.variant == "altsssom":
            m.updates[j] = rng.integers(1, 30)
        if config.variant != "kohonen":
            m.relevances[j] = common.node_relevances(m, j, config)
    if config.variant in GROWING:
        m.clock = 40
        common.reconnect(m, config)
    return m


def resolved(variant: str, num_samples: int, num_features: int, num_classes: int, **values: Any) -> MapConfig:
    """A resolved configuration; `num_rounds` may be given."""
    rounds = values.pop("num_rounds", None)
    config = MapConfig(variant=variant, **values)
    config = config.resolve(num_samples=num_samples, num_features=num_features, num_classes=num_classes)
    return config if rounds is None else dataclasses.replace(config, num_rounds=rounds)
