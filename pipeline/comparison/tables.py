"""Cells to tables: mean and spread over seeds, paired differences with their significance.

S seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.comparison.contestants import Contestant

CLUSTERS = {"clustering_accuracy": "ACC", "nmi": "NMI", "ari": "ARI"}
FEATURES = {"linear_probe": "linear probe", "nearest_neighbours": "10-NN"}
COST = {"seconds": "seconds", "parameters": "parameters", "memory_bytes": "memory, MB"}
FEWEST = 3  # seeds for a test
_ROUNDING = 1.5e-6  # cells have six digits: differences that are equal are one unit of the sixth apart at most


@dataclass(frozen=True)
class Spread:
    """One entry of the table.

    Attributes:
        values: by seed.
    """

    values: dict[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.values.values())

    @property
    def deviation(self) -> float | None:
        """With S − 1; None of one seed."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Difference:
    """One contestant against the reference, in one measure.

    Attributes:
        name: of the contestant.
        measure: column of the table.
        mean: of the differences over the seeds that both have, contestant − reference.
        seeds: how many these are.
        p: of a paired t-test, Holm's correction over all differences of the measure; None with fewer than three seeds.
    """

    name: str
    measure: str
    mean: float
    seeds: int
    p: float | None


Table = dict[str, dict[str, Spread]]


def tabulated(cells: Sequence[dict[str, Any]], fractions: Sequence[float]) -> Table:
    """By contestant and column: CLUSTERS, FEATURES, `accuracy@F` for each fraction, COST.

    Cost is that of the training without labels, or at the largest fraction where there is none.
    """
    table: dict[str, dict[str, dict[int, float]]] = {}
    largest: dict[tuple[str, int], float] = {}
    for cell in cells:
        row, seed = table.setdefault(cell["contestant"], {}), cell["seed"]
        for name in (*CLUSTERS, *FEATURES):
            if cell.get(name) is not None:
                row.setdefault(name, {})[seed] = cell[name]
        for fraction in fractions:
            value = (cell.get("accuracy") or {}).get(f"{fraction:g}")
            if value is not None:
                row.setdefault(f"accuracy@{fraction:g}", {})[seed] = value
        rank = 2.0 if cell["fraction"] == 0 else cell["fraction"]
        if rank >= largest.get((cell["contestant"], seed), 0.0):
            largest[cell["contestant"], seed] = rank
            for name in COST:
                if cell.get(name) is not None:
                    row.setdefault(name, {})[seed] = cell[name] / (2**20 if name == "memory_bytes" else 1)
    return {name: {column: Spread(values) for column, values in row.items()} for name, row in table.items()}


def ordered(table: Table, fractions: Sequence[float]) -> list[str]:
    """Names by the mean of the first column they have of: ACC, then accuracy at the smallest fraction; best first."""
    columns = ["clustering_accuracy", *(f"accuracy@{fraction:g}" for fraction in sorted(fractions))]

    def key(name: str) -> tuple[int, float]:
        place = next((i for i, column in enumerate(columns) if column in table[name]), len(columns))
        return place, -table[name][columns[place]].mean if place < len(columns) else 0.0

    return sorted(table, key=key)


def differences(table: Table, reference: str, measures: Sequence[str]) -> list[Difference]:
    """Every contestant against the reference, by measure, over the seeds that both have."""
    found = []
    for measure in measures:
        base = table.get(reference, {}).get(measure)
        if base is None:
            continue
        rows = []
        for name, columns in table.items():
            if name == reference or measure not in columns:
                continue
            seeds = sorted(columns[measure].values.keys() & base.values.keys())
            if seeds:
                pairs = [(columns[measure].values[seed], base.values[seed]) for seed in seeds]
                rows.append((name, statistics.mean(a - b for a, b in pairs), len(seeds), paired_p(pairs)))
        corrected = holm([p for *_, p in rows])
        found += [Difference(name, measure, mean, n, p) for (name, mean, n, _), p in zip(rows, corrected, strict=True)]
    return found


def paired_p(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Two-sided p of Student's paired t-test; 1 where no pair differs.

    None with fewer than three pairs, or where all differ by the same: there is no spread to judge it by.
    """
    from scipy.stats import ttest_rel

    gaps = [a - b for a, b in pairs]
    if len(gaps) < FEWEST:
        return None
    if max(gaps) - min(gaps) <= _ROUNDING:
        return None if any(gaps) else 1.0
    return float(ttest_rel(*zip(*pairs, strict=True)).pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number, in their order; None stays.

    Source: Holm 1979.
    """
    order = sorted((p, place) for place, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[place] = largest
    return corrected


def marked(name: str, contestants: Sequence[Contestant]) -> str:
    """The name, with a mark where accuracies at fractions are those of a linear classifier on frozen features."""
    one = next((one for one in contestants if one.name == name), None)
    return name if one is None or one.learns_from_labels else f"{name} †"
