"""The training loop in one process: the rounds of a map over samples in memory.

Axes: N samples, D features, K nodes, C classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.config import MapConfig
from somcore.device import one_thread
from somcore.distance import project
from somcore.fixed_point import fixed_point_scale
from somcore.initial import initial_indices, initial_state
from somcore.sampling import sample_indices
from somcore.search import Each, PreparedSamples, batch_statistics, pays, winners
from somcore.state import MapState
from somcore.threshold import calibrate
from somcore.update import accumulate, advance, empty_statistics, round_scale


@dataclass(frozen=True)
class Samples:
    """Training data on the device of the map.

    Attributes:
        features: (N, D) float32 or float64; NaN = missing.
        labels: (N,) int64 classes, -1 = unlabelled; None = no labels.
        weights: (N,) int64 >= 1; None = 1 each.
    """

    features: Tensor
    labels: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return int(self.features.shape[0])

    @property
    def max_abs(self) -> float:
        """Bound of the features: 1, the static bound of prepared data, or their largest absolute value."""
        low, high = (float(bound) for bound in self.features.aminmax())
        if math.isnan(low):
            low, high = (float(bound) for bound in self.features.nan_to_num(0.0).aminmax())
        return max(1.0, -low, high)

    def take(self, rows: Tensor) -> Samples:
        """The samples at these rows."""
        labels = None if self.labels is None else self.labels[rows]
        weights = None if self.weights is None else self.weights[rows]
        return Samples(self.features[rows], labels, weights)


def resolved(config: MapConfig, samples: Samples, num_classes: int, num_rows: int | None = None) -> MapConfig:
    """The configuration with every number that the data decide, the calibrated threshold included.

    Args:
        config: as the user gave it.
        samples: training data.
        num_classes: C.
        num_rows: rows that stand for N in the defaults; None = those of `samples`.
    """
    num_rows = num_rows or len(samples)
    total = num_rows if samples.weights is None else max(num_rows, int(samples.weights.sum()))
    if config.is_growing and config.pruning_period is None and samples.weights is not None:
        # The clock counts a sample of weight m as m samples; so must the period that it is compared with.
        config = dataclasses.replace(config, pruning_period=max(1, round(config.pruning_epochs * total)))
    num_features = int(samples.features.shape[1])
    config = config.resolve(num_samples=num_rows, num_features=num_features, num_classes=num_classes)
    return calibrate(config, len(samples), lambda rows: samples.features[rows.to(samples.features.device)])


def start(config: MapConfig, samples: Samples, num_classes: int) -> MapState:
    """The map before its first round."""
    features = samples.features
    rows = initial_indices(config, len(samples))
    return initial_state(
        config,
        num_features=int(features.shape[1]),
        num_classes=num_classes,
        samples=None if rows is None else features[rows.to(features.device)],
        moments=_moments(samples) if not config.is_growing and config.initialisation == "linear" else None,
        device=features.device,
    )


def train(config: MapConfig, samples: Samples, num_classes: int) -> tuple[MapState, MapConfig, Tensor | None]:
    """A whole training: organisation and convergence phase, or the schedule of a lattice.

    Args:
        config: as the user gave it.
        samples: training data.
        num_classes: C, 0 without labels.

    Returns:
        The finished map, the resolved configuration, and the (N,) BMU of each sample if it is known anyway.
    """
    config = resolved(config, samples, num_classes)
    state = start(config, samples, num_classes)
    if samples.weights is None and pays(config, samples.features):
        return _train_prepared(state, samples, config)
    per_epoch, max_abs = config.rounds_per_epoch(len(samples)), samples.max_abs
    everyone = torch.arange(len(samples))
    order, current = everyone, -1
    while not state.finished:
        epoch, place = divmod(state.round, per_epoch)
        if epoch != current:
            order = sample_indices(config.seed, epoch, everyone, len(samples), config.sampling)
            order, current = order.to(samples.features.device), epoch
        rows = order[place * config.batch_size : (place + 1) * config.batch_size]
        state = one_round(state, samples, rows, config, max_abs)
    return state, config, None


def _train_prepared(state: MapState, samples: Samples, config: MapConfig) -> tuple[MapState, MapConfig, Tensor]:
    """The rounds of a batch map through the prepared search: the same map to the bit."""
    with _threads() as each:
        prepared, max_abs = PreparedSamples.of(samples.features, each), samples.max_abs
        empty = empty_statistics(state, config, scale=0)
        while not state.finished:
            scale = round_scale(state, max_abs, len(samples))
            state = advance(state, batch_statistics(prepared, state, empty, scale, each), config)
        return state, config, winners(prepared, state, each=each)[0]


@contextmanager
def _threads() -> Iterator[Each]:
    """As many threads as torch has, each on parts of its own: no waiting for one another after every operation."""
    number = torch.get_num_threads()
    if number == 1:
        yield map
        return
    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(number)


def one_round(state: MapState, samples: Samples, rows: Tensor, config: MapConfig, max_abs: float) -> MapState:
    """The map after one round over the samples at `rows`, cut into tiles."""
    number, heaviest = len(rows), 1
    if samples.weights is not None:
        weights = samples.weights[rows]
        number, heaviest = int(weights.sum()), int(weights.max())
    scale = round_scale(state, max_abs, number, heaviest)
    projection = project(state, config)
    total = None
    for first in range(0, len(rows), config.tile_size):
        tile = samples.take(rows[first : first + config.tile_size])
        part = accumulate(
            state,
            tile.features,
            tile.labels,
            config,
            positions=torch.arange(first, first + len(tile), device=rows.device),
            weights=tile.weights,
            scale=scale,
            projection=projection,
        )
        total = part if total is None else total.merge(part)
    assert total is not None
    return advance(state, total, config)


def resume(state: MapState, config: MapConfig, samples: Samples) -> MapState:
    """The map after one pass over further samples in the order they come; a growing map goes on growing."""
    if config.is_growing:
        state = dataclasses.replace(state, growing=True, finished=False)
    max_abs = samples.max_abs
    rows = torch.arange(len(samples), device=samples.features.device)
    for first in range(0, len(samples), config.batch_size):
        state = one_round(state, samples, rows[first : first + config.batch_size], config, max_abs)
    return state


@one_thread()
def _moments(samples: Samples) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) in float64, by tiles; a missing value counts as the mean of its feature.

    A sample of weight m counts as m equal samples.

    Raises:
        ValueError: the features are too large for sums of their squares.
    """
    features, weights = samples.features, samples.weights
    if weights is not None:
        weights = weights.to(torch.float64).unsqueeze(1)
    mean = _means(features.to(torch.float64), weights)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=features.device)
    for first in range(0, len(features), 4096):
        part = slice(first, first + 4096)
        gap = (features[part].to(torch.float64) - mean).nan_to_num(0.0)
        covariance += (gap if weights is None else gap * weights[part]).T @ gap
    if not bool(mean.isfinite().all() & covariance.isfinite().all()):
        fixed_point_scale(samples.max_abs, len(samples))  # refuses them: no round could add them up either
    return mean, covariance / (len(features) if weights is None else weights.sum())


def _means(features: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return features.nanmean(dim=0).nan_to_num(0.0)
    seen = (~features.isnan() * weights).sum(0)
    return (features.nan_to_num(0.0) * weights).sum(0) / seen.clamp_min(1)
