"""How good a trained map is on rows it has not seen: counts that add up over tiles, divided once.

Errors are counted honestly: a row without a predicted class, or left out as noise, is wrong. Rows whose class is
not known are left out of the scores that need one. N rows, K nodes, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from somcore.config import LABEL_AWARE, LATTICES, UNLABELLED, MapConfig
from somcore.crossings import group_by_crossings
from somcore.grouping import group_nodes
from somcore.matching import predict_classes, predict_nodes
from somcore.metrics import (
    MapQuality,
    accuracy,
    adjusted_rand_index,
    balanced_accuracy,
    clustering_accuracy,
    confusion,
    contingency,
    map_quality,
    normalized_mutual_information,
    purity,
)
from somcore.state import MapState

TILE_ROWS = 2048

Rows = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclass
class Scores:
    """Counts of one split.

    Attributes:
        quality: sums behind quantization and topographic error.
        table: (K + 1, C) rows by node and class.
        wins: (K,) rows by node, those without a class too.
        answers: (C, C + 1) rows by class and predicted class; None for maps without classes.
    """

    quality: MapQuality = field(default_factory=MapQuality)
    table: Tensor | None = None
    wins: Tensor | None = None
    answers: Tensor | None = None

    def metrics(
        self, lattice: bool, state: MapState | None = None, crossings: Tensor | None = None
    ) -> dict[str, float | None]:
        """The usual numbers; None where one does not apply. With the map also of its nodes in groups."""
        known = self.table is not None and int(self.table.sum()) > 0
        table = self.table if known else None
        grouped = None
        if state is not None and table is not None and self.wins is not None:
            grouped = _grouped(state, table, self.wins, crossings)
        return {
            "accuracy": _number(accuracy, self.answers if known else None),
            "balanced_accuracy": _number(balanced_accuracy, self.answers if known else None),
            "clustering_accuracy": _number(clustering_accuracy, table),
            "grouped_accuracy": _number(clustering_accuracy, grouped),
            "nmi": _number(normalized_mutual_information, table),
            "ari": _number(adjusted_rand_index, table),
            "purity": _number(purity, table),
            "quantization_error": _finite(self.quality.quantization_error),
            "topographic_error": _finite(self.quality.topographic_error) if lattice else None,
        }


def evaluate(
    state: MapState,
    config: MapConfig,
    read: Rows,
    num_rows: int,
    num_classes: int,
    rows: Tensor | None = None,
    quality: bool = True,
    crossings: Tensor | None = None,
) -> dict[str, float | None]:
    """Scores of a map on a split.

    Args:
        state: the map.
        config: its resolved hyper-parameters.
        read: gives rows of the split by number: features (n, D), labels (n,) or None.
        num_rows: rows of the split.
        num_classes: C, 0 if the data have no classes.
        rows: (n,) int64, row numbers to look at; None = all.
        quality: whether to measure quantization and topographic error too, which costs as much as the rest.
        crossings: (K, K) int64, what nodes are grouped by; None = by their prototypes.

    Returns:
        accuracy, balanced_accuracy (each class weighs the same), clustering_accuracy (one node per class),
        grouped_accuracy (the same of nodes in as many groups as classes), nmi, ari, purity, quantization_error,
        topographic_error; None where one does not apply (no labels, a map none of whose nodes has a class, no lattice,
        an empty map).
    """
    scores = Scores()
    if state.num_nodes == 0:
        return scores.metrics(lattice=False)
    has_classes = bool((state.classes[state.alive] != UNLABELLED).any())
    semi_supervised = config.variant in LABEL_AWARE and state.num_classes > 0 and has_classes
    for tile in _tiles(num_rows, rows):
        features, labels = read(tile)
        if quality:
            scores.quality = scores.quality.merge(map_quality(state, features, config))
        if labels is None or num_classes == 0:
            continue
        nodes, _ = predict_nodes(state, features, config)
        table = contingency(nodes, labels, state.capacity, num_classes)
        scores.table = table if scores.table is None else scores.table + table
        wins = torch.bincount(nodes[nodes >= 0], minlength=state.capacity)
        scores.wins = wins if scores.wins is None else scores.wins + wins
        if semi_supervised:
            answers = confusion(labels, _classes(state, features, nodes, config), num_classes)
            scores.answers = answers if scores.answers is None else scores.answers + answers
    return scores.metrics(lattice=config.variant in LATTICES, state=state, crossings=crossings)


def groups_of(state: MapState, counts: Tensor, num_groups: int, crossings: Tensor | None) -> Tensor:
    """(K,) group of each node: by crossings where they were counted, else by prototypes and counts (K,)."""
    if crossings is not None:
        return group_by_crossings(crossings, num_groups)
    return group_nodes(state, counts, num_groups)


def _grouped(state: MapState, table: Tensor, wins: Tensor, crossings: Tensor | None) -> Tensor:
    """(C + 1, C) rows by group of nodes and class, from (K + 1, C); nodes weigh what they won, labels take no part."""
    num_classes = table.shape[1]
    groups = groups_of(state, wins.to(state.device), num_classes, crossings).to(table.device)
    rows = torch.cat([groups, groups.new_full((1,), UNLABELLED)])
    return table.new_zeros(num_classes + 1, num_classes).index_add(0, torch.where(rows < 0, num_classes, rows), table)


def _classes(state: MapState, features: Tensor, nodes: Tensor, config: MapConfig) -> Tensor:
    """Predicted classes from the nodes at hand; asked anew only where the node has none."""
    classes = torch.where(nodes >= 0, state.classes[nodes], UNLABELLED)
    open_ = ((nodes >= 0) & (classes == UNLABELLED)).nonzero().squeeze(1)
    if len(open_):
        classes[open_] = predict_classes(state, features[open_], config)
    return classes


def _tiles(num_rows: int, rows: Tensor | None) -> Iterator[Tensor]:
    count = num_rows if rows is None else len(rows)
    for start in range(0, count, TILE_ROWS):
        stop = min(start + TILE_ROWS, count)
        yield torch.arange(start, stop) if rows is None else rows[start:stop]


def _number(measure: Callable[[Tensor], float], table: Tensor | None) -> float | None:
    return None if table is None else _finite(measure(table))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
