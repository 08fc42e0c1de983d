"""7.3 and 7.4: classes, conflicts and clones; candidates by total order with greedy cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .common import UNLABELLED, Map, bury, compatible, free_slot, inside, rho, rho_of, threshold

if TYPE_CHECKING:
    from .sums import Sums
    from .superstep import Statistics


@dataclass
class Candidate:
    """A sample no node accepted. `here`: the sample, missing values filled from the (frozen) BMU."""

    x: np.ndarray
    y: int
    bmu: int | None
    worth: float
    position: int
    here: np.ndarray

    def order(self) -> tuple[bool, float, int]:
        """Labelled first, worst represented first, then by place in the round."""
        return (self.y == UNLABELLED, -self.worth, self.position)


@dataclass
class Clone:
    original: int
    label: int
    wins: int
    sums: Sums


def keep_first(candidates: list[Candidate], per_group: int, capacity: int) -> list[Candidate]:
    """The first `per_group` of each (BMU, class), of these the first `capacity`.

    A sample of weight m stands in the list m times and takes m places, as m equal samples would.
    """
    kept: list[Candidate] = []
    places: dict[tuple[int | None, int], int] = {}
    for candidate in sorted(candidates, key=Candidate.order):
        group = (candidate.bmu, candidate.y)
        places[group] = places.get(group, 0) + 1
        if places[group] <= per_group:
            kept.append(candidate)
    return kept[:capacity]


# ---------------------------------------------------------------- classes, conflicts, clones


def settle_classes(m: Map, frozen: Map, stats: Statistics) -> list[Clone]:
    """7.3, step 1: adoption by the largest count; whoever asks for a clone, in the order of asking."""
    clones: list[Clone] = []
    for j in frozen.nodes():
        if frozen.classes[j] != UNLABELLED:
            continue
        claims = [(-count, y) for (node, y), count in stats.class_count.items() if node == j and count > 0]
        for rank, (minus_count, y) in enumerate(sorted(claims)):
            if rank == 0:
                m.classes[j] = y
                continue
            sums = stats.contested[j, y]
            stats.accepted[j].remove(sums)
            stats.win_count[j] -= sums.count
            clones.append(Clone(j, y, -minus_count, sums))
    clones += _clones_for_unseen_classes(frozen, stats)
    return sorted(clones, key=lambda c: (-c.sums.count, c.label, c.original))


def _clones_for_unseen_classes(frozen: Map, stats: Statistics) -> list[Clone]:
    """ALTSS-SOM: one per class, from the BMU that won most of its samples (ties: lowest index)."""
    best: dict[int, int] = {}
    for j, y in sorted(stats.contested):
        if frozen.classes[j] == UNLABELLED:
            continue
        if y not in best or stats.contested[j, y].count > stats.contested[best[y], y].count:
            best[y] = j
    return [Clone(j, y, 0, stats.contested[j, y]) for y, j in best.items()]


# ---------------------------------------------------------------- candidates


def cover(m: Map, stats: Statistics, boxes: dict[int, np.ndarray], removed: set[int], config: Any) -> None:
    """7.4: walk the candidates in order; `boxes` are those of the adapted nodes (ALTSS-SOM only)."""
    made: list[int] = []
    adapted = m.copy()
    for candidate in stats.candidates:
        if free_slot(m) is None:
            return
        if config.variant == "altsssom":
            half = boxes[candidate.bmu] if candidate.bmu is not None else np.zeros(len(candidate.x))
            known = _box_accepts(adapted, stats, candidate, half, removed)
        else:
            known = any(_reached(adapted, j, candidate, config) for j in adapted.nodes())
        if known or any(_covers(m, j, candidate, config, boxes) for j in made):
            continue
        j = free_slot(m)
        assert j is not None
        bury(m, j)
        m.alive[j] = True
        m.prototypes[j] = candidate.here
        m.classes[j] = candidate.y
        m.born[j] = m.clock
        made.append(j)


def _reached(adapted: Map, j: int, candidate: Candidate, config: Any) -> bool:
    """The rule of section 5, on the adapted map."""
    near = rho_of(adapted, candidate.x, j) <= threshold(config)
    return compatible(adapted.classes[j], candidate.y) and near


def _box_accepts(adapted: Map, stats: Statistics, candidate: Candidate, half: np.ndarray, removed: set[int]) -> bool:
    """Does the BMU accept the candidate now? A box that this sample alone has widened does not: else the
    superstep over one sample, which widens the box up to the sample, could never insert."""
    b = candidate.bmu
    if b is None or b in removed or not compatible(adapted.classes[b], candidate.y):
        return False
    roles = (stats.accepted, stats.neighbour, stats.relevance_only)
    if sum(rows[b].count for rows in roles if b in rows) < 2:
        return False
    return inside(candidate.x, adapted.prototypes[b], half)


def _covers(m: Map, j: int, candidate: Candidate, config: Any, boxes: dict[int, np.ndarray]) -> bool:
    """Does the newborn j cover the candidate? Its own relevances are 1; its own box would be empty."""
    if not compatible(m.classes[j], candidate.y):
        return False
    if config.variant != "altsssom":
        return rho(candidate.x, m.prototypes[j], np.ones(len(candidate.x))) <= threshold(config)
    half = boxes[candidate.bmu] if candidate.bmu is not None else np.zeros(len(candidate.x))
    return inside(candidate.x, m.prototypes[j], half)
