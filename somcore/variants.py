"""What makes each variant itself: the roles it gives to samples, and how its nodes adapt.

Axes: n samples of a tile, K nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from somcore import adapt
from somcore.accumulate import Assign, Roles
from somcore.config import UNLABELLED, MapConfig
from somcore.distance import Tile
from somcore.matching import Match
from somcore.state import MapState
from somcore.statistics import BatchStatistics


def assign_by_threshold(state: MapState, tile: Tile, labels: Tensor, found: Match, config: MapConfig) -> Roles:
    """LARFDSSOM: accepted samples pull the BMU and its neighbours, the others propose nodes."""
    accepted = found.matched
    direct = accepted & (labels >= 0) & (found.bmu == found.compatible_bmu)
    return Roles(
        pull=accepted,
        neighbours=accepted,
        direct=direct,
        contested=direct & (state.classes[found.bmu] == UNLABELLED),
        candidate=_room(state, ~accepted),
    )


def assign_by_label(state: MapState, tile: Tile, labels: Tensor, found: Match, config: MapConfig) -> Roles:
    """SS-SOM: as LARFDSSOM, with the next right-class winner; where it accepts, a BMU of another class is pushed."""
    roles = assign_by_threshold(state, tile, labels, found, config)
    push = found.matched & (found.bmu != found.compatible_bmu)
    return replace(roles, push=push)


def assign_by_box(state: MapState, tile: Tile, labels: Tensor, found: Match, config: MapConfig) -> Roles:
    """ALTSS-SOM: every node accepts inside its own box; unseen classes clone the BMU; nothing is pushed."""
    labelled = labels >= 0
    same = (found.compatible_bmu == found.bmu) & (found.bmu >= 0)
    outside = same & ~found.matched
    unseen = (found.compatible_bmu < 0) & (found.bmu >= 0)
    candidate = _room(state, outside | (found.bmu < 0))
    clone = _room(state, unseen)
    stuck = outside if candidate is None else outside & ~candidate
    direct = same & found.matched & labelled
    contested = direct & (state.classes[found.bmu] == UNLABELLED)
    return Roles(
        pull=found.matched,
        neighbours=found.matched & same,
        direct=direct,
        contested=contested if clone is None else contested | clone,
        candidate=candidate,
        relevance=outside | (unseen if clone is None else unseen & ~clone),
        extra_win=stuck & labelled,
    )


def _room(state: MapState, wanting: Tensor) -> Tensor | None:
    """Those of the samples that may add a node: the map grows and has a free slot; None if it does not grow."""
    return wanting & ~state.alive.all() if state.growing else None


@dataclass(frozen=True)
class Variant:
    """A composition of rules.

    Attributes:
        adapt: moves prototypes, deviations and relevances by the merged statistics.
        assign: roles of samples; None for lattices, whose samples all pull their winner's neighbourhood.
    """

    adapt: Callable[[MapState, BatchStatistics, MapConfig], MapState]
    assign: Assign | None = None


VARIANTS: dict[str, Variant] = {
    "kohonen": Variant(adapt=adapt.adapt_kohonen),
    "dssom": Variant(adapt=adapt.adapt_dssom),
    "larfdssom": Variant(adapt=adapt.adapt_by_rates, assign=assign_by_threshold),
    "sssom": Variant(adapt=adapt.adapt_by_rates, assign=assign_by_label),
    "altsssom": Variant(adapt=adapt.adapt_by_decay, assign=assign_by_box),
}
