"""A sitting of a sweep on Ray Tune: the processes, who gives them trials, who hears what becomes of those.

Tune pickles and copies its searcher and its callbacks; a sitting has threads and files. So they hold no more than
its name.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher

from pipeline.sweeps.selection import chooser_of, row_of_epoch, score_of
from pipeline.sweeps.trials import Trial, confirm_trial, row_of, run_trial

_TELL_S = 1.0
_NO_SCORE = -1e30  # a scheduler compares numbers
_CRASHES = 100  # of the processes of one portion; a trial that ends its process twice is given up, long before


class Sitting(Protocol):
    """Who is asked and told."""

    name: str

    def suggest(self, tune_id: str) -> dict[str, Any] | None:
        """The next portion for a process."""

    def told(self, result: Mapping[str, Any]) -> None:
        """What a process reports."""

    def portion_ended(self, tune_id: str, last: Mapping[str, Any], failed: bool) -> None:
        """A process has ended its portion."""

    def may_stop(self, tune_id: str) -> bool:
        """Whether a scheduler may stop a process."""

    def running(self, count: int) -> None:
        """How many processes there are at this moment."""


_SITTINGS: dict[str, Sitting] = {}


def fit(
    sitting: Sitting,
    storage: Path,
    bundles: list[dict[str, float]],
    concurrent: int,
    time_budget_s: float | None,
    asha: bool,
) -> None:
    """Lets Tune do all portions.

    Args:
        sitting: gives them.
        storage: Tune's own records.
        bundles: of one process, and of its workers.
        concurrent: processes at the same time.
        time_budget_s: stop everything after this.
        asha: stop weak trials early; each portion must be one trial.
    """
    _SITTINGS[sitting.name] = sitting
    try:
        with _quiet():
            tune.Tuner(
                tune.with_resources(_work, tune.PlacementGroupFactory(bundles)),
                tune_config=tune.TuneConfig(
                    search_alg=Proposals(sitting.name),
                    scheduler=GroupedAsha(sitting.name) if asha else FIFOScheduler(),
                    num_samples=-1,
                    max_concurrent_trials=concurrent,
                    time_budget_s=time_budget_s,
                    reuse_actors=len(bundles) == 1 and not asha,
                ),
                run_config=tune.RunConfig(
                    name=sitting.name,
                    storage_path=str(storage),
                    verbose=0,
                    callbacks=[Listener(sitting.name)],
                    failure_config=tune.FailureConfig(max_failures=_CRASHES),
                ),
            ).fit()
    finally:
        del _SITTINGS[sitting.name]


class Proposals(Searcher):
    """Hands out the portions of a sitting.

    Args:
        name: of the sitting.
    """

    def __init__(self, name: str) -> None:
        super().__init__(metric="score", mode="max")
        self._name = name

    def suggest(self, trial_id: str) -> Any:
        """The next portion; finished when there are no more."""
        return _SITTINGS[self._name].suggest(trial_id) or Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A process has ended its portion."""
        _SITTINGS[self._name].portion_ended(trial_id, result or {}, error)

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        """What is searched is in the plan of the sweep."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is done is known by the directories of the trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class GroupedAsha(FIFOScheduler):
    """Stops trials that lag behind those which differ in nothing but the set of hyper-parameters.

    Each data set, fold, labelled fraction and seed has an ASHA of its own, because scores of other data, labels or
    validation rows say nothing of a set. The last set that no seed has lost is kept: there is always one to choose.

    Args:
        name: of the sitting, which gives each process one trial.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._groups: dict[tuple[Any, ...], ASHAScheduler] = {}

    def _group(self, trial: Any) -> ASHAScheduler:
        (content,) = trial.config["trials"]
        key = tuple(content[name] for name in ("data", "fold", "labelled_fraction", "seed"))
        if key not in self._groups:
            self._groups[key] = ASHAScheduler("epochs", "score", "max", max_t=10**6, grace_period=3, reduction_factor=3)
        return self._groups[key]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A process was made."""
        self._group(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """An epoch has ended."""
        action = str(self._group(trial).on_trial_result(tune_controller, trial, result))
        return self.CONTINUE if action == self.STOP and not _SITTINGS[self._name].may_stop(trial.trial_id) else action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A process has ended."""
        self._group(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A process was not begun."""
        self._group(trial).on_trial_remove(tune_controller, trial)


class Listener(tune.Callback):
    """Tells the sitting what processes report.

    Args:
        name: of the sitting.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """A process has reported."""
        _SITTINGS[self._name].told(result)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Tune has looked around."""
        _SITTINGS[self._name].running(sum(trial.status == trial.RUNNING for trial in trials))


def _work(config: dict[str, Any]) -> None:
    """What a process does with its portion; what has ended is told every second, in one report."""
    ended: list[str] = []
    told_at = time.monotonic()
    for place, content in enumerate(config["trials"]):
        trial, folder = Trial(**content), Path(config["folder"])
        if config["confirm"]:
            record = confirm_trial(trial, folder, config["sitting"])
        else:
            on_epoch = _by_epoch(config["metric"]) if config["by_epoch"] else _silent
            record = run_trial(trial, folder, config["sitting"], on_epoch)
        ended.append(trial.key)
        if time.monotonic() - told_at < _TELL_S and place + 1 < len(config["trials"]):
            continue
        row = row_of(trial, record)
        score = score_of(row, config["metric"])
        report = {"ended": ended, "epochs": row.get("epochs") or 1}
        tune.report({**report, "score": _NO_SCORE if score is None else score})
        ended, told_at = [], time.monotonic()


def _by_epoch(metric: str) -> Any:
    def on_epoch(epoch: int, expected: int, metrics: Mapping[str, float | None]) -> None:
        if epoch >= expected:  # it has done all its work, so it is told as finished
            return
        row = row_of_epoch(metrics)
        score, chooser = score_of(row, metric), chooser_of(metric, row)
        report = {"epochs": epoch, chooser: row.get(chooser)}
        try:
            tune.report({**report, "score": _NO_SCORE if score is None else score})
        except SystemExit:  # Tune stops the trial; for the run that is an interruption
            raise KeyboardInterrupt from None

    return on_epoch


def _silent(epoch: int, expected: int, metrics: Mapping[str, float | None]) -> None:
    """Where only the end matters."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Tune without its own tables, loggers and progress; signals go to whom they went before."""
    wanted = {
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    before = {name: os.environ.get(name) for name in wanted}
    log = logging.getLogger("ray.tune")
    level = log.level
    main = threading.current_thread() is threading.main_thread()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)} if main else {}
    os.environ.update(wanted)
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
