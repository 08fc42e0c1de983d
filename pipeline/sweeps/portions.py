"""Who says which trials come next: a list that is drawn beforehand, or Optuna, which learns from those that ended."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pipeline.sweeps.plan import SweepPlan
from pipeline.sweeps.published_spaces import Column
from pipeline.sweeps.selection import score_of
from pipeline.sweeps.trials import Trial, row_of, settled

RecordOf = Callable[[Trial], dict[str, Any]]

_MAX_PORTION, _MAX_SCREENED = 50, 250  # trainings that one process does before Tune gives it more


class TrialSource(Protocol):
    """Gives trials in portions; a portion is done by one process, one trial after the other."""

    def next(self) -> list[Trial] | None:
        """The next portion; None = there are no more."""

    def ended(self, portion: list[Trial]) -> None:
        """A portion was done."""


def portion_size(plan: SweepPlan, num_left: int, concurrent: int) -> int:
    """Trials that a process does at once: small ones take less time than its start; a scheduler looks at single ones.

    Args:
        plan: the sweep.
        num_left: trials that are left to do.
        concurrent: processes at the same time.
    """
    if plan.workers or plan.stops_early:
        return 1
    most = _MAX_SCREENED if plan.screened else _MAX_PORTION
    return max(1, min(most, math.ceil(num_left / (4 * concurrent))))


class Listed:
    """All trials are known beforehand.

    Args:
        trials: those that have not ended.
        portion: trials that one process does at once.
    """

    def __init__(self, trials: list[Trial], portion: int) -> None:
        starts = range(0, len(trials), portion)
        self._portions: Iterator[list[Trial]] = iter([trials[start : start + portion] for start in starts])

    def next(self) -> list[Trial] | None:
        """The next portion, in order."""
        return next(self._portions, None)

    def ended(self, portion: list[Trial]) -> None:
        """Nothing is learned."""


class Optuna:
    """Sets are proposed by Optuna (TPE).

    A portion is one set on all data sets, fractions and seeds; where a scheduler stops trials, it is one of these.

    Args:
        plan: the sweep.
        metric: what the model is judged by.
        record_of: what is known of a trial.
        known: sets of earlier sittings by their number, finished or not.
    """

    def __init__(self, plan: SweepPlan, metric: str, record_of: RecordOf, known: dict[int, dict[str, Any]]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._plan, self._metric, self._record_of = optuna, plan, metric, record_of
        self._ranges = {column.name: _distribution(optuna, column) for column in plan.space.columns}
        # Another seed than that of earlier sittings, which would draw their random first sets once more.
        sampler = optuna.samplers.TPESampler(seed=len(known), constant_liar=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._alone = plan.stops_early
        self._waiting: list[list[Trial]] = []
        self._left: dict[int, set[str]] = {}  # keys of the trials of a set that have not ended
        self._asked: dict[int, Any] = {}
        for index, values in sorted(known.items()):
            trials = plan.trials_of(index, values)
            left = [trial for trial in trials if not settled(record_of(trial))]
            if left:
                self._begin(index, left)
            else:
                self._add(values, trials)
        self._free = iter([index for index in range(plan.num_sets) if index not in known])

    def next(self) -> list[Trial] | None:
        """Of a set that was begun earlier, else of a new one."""
        if not self._waiting and (index := next(self._free, None)) is not None:
            asked = self._asked[index] = self._study.ask(self._ranges)
            self._begin(index, self._plan.trials_of(index, dict(asked.params)))
        return self._waiting.pop(0) if self._waiting else None

    def _begin(self, index: int, trials: list[Trial]) -> None:
        self._left[index] = {trial.key for trial in trials}
        self._waiting += [[trial] for trial in trials] if self._alone else [trials]

    def ended(self, portion: list[Trial]) -> None:
        """Tells Optuna the mean score of a set that has ended on all data sets, fractions and seeds."""
        index, values = portion[0].index, portion[0].values
        self._left[index] -= {trial.key for trial in portion}
        if self._left[index]:
            return
        trials = self._plan.trials_of(index, values)
        asked, score = self._asked.pop(index, None), self._score(trials)
        if asked is None:
            self._add(values, trials)
        elif score is None:
            self._study.tell(asked, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(asked, score)

    def _add(self, values: dict[str, Any], trials: list[Trial]) -> None:
        score = self._score(trials)
        if score is not None:
            create = self._optuna.trial.create_trial
            self._study.add_trial(create(params=values, distributions=self._ranges, value=score))

    def _score(self, trials: list[Trial]) -> float | None:
        scores = [score_of(row_of(trial, self._record_of(trial)), self._metric) for trial in trials]
        known = [score for score in scores if score is not None]
        return statistics.fmean(known) if len(known) == len(scores) else None


def _distribution(optuna: Any, column: Column) -> Any:
    kinds = optuna.distributions
    if column.kind == "choice":
        return kinds.CategoricalDistribution(column.choices)
    if column.kind in ("integer", "whole"):
        return kinds.IntDistribution(math.ceil(column.low), math.floor(column.high))
    if column.kind == "log10":
        return kinds.FloatDistribution(10.0**column.low, 10.0**column.high, log=True)
    return kinds.FloatDistribution(column.low, column.high)
