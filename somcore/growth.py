"""How the set of nodes changes: classes, clones, pruning, insertion. A total order everywhere, so no ties.

Axes: K nodes, D features, C classes, q clones, n candidates.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.config import UNLABELLED, MapConfig
from somcore.distance import Tile
from somcore.matching import box, compatible, inside_box, match
from somcore.state import TENSORS, MapState
from somcore.statistics import BatchStatistics, Candidates
from somcore.variants import VARIANTS


@dataclass(frozen=True)
class Clones:
    """Copies of frozen nodes that ask for a slot, in order.

    Attributes:
        origin: (q,) int64, the node copied.
        wins: (q,) int64, wins taken along.
        state: a map of q nodes: the copies, moved by their own samples.
    """

    origin: Tensor
    wins: Tensor
    state: MapState


def settle_classes(
    state: MapState, statistics: BatchStatistics, config: MapConfig
) -> tuple[MapState, BatchStatistics, Clones | None]:
    """Nodes without a class adopt the commonest one of their labelled samples; further classes ask for clones.

    Samples of the further classes are taken out of the original's sums, whether or not a slot will be free. In
    ALTSS-SOM a class that no node fits asks for a clone of the BMU that won most of its samples.

    Returns:
        The state with classes, the statistics without the moments of the clones, and the clones.
    """
    if state.num_classes == 0:
        return state, statistics, None
    counts = statistics.sums["classes"].view(state.capacity, state.num_classes)
    adopts = state.alive & (state.classes == UNLABELLED) & (counts.sum(1) > 0)
    classes = torch.where(adopts, counts.argmax(1), state.classes)
    settled = dataclasses.replace(state, classes=classes)
    contested = statistics.contested.compact()
    if contested.key.shape[0] == 0:
        return settled, statistics, None
    statistics = dataclasses.replace(statistics, contested=contested)
    node, label = contested.key // state.num_classes, contested.key % state.num_classes
    conflict = (state.classes[node] == UNLABELLED) & (classes[node] != label)
    unseen = state.classes[node] != UNLABELLED
    rows = conflict.nonzero().squeeze(1)
    remaining = _without(statistics, node[rows], contested.moments[rows], contested.updates[rows])
    asking = torch.cat([rows, _largest_per_class(unseen.nonzero().squeeze(1), label, contested.updates)])
    if not state.growing or asking.shape[0] == 0:
        return settled, remaining, None
    order = asking[(label[asking]).argsort(stable=True)]
    order = order[contested.updates[order].argsort(stable=True, descending=True)]
    clones = _moved_copies(state, statistics, config, node[order], label[order], order)
    wins = torch.where(conflict[order], contested.updates[order], 0)
    return settled, remaining, Clones(node[order], wins, clones)


def _largest_per_class(rows: Tensor, label: Tensor, updates: Tensor) -> Tensor:
    """Of several rows of one class the one with most samples; ties to the first (lowest node)."""
    by_size = rows[updates[rows].argsort(stable=True, descending=True)]
    seen: dict[int, int] = {}
    for row, name in zip(by_size.tolist(), label[by_size].tolist(), strict=True):
        seen.setdefault(name, row)
    return torch.tensor(sorted(seen.values()), dtype=torch.int64, device=rows.device)


def _without(statistics: BatchStatistics, node: Tensor, moments: Tensor, updates: Tensor) -> BatchStatistics:
    """Statistics less the moments of some samples of some nodes."""
    sums = dict(statistics.sums)
    sums["pull"] = sums["pull"].index_add(0, node, moments, alpha=-1)
    for name in ("wins", "updates"):
        if name in sums:
            sums[name] = sums[name].index_add(0, node, updates, alpha=-1)
    return dataclasses.replace(statistics, sums=sums)


def _moved_copies(
    state: MapState, statistics: BatchStatistics, config: MapConfig, node: Tensor, label: Tensor, rows: Tensor
) -> MapState:
    """A map of copies of frozen nodes, each moved by its own contested samples."""
    copies = take_nodes(state, node)
    contested = statistics.contested
    moments = contested.moments[rows]
    nothing = {
        name: torch.zeros_like(moments) for name in ("neighbour", "push", "relevance") if name in statistics.sums
    }
    sums = nothing | {"pull": moments, "updates": contested.updates[rows]}
    own = dataclasses.replace(statistics, sums=sums)
    return dataclasses.replace(VARIANTS[config.variant].adapt(copies, own, config), classes=label)


def take_nodes(state: MapState, nodes: Tensor) -> MapState:
    """A map of the given nodes only."""
    taken = {name: getattr(state, name)[nodes] for name in TENSORS}
    return dataclasses.replace(state, **{**taken, "neighbours": taken["neighbours"][:, nodes]})


def prune(state: MapState, config: MapConfig) -> tuple[MapState, bool]:
    """At the end of a pruning period remove nodes that won too little, and start the next period.

    A node goes if n < lp (τ − f); the last one never does.

    Returns:
        The state, and whether a period ended.
    """
    assert config.pruning_period is not None and config.min_win_share is not None
    if state.clock < config.pruning_period:
        return state, False
    born = state.born if config.newborn_credit else torch.zeros_like(state.born)
    lifetime = (state.clock - born).to(torch.float64)  # a float times int64 would be float32
    keep = state.alive & (state.wins >= config.min_win_share * lifetime)
    strongest = torch.where(state.alive, state.wins, -1).argmax()
    rescued = torch.zeros_like(keep).index_fill(0, strongest, True) & state.alive & ~keep.any()
    kept = keep_nodes(state, keep | rescued)
    return dataclasses.replace(kept, wins=torch.zeros_like(kept.wins), born=torch.zeros_like(kept.born), clock=0), True


def keep_nodes(state: MapState, keep: Tensor) -> MapState:
    """Clear every slot that is not kept to its canonical values."""
    row = keep.unsqueeze(1)
    return dataclasses.replace(
        state,
        prototypes=torch.where(row, state.prototypes, 0.0),
        relevances=torch.where(row, state.relevances, 1.0),
        deviations=torch.where(row, state.deviations, 0.0),
        alive=keep,
        neighbours=state.neighbours & row & keep,
        classes=torch.where(keep, state.classes, UNLABELLED),
        wins=torch.where(keep, state.wins, 0),
        updates=torch.where(keep, state.updates, 0),
        born=torch.where(keep, state.born, 0),
    )


def insert_clones(state: MapState, clones: Clones, just_pruned: bool) -> MapState:
    """Give clones of surviving nodes the free slots of lowest index."""
    wanted = state.alive[clones.origin].nonzero().squeeze(1)
    free = (~state.alive).nonzero().squeeze(1)
    slots, wanted = free[: wanted.shape[0]], wanted[: free.shape[0]]
    copies = take_nodes(clones.state, wanted)
    wins = torch.zeros_like(clones.wins[wanted]) if just_pruned else clones.wins[wanted]
    filled = {
        name: getattr(state, name).index_copy(0, slots, getattr(copies, name))
        for name in ("prototypes", "relevances", "deviations", "classes", "updates")
    }
    return dataclasses.replace(
        state,
        **filled,
        alive=state.alive.index_fill(0, slots, True),
        wins=state.wins.index_copy(0, slots, wins),
        born=state.born.index_fill(0, slots, state.clock),
    )


def insert_candidates(
    state: MapState,
    statistics: BatchStatistics,
    config: MapConfig,
    *,
    frozen: MapState,
    adapted: MapState,
    pruned: MapState,
) -> MapState:
    """Greedy cover: walk the candidates in their order, create a node for each that none covers yet.

    Skipped: what the map accepts by now, and what a node created earlier in the walk covers. Skipped samples wait
    for the next round.

    Args:
        state: the map after pruning, with its clones.
        statistics: the merged statistics of the round.
        config: resolved hyper-parameters.
        frozen: the map that the candidates were matched on; it lends unobserved values.
        adapted: the map before pruning; its boxes tell which candidates are close (ALTSS-SOM).
        pruned: the map before its clones; its boxes accept (ALTSS-SOM).
    """
    candidates = statistics.candidates
    candidates = candidates.take(candidates.valid.nonzero().squeeze(1))
    free = (~state.alive).nonzero().squeeze(1)
    if candidates.position.shape[0] == 0 or free.shape[0] == 0:
        return state
    label, tile = candidates.label, Tile.of(candidates.features, config.missing)
    lent = torch.where((candidates.bmu >= 0).unsqueeze(1), frozen.prototypes[candidates.bmu], 0.0)
    x = tile.features if tile.observed is None else torch.where(tile.observed, tile.features, lent)
    if config.has_boxes:
        reach = torch.where((candidates.bmu >= 0).unsqueeze(1), box(adapted, config)[candidates.bmu], 0.0)
        open_ = ~_accepted_by_box(pruned, tile, candidates, statistics.sums["updates"], config)
    else:
        reach = None
        open_ = ~match(state, tile, label, config=config).matched
    created: list[int] = []
    while len(created) < free.shape[0] and bool(open_.any()):
        new = int(open_.to(torch.int8).argmax())
        created.append(new)
        open_ = open_ & ~(compatible(label, label[new]) & _covered(tile, x[new], reach, config))
        open_[new] = False
    rows = torch.tensor(created, dtype=torch.int64, device=state.device)
    slots = free[: rows.shape[0]]
    return dataclasses.replace(
        state,
        prototypes=state.prototypes.index_copy(0, slots, x[rows]),
        alive=state.alive.index_fill(0, slots, True),
        classes=state.classes.index_copy(0, slots, label[rows]),
        born=state.born.index_fill(0, slots, state.clock),
    )


def _covered(tile: Tile, prototype: Tensor, reach: Tensor | None, config: MapConfig) -> Tensor:
    """(n,) bool: samples that a new node accepts: mean squared gap within ρ_t, or within the box lent to them."""
    gap = tile.features - prototype
    if reach is not None:
        near = gap.abs() <= reach
        return (near if tile.observed is None else near | ~tile.observed).all(1)
    if tile.observed is None:
        return gap.square().mean(1) <= config.error_threshold
    return (gap.square() * tile.observed).sum(1) / tile.observed.sum(1) <= config.error_threshold


def _accepted_by_box(state: MapState, tile: Tile, candidates: Candidates, updates: Tensor, config: MapConfig) -> Tensor:
    """(n,) bool: candidates inside the box of their BMU by now, its class permitting.

    A box that only the candidate itself has moved does not count: a round of one sample is the online step,
    which inserts.
    """
    node, label = candidates.bmu.clamp_min(0), candidates.label
    fits = compatible(state.classes[node], label)
    exists = (candidates.bmu >= 0) & state.alive[node] & (updates[node] > 1)
    return exists & fits & inside_box(state, tile, node, config)


def reconnect(state: MapState, config: MapConfig) -> MapState:
    """Neighbours: alive nodes with like relevances, ‖ω_j − ω_l‖ < minwd √D, and no conflict of classes.

    Source: Bassani & Araújo 2015; Braga & Bassani 2018.
    """
    if config.connection_threshold == 0:
        return dataclasses.replace(state, neighbours=torch.zeros_like(state.neighbours))
    alive = state.alive.nonzero().squeeze(1)
    gap = state.relevances[alive] - 1  # exact zeros for fresh nodes
    norm = gap.square().sum(1)
    squared = norm.unsqueeze(1) + norm - 2 * (gap @ gap.T)
    alike = squared.clamp_min_(0) < config.connection_threshold**2 * state.num_features
    classes = state.classes[alive]
    fits = compatible(classes.unsqueeze(1), classes)
    neighbours = torch.zeros_like(state.neighbours)
    neighbours[alive.unsqueeze(1), alive] = (alike & alike.T & fits).fill_diagonal_(False)
    return dataclasses.replace(state, neighbours=neighbours)
