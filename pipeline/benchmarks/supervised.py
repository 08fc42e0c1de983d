"""The baseline of the deep layer: the same encoder with a linear classifier, trained on the labelled rows alone.

Same labelled samples in the same order, same weak views, same number of optimiser steps, same step sizes and averaging
as the deep run with these settings; cross-entropy instead of the map, nothing from unlabelled rows. C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config import RunConfig
from pipeline.deep.augment import Draws
from pipeline.deep.encoders import LinearClassifier, initialise
from pipeline.deep.network import NetworkState, flat_gradient, load_flat, narrowed
from pipeline.deep.plan import DeepRound, encode
from pipeline.deep.step import one_step
from pipeline.errors import DataError
from pipeline.prepared.shards import Dataset
from pipeline.training.advice import slow_here
from pipeline.training.plan import make_plan, training_labels
from somcore.config import UNLABELLED

_TILE_ROWS = 1024


class Classifier(nn.Module):
    """An encoder and a linear map to class scores."""

    def __init__(self, encoder: nn.Module, dim: int, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = LinearClassifier(dim, num_classes)

    def forward(self, samples: Tensor) -> Tensor:
        """(n, P) to (n, C)."""
        scores: Tensor = self.head(self.encoder(samples))
        return scores


def train_supervised(
    settings: Mapping[str, Any], strong: bool = False, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Trains the baseline of a deep run in this process.

    Args:
        settings: flat keys of the deep run.
        strong: learn from strong views too, with the weight that they have in the deep run.
        say: told about the progress.

    Returns:
        accuracy on the test split, labelled (rows), rounds, seconds, and encode: (n, P) samples to (n, D) features.

    Raises:
        DataError: there is no labelled row.
    """
    run = RunConfig.build(settings)
    dataset = Dataset.open(run.data.path)
    plan = make_plan(run, dataset)
    assert plan.deep is not None
    deep = plan.deep
    labels, withheld = training_labels(plan, dataset.labels("train"))
    if deep.num_labelled == 0:
        raise DataError("The supervised baseline must have labelled rows. Got none; raise train.labelled_fraction.")
    module = Classifier(deep.drawn_network(plan.config.seed).encoder, plan.num_features, dataset.num_classes)
    initialise(module, plan.config.seed)
    network = NetworkState.of(module)
    rows = deep.trained_rows(labels, withheld)
    views = {"weak": (deep.views()[0], 1.0)}
    if strong:
        views["strong"] = (deep.views()[1], deep.losses.strong_cross_entropy_weight)
    if slow := slow_here(deep.settings.precision, "cpu"):
        say(slow)
    began = time.monotonic()
    for number in range(deep.rounds):
        cut = DeepRound.of(number, plan.config, labels, rows, deep.extra)
        marked = cut.labels != UNLABELLED
        if not bool(marked.any()):
            continue
        samples = dataset.read("train", cut.rows[marked])[0]
        load_flat(module, network.values)
        for view, (distort, weight) in views.items():
            seen = distort(samples, Draws(plan.config.seed, cut.epoch, cut.positions[marked], view))
            with narrowed(deep.settings.precision, samples.device):
                loss = weight * functional.cross_entropy(module(seen), cut.labels[marked])
            loss.backward()  # type: ignore[no-untyped-call]
        network = one_step(network, flat_gradient(module).to(torch.float64), deep, number)
        if (number + 1) % plan.rounds_per_epoch == 0:
            say(f"supervised: epoch {(number + 1) // plan.rounds_per_epoch} done")
    load_flat(module, network.average if deep.settings.average_decay else network.values)
    seconds = time.monotonic() - began
    accuracy = _accuracy(module, dataset)
    result = {"accuracy": accuracy, "labelled": deep.num_labelled, "rounds": deep.rounds, "seconds": round(seconds, 1)}
    return {**result, "encode": lambda samples: encode(module.encoder, samples)}


@torch.no_grad()
def _accuracy(module: Classifier, dataset: Dataset) -> float:
    right, known = 0, 0
    for start in range(0, dataset.num_samples("test"), _TILE_ROWS):
        samples, labels = dataset.read("test", slice(start, start + _TILE_ROWS))
        given = labels != UNLABELLED
        right += int((module(samples).argmax(1) == labels)[given].sum())
        known += int(given.sum())
    return right / max(1, known)
