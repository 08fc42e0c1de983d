"""Where a training begins: the first map, and of deep runs the first network.

N training rows, D features.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.deep.network import NetworkState
from pipeline.deep.plan import encode
from pipeline.prepared.shards import Dataset
from pipeline.rivals import rival_class
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan, training_labels
from somcore.device import one_thread
from somcore.initial import initial_indices, initial_state
from somcore.sampling import sample_indices
from somcore.state import MapState

_CHUNK_ROWS = 16384
_SPREAD_ROWS, _SPREAD_EPOCH = 1024, -3


@one_thread()
def first_snapshot(plan: TrainingPlan, dataset: Dataset) -> Snapshot:
    """Where a run begins: the same for any number of threads of the driver."""
    network = None
    if plan.deep is not None:
        network = plan.deep.first_network(plan.config.seed, dataset.read("train", _some_rows(plan, dataset))[0])
    snapshot = Snapshot(first_state(plan, dataset, network), network=network)
    if plan.deep is None or plan.deep.rival is None:
        return snapshot
    return rival_class(plan.deep.rival.name).first(plan.deep.rival, snapshot)


def _some_rows(plan: TrainingPlan, dataset: Dataset) -> Tensor:
    """Rows that the untrained encoder is looked at with, of those that are trained on."""
    count = plan.num_samples
    places = sample_indices(plan.config.seed, _SPREAD_EPOCH, torch.arange(min(_SPREAD_ROWS, count)), count)
    return _trained(plan, dataset, places)


def _trained(plan: TrainingPlan, dataset: Dataset, places: Tensor) -> Tensor:
    """Row numbers of places among the rows that are trained on: of deep runs not all."""
    if plan.deep is None:
        return places
    return plan.deep.trained_rows(*training_labels(plan, dataset.labels("train")))[places]


def _seen(plan: TrainingPlan, dataset: Dataset, network: NetworkState | None, rows: Tensor) -> Tensor:
    """Training rows as the map sees them: of deep runs their features."""
    samples = dataset.read("train", rows)[0]
    if plan.deep is None or network is None:
        return samples
    return encode(plan.deep.loaded(network.values), samples)


def first_state(plan: TrainingPlan, dataset: Dataset, network: NetworkState | None = None) -> MapState:
    """The map before the first round: on samples, in deep runs on their features."""
    rows = initial_indices(plan.config, plan.num_samples)
    linear = not plan.config.is_growing and plan.config.initialisation == "linear"
    samples, moments = None, None
    if rows is not None:
        samples = _seen(plan, dataset, network, _trained(plan, dataset, rows))
    elif linear and network is None:
        moments = _moments(dataset)
    elif linear:
        features = _seen(plan, dataset, network, _some_rows(plan, dataset)).to(torch.float64)
        moments = features.mean(0), torch.cov(features.T)
    return initial_state(plan.config, plan.num_features, plan.num_classes, samples=samples, moments=moments)


def _moments(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of the training rows, in two passes; a missing value counts as the mean."""
    starts = range(0, dataset.num_samples("train"), _CHUNK_ROWS)

    def chunks() -> Iterator[Tensor]:
        for start in starts:
            yield dataset.read("train", slice(start, start + _CHUNK_ROWS))[0].to(torch.float64)

    total, seen = torch.zeros(2, dataset.num_features, dtype=torch.float64)
    for features in chunks():
        total += features.nansum(0)
        seen += (~features.isnan()).sum(0)
    mean = total / seen.clamp_min(1)
    products = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for features in chunks():
        gap = (features - mean).nan_to_num(0.0)
        products += gap.T @ gap
    return mean, products / dataset.num_samples("train")
