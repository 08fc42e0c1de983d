"""A sweep on Ray Tune: labelled fractions, seeds and sets of hyper-parameters over one or several data sets.

Tune places, starts, restarts and stops processes. What is finished is known by the directories of the trials and by
nothing else (`pipeline.sweeps.trials`), so a sweep that was interrupted in whatever way is gone on with by doing what
is left. Small trainings are done in one process, several to one trial of Tune, because a process takes seconds to
start; a training with workers of its own is one trial of Tune with a placement group.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import ClusterConfig
from pipeline.errors import must
from pipeline.places import alone_in
from pipeline.report import automatic
from pipeline.signals import unhurried
from pipeline.sweeps.folder import ENDED, FAILED, STOPPED, TRIALS
from pipeline.sweeps.outcome import all_failed, summarise, write_results, write_so_far
from pipeline.sweeps.plan import SweepOptions, SweepPlan
from pipeline.sweeps.planning import make_plan
from pipeline.sweeps.portions import Listed, Optuna, TrialSource, portion_size
from pipeline.sweeps.progress import Progress
from pipeline.sweeps.record import Recorder, kept_place
from pipeline.sweeps.resources import Room, refuse_client, trial_resources
from pipeline.sweeps.selection import chooser_of, chosen_trials
from pipeline.sweeps.trials import Trial, TrialDirectory, row_of, sets_begun, settled
from pipeline.sweeps.waiting import Waiting

Say = Callable[[str], None]
OnTrials = Callable[[int, int, str], None]


def sweep(
    options: SweepOptions,
    out: Path | str,
    *,
    resume: bool = False,
    workers: int | None = None,
    concurrent: int | None = None,
    time_budget_s: float | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    say: Say = lambda line: None,
    on_trials: OnTrials = lambda ended, total, note: None,
) -> dict[str, Any]:
    """Does the trials of a sweep that are left to do, and chooses the best by validation.

    Args:
        options: what is swept.
        out: folder of the sweep; must not hold another one.
        resume: go on with the sweep in `out`; what is finished is neither lost nor repeated.
        workers: of each trial; 0 = each trial in one process; None = that of a sweep that goes on, else 0.
        concurrent: trials at the same time; None = as many as there are CPUs for.
        time_budget_s: start and leave nothing running after this; None = no limit.
        address: a Ray cluster; None = one of its own.
        tracking_uri: MLflow; None = that of a sweep that goes on, else MLflow's own; "none" = nothing is recorded.
        experiment: name of the MLflow experiment; None = that of a sweep that goes on, else somgrad.
        say: told in one line what the user should know.
        on_trials: told (ended, all, note) whenever a trial has ended.

    Returns:
        trials, finished, failed, to_retry (failed ones that `resume` tries again), stopped, waiting (not begun, or
        not done; all counts), rows, best (a row), selected (per data set and fraction), run_id, out, seconds.

    Raises:
        UserError: something the user can fix.
        KeyboardInterrupt: interrupted; what is finished stays.
    """
    out, minutes = Path(out), None if time_budget_s is None else time_budget_s / 60
    for name, number in (("--concurrent", concurrent), ("--time-budget", minutes)):
        if number is not None and not 0 < number < math.inf:
            raise must(name, "a finite number > 0", number)
    refuse_client(address)
    with alone_in(out, "a sweep"):
        plan = make_plan(options, out, resume, workers, say)
        store, experiment = kept_place(out, tracking_uri, experiment)
        from pipeline.sweeps import tune  # noqa: F401 - a thread imports MLflow later, and trips over half of an import

        recorder = Recorder(plan, store, experiment, say, resume)
        return _Sitting(plan, recorder, concurrent, say, on_trials).run(time_budget_s, address)


class _Sitting:
    """A sitting of a sweep, as its driver sees it."""

    def __init__(self, plan: SweepPlan, recorder: Recorder, concurrent: int | None, say: Say, on: OnTrials) -> None:
        self.plan, self.recorder, self.concurrent, self.say = plan, recorder, concurrent, say
        self.metric = str(plan.definition["metric"])
        self.name = uuid.uuid4().hex[:8]
        self.folder = plan.folder / TRIALS
        self.began = time.monotonic()
        self.portions: dict[str, list[Trial]] = {}
        self._waiting = Waiting(self.folder, say)
        self.status: dict[str, str] = {}
        self.trials: dict[str, Trial] = {}
        self.progress = Progress(plan.num_trials, self.metric, on, recorder.progress)
        self._confirming = False
        self._tried: set[str] = set()
        self._ends_at = math.inf
        self.source: TrialSource = Listed([], 1)
        each_epoch = {"train.evaluate_epochs": 1} if plan.stops_early else {}
        self._changes: dict[str, Any] = {"cluster.workers": plan.workers, **each_epoch}  # of the settings of all trials

    def run(self, time_budget_s: float | None, address: str | None) -> dict[str, Any]:
        """Does what is left to do; the record is ended whatever happens."""
        self._look_around()
        status, result, failure = "FAILED", None, None
        self.recorder.start()
        try:
            for key, trial in self.trials.items():
                if self.status.get(key) in ENDED:
                    self.recorder.ended(trial)  # if it was not sent yet, it is now
            if self.progress.done < self.plan.num_trials or self._unconfirmed():
                self._tune(time_budget_s, address)
                self._catch_up()
            self.recorder.drain()
            result = self._result()
            failure = all_failed(result, next(map(self.record_of, self.trials.values()), {}))
            status = "FAILED" if failure else "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            done = f"{self.progress.done} of {self.plan.num_trials} trials are done"
            raise KeyboardInterrupt(f"{done}; --resume goes on.") from None
        finally:
            with unhurried():
                self._end(status, result)
        if failure:
            raise failure
        return {**result, "run_id": self.recorder.run_id}

    def record_of(self, trial: Trial) -> dict[str, Any]:
        """What is known of a trial."""
        return TrialDirectory(self.folder / trial.key).record

    def _look_around(self) -> None:
        """Which trials there are, and which have ended in earlier sittings."""
        if self.plan.learns:
            sets = sets_begun(self.folder)
            self.source = Optuna(self.plan, self.metric, self.record_of, sets)
        else:
            sets = dict(enumerate(self.plan.sets()))
        for index, values in sets.items():
            for trial in self.plan.trials_of(index, values):
                self._note(trial)
        if self.progress.done:
            self.say(f"{self.progress.done} of {self.plan.num_trials} trials were done before.")

    def _note(self, trial: Trial) -> None:
        self.trials[trial.key] = trial
        record = self.record_of(trial)
        if settled(record):
            self.status[trial.key] = record["status"]
            self.progress.known(record["status"], row_of(trial, record))

    def _tune(self, time_budget_s: float | None, address: str | None) -> None:
        """Hands what is left to Ray Tune."""
        from pipeline.cluster.session import Session, nodes
        from pipeline.sweeps import tune

        session = Session(ClusterConfig(address=address))
        try:
            asked = self.plan.definition["settings"], self.plan.workers, self.concurrent
            cpus = [node["CPU"] for node in nodes() if node.get("CPU")] or [1.0]
            request, concurrent, each = trial_resources(*asked, cpus)
            patience_s = float(asked[0].get("cluster.placement_s", ClusterConfig().placement_s))
            if self.plan.workers:
                self._changes["cluster.cpus_per_worker"] = each
            self._ends_at = math.inf if time_budget_s is None else time.monotonic() + time_budget_s

            def fit() -> None:
                self._room, self._waiting = Room(request, patience_s, self.say), Waiting(self.folder, self.say)
                left_s = None if time_budget_s is None else max(1.0, self._ends_at - time.monotonic())
                tune.fit(self, self.plan.folder / "tune", request, concurrent, left_s, self.plan.stops_early)

            left = [trial for key, trial in self.trials.items() if key not in self.status]
            if not self.plan.learns:
                self.source = Listed(left, portion_size(self.plan, len(left), concurrent))
            if left or self.plan.learns:
                fit()
            while time.monotonic() < self._ends_at and (chosen := self._unconfirmed()):
                if not self._confirming:
                    self.say(f"{len(chosen)} chosen trials are trained again by somcore: their figures, their maps.")
                self._confirming = True
                self._tried |= {trial.key for trial in chosen}
                self.source = Listed(chosen, max(1, math.ceil(len(chosen) / (2 * concurrent))))
                fit()
        finally:
            with unhurried():
                session.close()

    def _unconfirmed(self) -> list[Trial]:
        """Chosen trials that were only screened so far: when all trials have ended."""
        if not self.plan.screened or self.progress.done < self.plan.num_trials:
            return []
        rows = [row_of(trial, self.record_of(trial)) for trial in self.trials.values()]
        screened = {row["trial"] for row in rows if row.get("screened")}
        return [self.trials[key] for key in sorted(chosen_trials(rows, self.metric) & screened - self._tried)]

    def suggest(self, tune_id: str) -> dict[str, Any] | None:
        """The next portion for a process."""
        if (portion := self.source.next()) is None:
            return None
        for trial in portion:
            self.trials[trial.key] = trial
        self.portions[tune_id] = portion
        return {
            "trials": [trial.to_dict(**self._changes) for trial in portion],
            "folder": str(self.folder),
            "sitting": self.name,
            "metric": self.metric,
            "by_epoch": self.plan.stops_early,
            "confirm": self._confirming,
        }

    def told(self, result: Mapping[str, Any]) -> None:
        """Trials have ended, as their process says."""
        for key in result.get("ended") or ():
            self._waiting.ended(key)
            trial = self.trials[key]
            if self._confirming:
                self.recorder.ended(trial)
                if error := self.record_of(trial).get("not_confirmed"):
                    self.say(f"{key} keeps the figures of its screening; --resume trains it again. {error}")
            elif self.status.get(key) not in ENDED:
                record = self.record_of(trial)
                self.status[key] = record["status"]
                self.recorder.ended(trial)
                if record["status"] == FAILED:
                    self.say(f"{key} failed after {record['attempts']} attempts: {record['error']}")
                self.progress.ended(record["status"], row_of(trial, record))

    def portion_ended(self, tune_id: str, last: Mapping[str, Any], failed: bool) -> None:
        """A process has done its portion, or was stopped by the scheduler."""
        portion = self.portions.pop(tune_id, [])
        early = self.plan.stops_early and time.monotonic() < self._ends_at and not failed
        for trial in portion:
            if trial.key not in self.status and early:
                self.status[trial.key] = STOPPED
                kept = ("epochs", chooser_of(self.metric, last))
                self.recorder.stopped(trial, {k: last[k] for k in kept if k in last})
                self.progress.ended(STOPPED, {})
        if portion and all(trial.key in self.status for trial in portion):
            self.source.ended(portion)

    def _catch_up(self) -> None:
        """What ended untold, because time was up."""
        for key, trial in self.trials.items():
            record = self.record_of(trial)
            if key not in self.status and settled(record, self.name):
                self.told({"ended": [key]})
            elif key in self._tried and (record.get("not_confirmed") or not record.get("screened")):
                self.recorder.ended(trial)

    def running(self, count: int) -> None:
        """There are so many processes at this moment."""
        self._room.running(count)
        self._waiting.running(self.portions.values())

    def may_stop(self, tune_id: str) -> bool:
        """Whether another set is left to choose, where a scheduler stops this trial: one that no seed has lost."""
        (trial,) = self.portions[tune_id]
        gone = [self.trials[key] for key, status in self.status.items() if status in (STOPPED, FAILED)]
        lost = {other.index for other in gone if other.choice == trial.choice}
        return len(lost | {trial.index}) < self.plan.num_sets

    def _result(self) -> dict[str, Any]:
        rows = []
        for key, trial in self.trials.items():
            row = row_of(trial, self.record_of(trial))
            status = self.status.get(key, row["status"] or "waiting")
            rows.append({**row, "status": status, "run_id": self.recorder.run_id_of(trial)})
        result = summarise(rows, self.metric, self.plan.num_trials)
        return {**result, "out": str(self.plan.folder), "seconds": round(time.monotonic() - self.began, 3)}

    def _end(self, status: str, result: dict[str, Any] | None) -> None:
        """Writes what came out, and ends the record, also where a file cannot be written."""
        tags, artifacts = dict[str, Any](), list[Path]()
        try:
            if status == "KILLED":
                write_so_far(self.plan.folder, self._result()["rows"], self.say)
            if result is not None:
                artifacts += write_results(self.plan.folder, self.plan.model, result)
                if automatic.wanted() and result["finished"]:
                    artifacts += automatic.report_of_sweep(self.plan.folder, self.say)
                if best := result["best"]:
                    tags = {"best_trial": best["trial"], "chosen_by": best["chosen_by"], "best_run_id": best["run_id"]}
                    scores = {"best_score": best[best["chosen_by"]], f"best_{self.metric}": best.get(self.metric)}
                    self.recorder.progress(scores, self.progress.done)  # also where another metric chooses now
        except BaseException:
            status = "FAILED"
            raise
        finally:
            self.recorder.finish(status, tags, artifacts)
