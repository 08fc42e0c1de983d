"""A sweep on Ray Tune: labelled fractions, seeds and sets of hyper-parameters over one or several data sets.

Tune places, starts, restarts and stops processes. What is finished is known by the directories of the trials and by
nothing else (`pipeline.trials`), so a sweep that was interrupted in whatever way is gone on with by doing what is
left. Small trainings are done in one process, several to one trial of Tune, because a process takes seconds to
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
from pipeline.errors import MachineError, must
from pipeline.report import automatic
from pipeline.selection import best_trial, chooser_of, metric_of, score_of, selected, write_table
from pipeline.sets import Listed, Optuna, Source
from pipeline.signals import unhurried
from pipeline.sweep_plan import TRIALS, SweepOptions, SweepPlan, alone_in, make_plan, replaced
from pipeline.sweep_record import Recorder
from pipeline.sweep_resources import trial_resources
from pipeline.trials import ENDED, FAILED, FINISHED, STOPPED, Trial, TrialDirectory, row_of, told_of

Say = Callable[[str], None]
OnTrials = Callable[[int, int, str], None]

TABLE = "trials.csv"
_MAX_PORTION = 50
_SAY_S = 5.0


def sweep(
    options: SweepOptions,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 0,
    concurrent: int | None = None,
    time_budget_s: float | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = "somgrad",
    say: Say = lambda line: None,
    on_trials: OnTrials = lambda ended, total, note: None,
) -> dict[str, Any]:
    """Does the trials of a sweep that are left to do, and chooses the best by validation.

    Args:
        options: what is swept.
        out: folder of the sweep; must not hold another one.
        resume: go on with the sweep in `out`; what is finished is neither lost nor repeated.
        workers: of each trial; 0 = each trial in one process.
        concurrent: trials at the same time; None = as many as there are CPUs for.
        time_budget_s: start and leave nothing running after this; None = no limit.
        address: a Ray cluster; None = one of its own.
        tracking_uri: MLflow; None = MLflow's own, "none" = nothing is recorded.
        experiment: name of the MLflow experiment.
        say: told in one line what the user should know.
        on_trials: told (ended, all, note) whenever a trial has ended.

    Returns:
        trials, finished, failed, stopped (counts), rows, best (a row), selected (per data set and fraction),
        run_id, out, seconds.

    Raises:
        UserError: something the user can fix.
        KeyboardInterrupt: interrupted; what is finished stays.
    """
    for name, number in (("--concurrent", concurrent), ("--time-budget", time_budget_s)):
        if number is not None and number <= 0:
            raise must(name, "> 0", number)
    if workers < 0:
        raise must("--workers", "an integer >= 0 (0: in one process)", workers)
    with alone_in(out):
        plan = make_plan(options, out, resume)
        recorder = Recorder(plan, tracking_uri, experiment, say, resume)
        return _Sweep(plan, recorder, workers, concurrent, say, on_trials).run(time_budget_s, address)


class _Sweep:
    """A sitting of a sweep, as its driver sees it."""

    def __init__(
        self, plan: SweepPlan, recorder: Recorder, workers: int, concurrent: int | None, say: Say, on: OnTrials
    ) -> None:
        self.plan, self.recorder, self.workers, self.concurrent, self.say = plan, recorder, workers, concurrent, say
        self.on_trials, self._last = on, list[str]()
        self.metric = metric_of(plan.model, plan.num_classes)
        self.sitting = uuid.uuid4().hex[:8]
        self.folder = plan.folder / TRIALS
        self.began = self._said_at = time.monotonic()
        self.portions: dict[str, list[Trial]] = {}
        self.status: dict[str, str] = {}
        self.trials: dict[str, Trial] = {}
        self._before = 0
        self._best: tuple[float, str] | None = None
        self._ends_at = math.inf
        self.source: Source

    def run(self, time_budget_s: float | None, address: str | None) -> dict[str, Any]:
        """Does what is left to do; the record is ended whatever happens."""
        self._look_around()
        status, result = "FAILED", None
        self.recorder.start()
        try:
            for key, trial in self.trials.items():
                if self.status.get(key) in ENDED:
                    self.recorder.ended(trial)  # if it was not sent yet, it is now
            if self._before < self.plan.num_trials:
                self._tune(time_budget_s, address)
            self.recorder.drain()
            result = self._result()
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            done = sum(s in ENDED for s in self.status.values())
            raise KeyboardInterrupt(f"{done} of {self.plan.num_trials} trials are done; --resume goes on.") from None
        finally:
            with unhurried():
                self._end(status, result)
        if result["failed"] == self.plan.num_trials:
            raise MachineError(f"All {self.plan.num_trials} trials failed. {result['rows'][0]['error']}")
        return {**result, "run_id": self.recorder.run_id}

    def record_of(self, trial: Trial) -> dict[str, Any]:
        """What is known of a trial."""
        return TrialDirectory(self.folder / trial.key).record

    def _look_around(self) -> None:
        """Which trials there are, and which have ended in earlier sittings."""
        if self.plan.definition["search"] == "optuna":
            known: dict[int, dict[str, Any]] = {}
            for path in sorted(self.folder.glob("*")):
                record = TrialDirectory(path).record
                if "index" in record:
                    known[record["index"]] = record["values"]
            sets = known
            self.source = Optuna(self.plan, self.metric, self.record_of, known)
        else:
            sets = dict(enumerate(self.plan.sets()))
        for index, values in sets.items():
            for trial in self.plan.trials_of(index, values):
                self._note(trial)
        self._before = sum(s in ENDED for s in self.status.values())
        if self._before:
            self.say(f"{self._before} of {self.plan.num_trials} trials were done before.")

    def _note(self, trial: Trial) -> None:
        self.trials[trial.key] = trial
        record = self.record_of(trial)
        if record.get("status") in ENDED:
            self.status[trial.key] = record["status"]
            self._compare(row_of(trial, record))

    def _compare(self, row: Mapping[str, Any]) -> None:
        score = score_of(dict(row), self.metric)
        if row["status"] == FINISHED and score is not None and (self._best is None or score > self._best[0]):
            self._best = (score, row["trial"])

    def _tune(self, time_budget_s: float | None, address: str | None) -> None:
        """Hands what is left to Ray Tune."""
        from pipeline import sweep_tune
        from pipeline.session import Session

        session = Session(ClusterConfig(address=address))
        try:
            import ray

            cpus = ray.cluster_resources().get("CPU", 1.0)
            request, concurrent, each = self._resources(cpus)
            if self.plan.definition["search"] != "optuna":
                left = [trial for key, trial in self.trials.items() if key not in self.status]
                alone = self.workers or self.plan.definition["scheduler"] != "none"
                portion = 1 if alone else max(1, min(_MAX_PORTION, math.ceil(len(left) / (4 * concurrent))))
                self.source = Listed(left, portion)
            self._ends_at = math.inf if time_budget_s is None else time.monotonic() + time_budget_s
            self._each = each
            asha = self.plan.definition["scheduler"] == "asha"
            sweep_tune.fit(self, self.plan.folder / "tune", request, concurrent, time_budget_s, asha)
        finally:
            with unhurried():
                session.close()

    def _resources(self, cpus: float) -> tuple[list[dict[str, float]], int, float]:
        """Bundles of a trial, trials at the same time, CPUs of a worker."""
        return trial_resources(self.plan.definition["settings"], self.workers, self.concurrent, cpus)

    # ---- asked and told by Tune

    def suggest(self, tune_id: str) -> dict[str, Any] | None:
        """The next portion for a process."""
        portion = self.source.next()
        if portion is None:
            return None
        for trial in portion:
            self.trials[trial.key] = trial
        self.portions[tune_id] = portion
        machines = {"cluster.workers": self.workers} | ({"cluster.cpus_per_worker": self._each} if self.workers else {})
        asha = self.plan.definition["scheduler"] == "asha"
        if asha:
            machines["train.evaluate_epochs"] = 1
        return {
            "trials": [replaced(trial, **machines).to_dict() for trial in portion],
            "folder": str(self.folder),
            "sitting": self.sitting,
            "metric": self.metric,
            "by_epoch": asha,
        }

    def told(self, result: Mapping[str, Any]) -> None:
        """A trial has ended, as its process says."""
        key = result.get("trial")
        if key is None or result.get("status") not in ENDED or self.status.get(key) in ENDED:
            return
        trial = self.trials[key]
        record = self.record_of(trial)
        self.status[key] = record["status"]
        row = row_of(trial, record)
        self._compare(row)
        self._last = told_of(row)
        self.recorder.ended(trial)
        if record["status"] == FAILED:
            self.say(f"{key} failed after {record['attempts']} attempts: {record['error']}")
        self._say_progress()

    def portion_ended(self, tune_id: str, last: Mapping[str, Any], failed: bool) -> None:
        """A process has done its portion, or was stopped by the scheduler."""
        portion = self.portions.pop(tune_id, [])
        early = self.plan.definition["scheduler"] != "none" and time.monotonic() < self._ends_at and not failed
        for trial in portion:
            if trial.key not in self.status and early:
                self.status[trial.key] = STOPPED
                self.recorder.stopped(trial, {k: last[k] for k in ("epochs", chooser_of(self.metric)) if k in last})
                self._say_progress()
        if portion and all(trial.key in self.status for trial in portion):
            self.source.ended(portion)

    def _say_progress(self) -> None:
        done, now, total = sum(s in ENDED for s in self.status.values()), time.monotonic(), self.plan.num_trials
        counts = {s: sum(v == s for v in self.status.values()) for s in (FAILED, STOPPED)}
        parts = [f"{n} {s}" for s, n in counts.items() if n]
        if self._best is not None:
            parts.append(f"best {chooser_of(self.metric)} {abs(self._best[0]):.4g} ({self._best[1]})")
        self.on_trials(done, total, ", ".join([*parts, *self._last]))
        if now - self._said_at < _SAY_S and done < total:
            return
        self._said_at = now
        metrics: dict[str, float | None] = {"trials_done": done, "trials_failed": counts[FAILED]}
        self.recorder.progress(metrics | ({"best_score": abs(self._best[0])} if self._best else {}), done)

    # ---- what came out

    def _result(self) -> dict[str, Any]:
        rows = []
        for key, trial in self.trials.items():
            row = row_of(trial, self.record_of(trial))
            status = self.status.get(key, row["status"] or "waiting")
            rows.append({**row, "status": status, "run_id": self.recorder.run_id_of(trial)})
        counts = {name: sum(row["status"] == name for row in rows) for name in (FINISHED, FAILED, STOPPED)}
        return {
            "trials": self.plan.num_trials,
            **counts,
            "best": best_trial(rows, self.metric),
            "selected": selected(rows, self.metric),
            "rows": rows,
            "out": str(self.plan.folder),
            "seconds": round(time.monotonic() - self.began, 3),
        }

    def _end(self, status: str, result: dict[str, Any] | None) -> None:
        tags: dict[str, Any] = {}
        artifacts = []
        if result is not None:
            path = self.plan.folder / TABLE
            write_table(path, result["rows"])
            artifacts = [path, self.plan.folder / "sweep.json"]
            if automatic.wanted(self.plan.definition["settings"].get("tracking.report")):
                artifacts += automatic.report_of_sweep(self.plan.folder, self.say)
            if result["best"]:
                tags = {"best_trial": result["best"]["trial"], "chosen_by": result["best"]["chosen_by"]}
                test = result["best"].get(self.metric)
                self.recorder.progress({f"best_{self.metric}": test}, self.plan.num_trials)
        self.recorder.finish(status, tags, artifacts)
