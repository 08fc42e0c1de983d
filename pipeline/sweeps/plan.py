"""What a user asks of a sweep, and what it is: sets of hyper-parameters, and the trials of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.sweeps.data_sets import TrialData
from pipeline.sweeps.spaces import Space, Values
from pipeline.sweeps.trials import Trial

# What may differ when a sweep goes on: it changes which trials are done, not what one of them is.
FREE = ("samples", "scheduler", "screening", "metric")


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What a user asks of a sweep; None = the default, or with `resume` what was asked before.

    Attributes:
        data: prepared data sets.
        model: what is trained.
        fractions: labelled fractions.
        seeds: one training each.
        samples: sets of hyper-parameters.
        search: random, lhs, optuna or grid.
        scheduler: none or asha.
        space: a published space or a yaml file; None = default hyper-parameters.
        settings: flat settings, the same for all trials.
        validation_fraction: share of the labels that choose the best set, never read in training.
        screening: on = look at all trials by compiled loops and train the chosen ones by somcore; auto = in large
            sweeps, where the loops cover every trial; off.
        metric: the score that chooses, on validation rows.
    """

    data: Sequence[str] = ()
    model: str | None = None
    fractions: Sequence[float] | None = None
    seeds: Sequence[int] | None = None
    samples: int | None = None
    search: str | None = None
    scheduler: str | None = None
    space: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    validation_fraction: float | None = None
    screening: str | None = None
    metric: str | None = None


@dataclass(frozen=True)
class SweepPlan:
    """A sweep, resolved."""

    name: str
    folder: Path
    data_sets: tuple[TrialData, ...]
    space: Space
    definition: dict[str, Any]
    screened: bool = False
    workers: int = 0

    @property
    def model(self) -> str:
        """What is trained."""
        return str(self.definition["model"])

    @property
    def learns(self) -> bool:
        """Whether sets are proposed by what earlier ones reached; else all are known beforehand."""
        return bool(self.definition["search"] == "optuna")

    @property
    def stops_early(self) -> bool:
        """Whether a scheduler stops weak trials, by their scores of each epoch."""
        return bool(self.definition["scheduler"] != "none")

    @property
    def num_sets(self) -> int:
        """Sets of hyper-parameters."""
        return int(self.definition["samples"]) if self.space.columns else 1

    @property
    def num_trials(self) -> int:
        """Trials, all data sets, fractions and seeds together."""
        return self.num_sets * len(self.data_sets) * len(self.definition["fractions"]) * len(self.definition["seeds"])

    @property
    def num_classes(self) -> int:
        """C, the least of all data sets: without classes there is no accuracy to compare."""
        return min(data.num_classes for data in self.data_sets)

    def sets(self) -> list[Values]:
        """All sets, of searches that do not learn from earlier ones."""
        search = self.definition["search"]
        if search == "grid":
            return self.space.grid()
        return [self.space.drawn(index, search) for index in range(self.num_sets)]

    def trials_of(self, index: int, values: Values) -> list[Trial]:
        """The trials of one set: every data set, seed and fraction, so that each seed completes a curve."""
        return [
            self._trial(data, fraction, seed, index, values)
            for data in self.data_sets
            for seed in self.definition["seeds"]
            for fraction in self.definition["fractions"]
        ]

    def _trial(self, data: TrialData, fraction: float, seed: int, index: int, values: Values) -> Trial:
        settings = {
            "train.evaluate_epochs": 0,
            "cluster.workers": 0,
            "tracking.moments": 8,
            **self.space.settings(values, data.num_samples, data.num_features),
            **self.definition["settings"],
            "data.path": data.path,
            "train.model": self.model,
            "train.labelled_fraction": fraction,
            "train.validation_fraction": self.definition["validation_fraction"] if data.num_classes else 0.0,
            "train.seed": seed,
            "tracking.uri": "none",
            "tracking.report": False,
        }
        key = f"{data.key}-{fraction:g}-s{seed}-p{index:04d}"
        return Trial(key, data.name, fraction, seed, index, dict(values), settings, data.fold, self.screened)
