"""Published search spaces as data, Latin-hypercube draws from them, and what a draw means for a map.

Draws are nested: set i is the same for every number of sets, because sets come in blocks of ten and every
block is a Latin hypercube of its own, seeded by (seed, method, column, block).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from somcore.config import MAX_CAPACITY, MapConfig

BLOCK = 10
"""Sets per Latin hypercube."""

Value = float | int | str
ParameterSet = dict[str, Value]


@dataclass(frozen=True)
class Column:
    """One parameter of a search.

    Attributes:
        name: the parameter.
        low: lower end; of the exponent (base ten) on a logarithmic scale.
        high: upper end.
        kind: "real", "integer" (rounded, so that both ends are half as likely), "whole" (integers, equally likely),
            "log10", or "choice".
        choices: values of a "choice", equally likely.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    kind: str = "real"
    choices: tuple[str, ...] = ()

    def value(self, u: float) -> Value:
        """The value at quantile u in [0, 1)."""
        if self.kind == "choice":
            return self.choices[int(u * len(self.choices))]
        if self.kind == "whole":
            return int(self.low) + int(u * (self.high - self.low + 1))
        x = self.low + u * (self.high - self.low)
        if self.kind == "integer":
            return round(x)
        return 10.0**x if self.kind == "log10" else x


Space = tuple[Column, ...]

# How the classes are read out of the map: used by the named variant "drawn readout" only.
READOUT: Space = (
    Column("readout", kind="choice", choices=("own", "vote", "graph")),
    Column("readout_nodes", 1, 10, "integer"),
    Column("readout_smoothness", -2, 1, "log10"),
)

# Published ranges: Braga & Bassani 2018 (Table V); 2019 (from the generator of its parameter files; its epochs, up to
# 500, are not printed in the paper); Bassani & Araujo 2015. `minwd` is in the unit of the authors' programs.
SPACES: dict[str, Space] = {
    "altsssom": (
        Column("min_win_share", 0.001, 0.005),
        Column("deviation_decay", 0.90, 0.95),
        Column("pruning_epochs", 1, 100),
        Column("bmu_rate", 0.001, 0.4),
        Column("neighbour_ratio", 0.002, 1.0),
        Column("relevance_slope", 0.01, 0.2),
        Column("minwd", 0.001, 0.5),
        Column("epochs", 1, 500, "integer"),
        *READOUT,
    ),
    "sssom": (
        Column("activation_threshold", 0.80, 0.999),
        Column("min_win_share", 0.001, 0.01),
        Column("relevance_rate", 0.001, 0.5),
        Column("pruning_epochs", 1, 100),
        Column("bmu_rate", 0.001, 0.2),
        Column("neighbour_ratio", 0.002, 1.0),
        Column("relevance_slope", 0.01, 0.1),
        Column("minwd", 0.0, 0.5),
        Column("epochs", 1, 100, "integer"),
        Column("push_ratio", 0.01, 1.0),
        *READOUT,
    ),
    "larfdssom": (
        Column("activation_threshold", 0.70, 0.999),
        Column("min_win_share", 0.001, 0.10),
        Column("relevance_rate", 0.001, 0.5),
        Column("pruning_epochs", 1, 100),
        Column("bmu_rate", 1e-4, 0.1),
        Column("neighbour_ratio", 0.0, 1.0),
        Column("relevance_slope", 0.01, 0.1),
        Column("minwd", 0.0, 0.5),
        Column("epochs", 1, 100, "integer"),
    ),
    "label-propagation": (
        Column("kernel", kind="choice", choices=("rbf", "knn")),
        Column("gamma", 10, 30),
        Column("n_neighbors", 1, 100, "integer"),
        Column("max_iter", 20, 100, "integer"),
    ),
    "label-spreading": (
        Column("kernel", kind="choice", choices=("rbf", "knn")),
        Column("gamma", 10, 30),
        Column("n_neighbors", 1, 100, "integer"),
        Column("max_iter", 20, 100, "integer"),
        Column("alpha", 0, 1),
    ),
}


def map_config(variant: str, values: ParameterSet, num_samples: int, num_features: int, seed: int) -> MapConfig:
    """The configuration that a drawn set stands for; published programs draw with replacement.

    Args:
        variant: "sssom", "altsssom" or "larfdssom".
        values: drawn columns; empty = the defaults.
        num_samples: training rows, the capacity of the published SS-SOM, as far as a map can have it.
        num_features: D; turns the programs' `minwd` into `connection_threshold`.
        seed: seed of the map.
    """
    if not values:
        return MapConfig(variant=variant, seed=seed)
    given = {name: value for name, value in values.items() if not name.startswith("readout")}
    rate = float(given["bmu_rate"])
    for ratio, name in (("neighbour_ratio", "neighbour_rate"), ("push_ratio", "push_rate")):
        if ratio in given:
            given[name] = min(rate, float(given.pop(ratio)) * rate)
    if "minwd" in given:
        given["connection_threshold"] = float(given.pop("minwd")) / math.sqrt(num_features)
    if variant == "sssom":
        given["capacity"] = min(num_samples, MAX_CAPACITY)
    return MapConfig(variant=variant, sampling="replacement", seed=seed, **given)  # type: ignore[arg-type]


def shortened(space: Space, max_epochs: int) -> Space:
    """The space with the upper ends of `epochs` and `pruning_epochs` cut, where time forbids the whole of it."""
    lasting = ("epochs", "pruning_epochs")
    return tuple(
        replace(column, high=min(column.high, max_epochs)) if column.name in lasting else column for column in space
    )


def pick(space: Space, method: str, index: int, seed: int = 0) -> ParameterSet:
    """One set of the fixed sequence, by its index; every ten sets are a Latin hypercube.

    Args:
        space: columns to draw.
        method: name of the sequence.
        index: of the set.
        seed: seed of the sequence.
    """
    block, place = divmod(index, BLOCK)
    return {column.name: _stratified(column, method, block, seed)[place] for column in space}


@lru_cache(maxsize=4096)
def _stratified(column: Column, method: str, block: int, seed: int) -> list[Value]:
    """One value in each of ten equal strata, in random order."""
    names = zlib.crc32(f"{method}/{column.name}".encode())
    generator = np.random.default_rng([seed, names, block])
    strata = generator.permutation(BLOCK)
    inside = generator.random(BLOCK)
    return [column.value(float((stratum + u) / BLOCK)) for stratum, u in zip(strata, inside, strict=True)]
