"""One round of a map: `accumulate` says what samples do to it, `advance` does it.

Axes: n samples of a tile, K nodes, D features.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from somcore.accumulate import grown_statistics, lattice_statistics
from somcore.adapt import window_nodes
from somcore.config import LABEL_AWARE, UNLABELLED, MapConfig
from somcore.device import asking_is_free, one_thread
from somcore.distance import Projection, Tile
from somcore.fixed_point import EXACT_ROWS, fixed_point_scale
from somcore.growth import insert_candidates, insert_clones, prune, reconnect, settle_classes
from somcore.matching import Match, match
from somcore.state import MapState
from somcore.statistics import BatchStatistics
from somcore.variants import VARIANTS


def accumulate(
    state: MapState,
    features: Tensor,
    labels: Tensor | None,
    config: MapConfig,
    *,
    positions: Tensor | None = None,
    weights: Tensor | None = None,
    scale: int | None = None,
    found: Match | None = None,
    projection: Projection | None = None,
) -> BatchStatistics:
    """Statistics of one tile on a frozen map; pure, and free of host synchronisation on accelerators.

    Args:
        state: the frozen map.
        features: (n, D) floating point; NaN only with missing="mask".
        labels: (n,) int64 classes, UNLABELLED where unknown; None = all unknown.
        config: resolved hyper-parameters.
        positions: (n,) int64, place of each sample in the round, unique within it; default 0 … n − 1.
        weights: (n,) int64 >= 1, a sample of weight m counts as m equal samples.
        scale: fixed-point scale of the round (`fixed_point_scale`); None = plain float64 sums. A tile of more rows
            than add up exactly at once is cut.
        found: the tile's match, if it is at hand.
        projection: the map prepared by `somcore.distance.project`, if it is at hand.

    Returns:
        `BatchStatistics`, to be merged with those of the other tiles of the round.

    Raises:
        ValueError: a feature that is not finite, or a label that is no class; on a CPU.

    Example:
        >>> from somcore import MapConfig, advance, initial_state
        >>> config = MapConfig(variant="larfdssom", activation_threshold=0.95)
        >>> config = config.resolve(num_samples=2, num_features=1)
        >>> empty = initial_state(config, num_features=1)
        >>> tile = torch.tensor([[0.0], [1.0]])
        >>> advance(empty, accumulate(empty, tile, None, config, scale=40), config).num_nodes
        2
    """
    tile = Tile.of(features, config.missing)
    number = tile.features.shape[0]
    device = tile.features.device
    if labels is None or config.variant not in LABEL_AWARE:
        labels = torch.full((number,), UNLABELLED, dtype=torch.int64, device=device)
    _check_labels(labels, state.num_classes)
    if positions is None:
        positions = torch.arange(number, device=device)
    found = found or match(state, tile, labels, config=config, projection=projection)
    if scale is not None and number > EXACT_ROWS:
        return _in_parts(state, features, labels, config, positions, weights, scale, found)
    assign = VARIANTS[config.variant].assign
    if assign is None:
        near = window_nodes(config).to(device) if config.variant == "dssom" else None
        return lattice_statistics(state, tile, labels, found, near, weights, scale)
    roles = assign(state, tile, labels, found, config)
    return grown_statistics(state, tile, labels, found, roles, config, positions, weights, scale)


def _in_parts(
    state: MapState,
    features: Tensor,
    labels: Tensor,
    config: MapConfig,
    positions: Tensor,
    weights: Tensor | None,
    scale: int,
    found: Match,
) -> BatchStatistics:
    """The same of tiles of `EXACT_ROWS` rows, merged."""
    parts = [slice(first, first + EXACT_ROWS) for first in range(0, len(labels), EXACT_ROWS)]
    made = (
        accumulate(
            state, features[part], labels[part], config,
            positions=positions[part], weights=None if weights is None else weights[part],
            scale=scale, found=found.take(part),
        )
        for part in parts
    )  # fmt: skip
    return functools.reduce(BatchStatistics.merge, made)


def _check_labels(labels: Tensor, num_classes: int) -> None:
    """Refuse what is neither a class nor UNLABELLED; on a CPU, where asking is free."""
    if not asking_is_free(labels) or labels.numel() == 0:
        return
    low, high = (int(bound) for bound in labels.aminmax())
    if low < UNLABELLED or high >= num_classes:
        row = int(((labels < UNLABELLED) | (labels >= num_classes)).nonzero()[0])
        kinds = (
            f"a class, 0 … {num_classes - 1}, or {UNLABELLED}"
            if num_classes
            else f"{UNLABELLED} where num_classes is 0"
        )
        raise ValueError(f"labels must be {kinds}. Got {int(labels[row])} in row {row} of the tile.")


def empty_statistics(state: MapState, config: MapConfig, scale: int | None) -> BatchStatistics:
    """The identity of `merge`: statistics of no samples."""
    nothing = torch.zeros(0, state.num_features, dtype=torch.float64, device=state.device)
    return accumulate(state, nothing, None, config, scale=scale)


def round_scale(state: MapState, max_abs: float, num_samples: int, weight_max: int = 1) -> int:
    """Fixed-point scale of the next round, from a bound of |x| and the prototypes themselves."""
    reach = float(state.prototypes.abs().max()) if state.prototypes.numel() else 0.0
    return fixed_point_scale(max(max_abs, reach), num_samples, weight_max)


@one_thread()
def advance(state: MapState, statistics: BatchStatistics, config: MapConfig) -> MapState:
    """The next map: classes, adapt, prune, insert, reconnect. A pure function, the same on every rank.

    Args:
        state: the map on which the statistics were taken.
        statistics: the merged statistics of the whole round.
        config: resolved hyper-parameters.

    Returns:
        The map of the next round, with its phase (`growing`, `finished`).

    Raises:
        ValueError: statistics of another round, or of samples that could not be refused where they were accumulated;
            a configuration that is not resolved.
    """
    if statistics.round != state.round:
        raise ValueError(
            f"Statistics must be of the map's round, {state.round}. Got those of round {statistics.round}; "
            "each advances its map once."
        )
    if config.unresolved:
        raise ValueError(
            "config must be a resolved one, as layer.config or what MapConfig.resolve gives. "
            f"Got one with {config.unresolved}=None."
        )
    if unusable := int(statistics.sums["unusable"]):
        raise ValueError(
            "Features must be finite and within the bound that the sums are made for, and labels classes or "
            f"{UNLABELLED}. Got {unusable} other samples in this round; the map stays as it was."
        )
    if not config.is_growing:
        return _advance_lattice(state, statistics, config)
    settled, remaining, clones = settle_classes(state, statistics, config)
    adapted = VARIANTS[config.variant].adapt(settled, remaining, config)
    counted = dataclasses.replace(
        adapted,
        wins=adapted.wins + remaining.sums["wins"],
        clock=state.clock + statistics.tally("samples"),
    )
    pruned, period_ended = prune(counted, config)
    grown = pruned
    if clones is not None:
        grown = insert_clones(grown, clones, period_ended)
    if state.growing:
        grown = insert_candidates(grown, statistics, config, frozen=state, adapted=counted, pruned=pruned)
    connected = reconnect(grown, config)
    organised = config.num_rounds is not None and state.round + 1 >= config.num_rounds
    return dataclasses.replace(
        connected,
        round=state.round + 1,
        growing=state.growing and not (organised and period_ended),
        finished=state.finished or (not state.growing and period_ended),
    )


def _advance_lattice(state: MapState, statistics: BatchStatistics, config: MapConfig) -> MapState:
    adapted = VARIANTS[config.variant].adapt(state, statistics, config)
    return dataclasses.replace(
        adapted,
        wins=state.wins + statistics.sums["wins"],
        clock=state.clock + statistics.tally("samples"),
        round=state.round + 1,
        finished=config.num_rounds is not None and state.round + 1 >= config.num_rounds,
    )
