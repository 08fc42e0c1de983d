"""The rounds of a map: one round cut into tiles, tiles turned into statistics, their sums into the next map.

No Ray, no process group, no clock. Rounds with a network are in `pipeline.deep.rounds` and `pipeline.rivals.rounds`.
Where a sample stands in the global order of the epoch decides its round and its tile; nothing else does.
Workers are dealt whole tiles, so the same tile has the same rows and the same bits whoever computes it. N
samples, T rows per tile, W workers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.prepared.scaling import MAX_ABS
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan, planned_dataset, training_labels
from pipeline.training.reduction import Reduction, dealt, scale_of
from pipeline.training.tallies import added, check_counted, map_tallies, running
from somcore.config import MapConfig
from somcore.distance import project
from somcore.sampling import Sampling, sample_indices
from somcore.state import MapState
from somcore.statistics import BatchStatistics
from somcore.update import accumulate, advance, empty_statistics

_KEPT_ORDER = 2**20  # positions: 8 MB

ReadRows = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Row numbers (n,) of the training split -> features (n, D), labels (n,) int64 or None."""


class Rounds(Protocol):
    """The rounds of a training, as one worker computes them."""

    def play(self, snapshot: Snapshot, reduction: Reduction, stay: Callable[[], None]) -> Snapshot:
        """One round.

        Args:
            snapshot: after the round before.
            reduction: joins the workers.
            stay: called before every tile; may raise to leave early.
        """


def rounds_of(plan: TrainingPlan) -> Rounds:
    """Those of a plan: of a map, of an encoder and its map, or of a rival."""
    if plan.deep is None:
        return MapRounds(plan)
    if plan.deep.rival is None:
        from pipeline.deep.rounds import DeepRounds

        return DeepRounds(plan)
    from pipeline.rivals.rounds import RivalRounds

    return RivalRounds(plan)


class MapRounds:
    """The rounds of a map alone, as one worker computes them.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._dataset = planned_dataset(plan)
        self._labels = training_labels(plan, self._dataset.labels("train"))[0] if plan.num_classes else None

    def play(self, snapshot: Snapshot, reduction: Reduction, stay: Callable[[], None]) -> Snapshot:
        """One round: tiles, reduction, the next map."""
        plan, state, config = self._plan, snapshot.state, self._plan.config
        cut = RoundPlan.of(state.round, config, plan.num_samples)
        own = round_statistics(
            state,
            self._read,
            config,
            cut,
            plan.num_samples,
            scale=scale_of(state, cut.num_samples, plan.reduction),
            max_abs=MAX_ABS,
            rank=reduction.rank,
            world_size=reduction.world_size,
            ahead=functools.partial(self._dataset.ahead, "train"),
            stay=stay,
        )
        stay()
        merged = reduction.reduce(own)
        check_counted(state.round, merged, cut.num_samples)
        after = advance(state, merged, config)
        tallies = added(running(snapshot, plan.rounds_per_epoch), map_tallies(state, after, merged))
        return Snapshot(after, tallies, snapshot.extra)

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows with the labels that the map may see."""
        features, _ = self._dataset.read("train", rows)
        return features, None if self._labels is None else self._labels[rows]


@dataclass(frozen=True)
class RoundPlan:
    """The samples of one round, as positions in the order of its epoch.

    Attributes:
        epoch: number of the pass over the data.
        start: first position.
        stop: one past the last position.
        tile_size: T.
    """

    epoch: int
    start: int
    stop: int
    tile_size: int

    @classmethod
    def of(cls, round_index: int, config: MapConfig, num_samples: int) -> RoundPlan:
        """The plan of a round, from its number alone."""
        epoch, place = divmod(round_index, config.rounds_per_epoch(num_samples))
        start = place * config.batch_size
        return cls(epoch, start, min(start + config.batch_size, num_samples), config.tile_size)

    @property
    def num_samples(self) -> int:
        """Samples of the round."""
        return self.stop - self.start

    def tiles(self, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        """Positions of each tile dealt to a worker."""
        starts = range(self.start, self.stop, self.tile_size)
        for start in starts[dealt(len(starts), rank, world_size)]:
            yield torch.arange(start, min(start + self.tile_size, self.stop))


def round_statistics(
    state: MapState,
    read: ReadRows,
    config: MapConfig,
    plan: RoundPlan,
    num_samples: int,
    *,
    scale: int | None,
    max_abs: float = math.inf,
    rank: int = 0,
    world_size: int = 1,
    ahead: Callable[[Tensor], None] = lambda rows: None,
    stay: Callable[[], None] = lambda: None,
) -> BatchStatistics:
    """The statistics of the tiles that one worker was dealt in one round.

    Args:
        state: the frozen map.
        read: gives rows of the training split.
        config: resolved hyper-parameters.
        plan: which samples.
        num_samples: N, rows of the training split.
        scale: fixed-point scale of the round; None for plain float sums.
        max_abs: bound of |x| that the scale was made for.
        rank: of this worker.
        world_size: W.
        ahead: is told the rows of the next tile before the running one is computed.
        stay: is called before every tile; may raise to leave early.

    Returns:
        Their merged statistics; the identity of `merge` if no tile was dealt.
    """
    total: BatchStatistics | None = None
    projection = project(state, config)
    tiles = list(plan.tiles(rank, world_size))
    orders = [rows_at(config, plan.epoch, positions, num_samples) for positions in tiles]
    for positions, rows, following in zip(tiles, orders, [*orders[1:], None][: len(tiles)], strict=True):
        stay()
        if following is not None:
            ahead(following)
        features, labels = read(rows)
        check_tile(features, rows, config, max_abs)
        part = accumulate(
            state,
            features.to(state.device),
            None if labels is None else labels.to(state.device),
            config,
            positions=positions.to(state.device) - plan.start,
            scale=scale,
            projection=projection,
        )
        total = part if total is None else total.merge(part)
    return empty_statistics(state, config, scale) if total is None else total


def rows_at(config: MapConfig, epoch: int, positions: Tensor, num_samples: int) -> Tensor:
    """Row numbers at some positions of an epoch's order; a short order is drawn once and kept."""
    if num_samples > _KEPT_ORDER:
        return sample_indices(config.seed, epoch, positions, num_samples, config.sampling)
    return _order(config.seed, epoch, num_samples, config.sampling)[positions]


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num_samples: int, sampling: Sampling) -> Tensor:
    return sample_indices(seed, epoch, torch.arange(num_samples), num_samples, sampling)


def check_tile(features: Tensor, rows: Tensor, config: MapConfig, max_abs: float) -> None:
    """Names the first value that cannot be summed exactly, or that is no number; nothing is clipped.

    Raises:
        DataError: with row and feature.
    """
    usable = features.abs() <= max_abs
    if config.missing == "mask":
        usable |= features.isnan()
    if not bool(usable.all()):
        row, feature = (~usable).nonzero()[0].tolist()
        raise DataError(
            f"Training row {int(rows[row])}, feature {feature} must be a number in "
            f"[{-max_abs:g}, {max_abs:g}]. Got {float(features[row, feature])}. "
            "Prepare the data again; with --missing mask NaN means a missing value."
        )
