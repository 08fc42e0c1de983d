"""Which rows a run is scored on, during training and at its end.

The test split where there is one, else the training split, of which a million rows are enough. Rows withheld for
validation are scored apart: they are what a search may look at. Of data without classes it may look at the error on
the validation split, else on the training rows. During training a fixed random part of the rows is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.config import RunConfig
from pipeline.deep.plan import deep_map_config, encode
from pipeline.evaluation import evaluate
from pipeline.prepared.shards import Dataset
from pipeline.training.advice import lost_classes
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan, training_labels
from somcore.config import LABEL_AWARE, LATTICES, MapConfig
from somcore.sampling import sample_indices
from somcore.state import MapState

_SCORING_EPOCH = -2  # a draw of its own, apart from the epochs of training
_MOST = 1_000_000  # training rows that the end looks at: a share is known to 0.05 points, and training took no longer

Metrics = dict[str, float | None]


def summary_of(
    run: RunConfig,
    state: MapState,
    epochs: int,
    scores: Mapping[str, Any],
    digest: str | None,
    seconds: float,
    samples: float,
    out: Path,
) -> dict[str, Any]:
    """What is said of a run at its end: the keys of the command's JSON line.

    Args:
        run: its settings.
        state: its map.
        epochs: it took.
        scores: from `Scorer.final`, and other findings.
        digest: of the model; None where none is kept.
        seconds: of training.
        samples: presented in all.
        out: its directory.
    """
    return {
        "model": run.train.model,
        "data": run.data.path,
        "labelled_fraction": run.train.labelled_fraction,
        "seed": run.train.seed,
        "workers": run.cluster.workers,
        "reduction": run.train.reduction,
        "epochs": epochs,
        "rounds": state.round,
        "nodes": state.num_nodes,
        **scores,
        "map_digest": digest,
        "seconds": round(seconds, 3),
        "samples_per_second": round(samples / seconds, 1),
        "out": str(out),
    }


class Scorer:
    """Scores the map of a run.

    Args:
        plan: of the run.
        dataset: its data.
        limit: rows looked at during training; 0 = all.

    Attributes:
        split: whose rows the scores are of, but for those that a search may look at: test, else train.
    """

    def __init__(self, plan: TrainingPlan, dataset: Dataset, limit: int) -> None:
        self._plan, self._dataset = plan, dataset
        self.split = "test" if dataset.num_samples("test") else "train"
        count = dataset.num_samples(self.split)
        self._sample = self._drawn(limit, count)
        self._all = None if self.split == "test" else self._drawn(_MOST, count)
        self._validation = self._validation_rows()

    def sample(self, snapshot: Snapshot) -> Metrics:
        """Scores on a fixed part of the split, and on the validation rows."""
        quality = self._plan.config.variant in LATTICES
        scores = self._on(snapshot, self.split, self._sample, quality)
        return scores | self._validated(snapshot, quality=not self._dataset.num_classes)

    def final(self, snapshot: Snapshot) -> Metrics:
        """Scores on the whole test split, or on a fixed million of training rows, and on what a search may look at."""
        scores = self._on(snapshot, self.split, self._all)
        return scores | self._validated(snapshot) | self._trained(snapshot, scores)

    def scored(self) -> dict[str, Any]:
        """What `final` looks at: the split, its rows, and how many of them have a class (None without classes)."""
        dataset, split, chosen = self._dataset, self.split, self._all
        if chosen is None:
            rows, labelled = dataset.num_samples(split), dataset.num_labelled(split)
        else:
            rows, labelled = len(chosen), int((dataset.labels(split)[chosen] >= 0).sum())
        return {"split": split, "scored_rows": rows, "scored_labelled_rows": labelled if dataset.num_classes else None}

    def lost_classes(self, state: MapState) -> str | None:
        """Classes that the finished map can never say, in one line; None if there are none, or it has no classes."""
        plan, dataset = self._plan, self._dataset
        if plan.config.variant not in LABEL_AWARE or (plan.deep is not None and plan.deep.rival is not None):
            return None
        return lost_classes(state, dataset.class_names, training_labels(plan, dataset.labels("train"))[0])

    def _drawn(self, limit: int, count: int) -> Tensor | None:
        """A fixed random choice of rows; None = all."""
        if not 0 < limit < count:
            return None
        return sample_indices(self._plan.config.seed, _SCORING_EPOCH, torch.arange(limit), count).sort().values

    def _validation_rows(self) -> tuple[str, Tensor] | None:
        if self._plan.validation_fraction > 0 and self._dataset.num_classes:
            _, withheld = training_labels(self._plan, self._dataset.labels("train"))
            return ("train", withheld) if len(withheld) else None
        count = self._dataset.num_samples("validation")
        if count == 0:
            return None
        return "validation", torch.arange(count)

    def _trained(self, snapshot: Snapshot, scores: Metrics) -> Metrics:
        """The error on training rows, of data without classes and without rows to validate on.

        Measured here, not taken from the tallies of the last epoch: screened trials and some networks have none, and
        the trials of a sweep must be comparable.
        """
        if self._dataset.num_classes or self._validation is not None:
            return {}
        if self.split != "train":
            scores = self._on(snapshot, "train", self._drawn(_MOST, self._dataset.num_samples("train")))
        return {"training_quantization_error": scores["quantization_error"]}

    def _validated(self, snapshot: Snapshot, quality: bool = True) -> Metrics:
        if self._validation is None:
            return {}
        split, rows = self._validation
        scores = self._on(snapshot, split, rows, quality)
        return {f"validation_{name}": value for name, value in scores.items()}

    def _on(self, snapshot: Snapshot, split: str, rows: Tensor | None, quality: bool = True) -> Metrics:
        encode, config = encoder_of(self._plan, snapshot)

        def read(part: Tensor) -> tuple[Tensor, Tensor | None]:
            features, labels = self._dataset.read(split, part)
            return encode(features), labels

        count, classes = self._dataset.num_samples(split), self._dataset.num_classes
        crossings = None if snapshot.network is None else snapshot.network.crossings
        return evaluate(snapshot.state, config, read, count, classes, rows, quality, crossings)


def encoder_of(plan: TrainingPlan, snapshot: Snapshot) -> tuple[Callable[[Tensor], Tensor], MapConfig]:
    """How samples become features of the map, and the map's configuration: themselves, or latent ones."""
    if plan.deep is None or snapshot.network is None:
        return (lambda samples: samples), plan.config
    network = plan.deep.loaded(snapshot.network.values)
    return (lambda samples: encode(network, samples)), deep_map_config(plan.config, snapshot.network.threshold)
