"""A run from configuration to trained map: here (workers = 0) or on Ray, with the same result to the bit.

The driver is not in the inner loop. It hands out blocks of rounds (an epoch, or less where a checkpoint is due), and
while the workers compute the next one it scores and records the last. A checkpoint that is due is written before the
next block begins, so no more than what lies between two checkpoints is ever repeated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.deep.collapse import MEASURES, verdict
from pipeline.deep.model import described
from pipeline.deep.network import single_precision
from pipeline.environment import environment
from pipeline.errors import Collapsed, MachineError, OutputLost, UserError, line_of
from pipeline.prepared.samples import InputSpec
from pipeline.prepared.shards import Dataset
from pipeline.report import automatic
from pipeline.signals import unhurried
from pipeline.tracking.tracker import Tracker, check_store
from pipeline.training.advice import capacity_advice, early_advice
from pipeline.training.checkpoint import CheckpointStore, Snapshot
from pipeline.training.first import first_snapshot
from pipeline.training.history import HISTORY, History
from pipeline.training.keepsakes import keepsakes
from pipeline.training.local import Group, open_group
from pipeline.training.plan import TrainingPlan, make_plan, open_data
from pipeline.training.rundir import RunDirectory, stored_settings
from pipeline.training.schedule import Schedule
from pipeline.training.scoring import Scorer, summary_of
from pipeline.training.tallies import deep_metrics, map_metrics
from somcore.state import MapState

Say = Callable[[str], None]
OnEpoch = Callable[[int, int, Mapping[str, float | None]], None]


def _nobody(*_: Any) -> None:
    """Where nobody wants to hear."""


def train(
    settings: Mapping[str, Any],
    out: Path | str,
    *,
    resume: bool = False,
    say: Say = _nobody,
    on_epoch: OnEpoch = _nobody,
    group: Group | None = None,
) -> dict[str, Any]:
    """Trains one map and records the run.

    Args:
        settings: flat keys as in `RunConfig`.
        out: directory of the run; must not hold another one.
        resume: go on from the last checkpoint in `out`; with any number of workers.
        say: told in one line what the user should know.
        on_epoch: told (epoch, expected epochs, metrics) after each epoch.
        group: workers that are there already, and stay; None = as many as the settings say, for this run.

    Returns:
        The summary of the run, with the keys of the command's JSON line.

    Raises:
        ValueError: something the user can fix.
        KeyboardInterrupt: interrupted; the state is saved.
    """
    called = time.monotonic()
    directory = RunDirectory(Path(out))
    run = RunConfig.build(directory.settings(settings, resume))
    check_store(run.tracking.uri, "tracking.uri")
    dataset = open_data(run.data.path, None if "data.path" in settings else str(out))
    with single_precision(), ThreadPoolExecutor(1) as aside:
        planning = aside.submit(make_plan, run, dataset)
        with contextlib.nullcontext(group) if group else open_group(run.cluster, say) as workers:
            training = Training(run, planning.result(), dataset, directory, workers, say, on_epoch)
            return training.run(resume, called)


class Training:
    """One run in progress, as its driver sees it."""

    def __init__(
        self,
        run: RunConfig,
        plan: TrainingPlan,
        dataset: Dataset,
        directory: RunDirectory,
        group: Group,
        say: Say,
        on_epoch: OnEpoch,
    ) -> None:
        self._run, self._plan, self._directory = run, plan, directory
        self._dataset, self._group, self._say, self._on_epoch = dataset, group, say, on_epoch
        where = run.train.checkpoints or directory.checkpoints
        self._store = CheckpointStore(where, plan.identity, run.train.keep_checkpoints)
        self._scorer = Scorer(plan, dataset, run.train.evaluate_rows)
        self._tracker = Tracker(directory.path, run.tracking.uri, run.tracking.experiment, say)
        self._history = History(directory.path / HISTORY, run.tracking.moments)
        self._schedule = Schedule(plan, run.train)
        self._started = False
        self._recorded = 0  # the last epoch that the tracker has already

    def run(self, resume: bool, called: float) -> dict[str, Any]:
        """Trains to the end; what was begun is always ended, in MLflow too."""
        if resume:
            self._directory.refuse_other(self._plan.identity, self._run)
        elif self._run.train.checkpoints:
            self._store.refuse_used()
        first = None if resume else first_snapshot(self._plan, self._dataset)
        with self._directory.alone(resume) as directory:  # nobody adds to what is read from here on
            self._directory = directory
            self._tracker.watch(lambda: directory.is_lost)
            snapshot = first or self._store.load_newest(self._say) or first_snapshot(self._plan, self._dataset)
            if first and self._run.train.checkpoints:
                self._store.begin(first)
            self._remember(snapshot.state)
            return self._trained(snapshot, resume, called)

    def _trained(self, snapshot: Snapshot, resume: bool, called: float) -> dict[str, Any]:
        status, summary, reason = "FAILED", None, ""
        try:
            self._announce(resume, snapshot.state)
            self._group.start(self._plan, snapshot)
            self._schedule.start(snapshot.state.round, snapshot.extra.get("seconds", 0.0))
            self._started = True
            self._tracker.metrics({"startup_seconds": time.monotonic() - called}, 0)
            snapshot = self._rounds(snapshot)
            summary = self._finish(snapshot)
            self._directory.refuse_lost()
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            with unhurried():
                raise KeyboardInterrupt(self._save_interrupted()) from None
        except (UserError, OutputLost) as error:
            reason = str(error)
            if isinstance(error, Collapsed):
                numbers = {name: error.details[name] for name in MEASURES}
                self._tracker.metrics(numbers, self._schedule.epoch(error.details["round"]))
            raise
        except (MachineError, OSError) as error:
            reason = line_of(error)
            with unhurried():
                self._say(self._save_interrupted())
            raise
        finally:
            found = {k: v for k, v in (summary or {}).items() if k in ("map_digest", "rounds_at_capacity") and v}
            tags = found or ({"reason": reason} if reason else None)
            with unhurried():
                self._tracker.finish(status, tags)
                self._directory.end(status, self._tracker.run_id)
        return {**summary, "run_id": self._tracker.run_id}

    def _remember(self, state: MapState) -> None:
        """Takes up the history of earlier sittings, up to where this one begins."""
        history, epoch = self._history, state.round // self._plan.rounds_per_epoch
        if state.round:
            self._history = history = History.load(history.path, self._run.tracking.moments)
        history.cut(state.round, epoch)
        history.add(state, self._schedule.samples(state))

    def _announce(self, resume: bool, state: MapState) -> None:
        """Writes whose directory this is, and begins the record."""
        settings, plan = stored_settings(self._run), self._plan
        if resume and not self._directory.record and not state.round:
            self._say(f"'{self._directory.path}' holds no run yet: starting from the beginning.")
        elif resume:
            self._say(f"Going on after round {state.round}.")
        else:
            for line in early_advice(self._run, plan.deep, plan.device, self._dataset.manifest):
                self._say(line)
        resolved = {f"map.{k}": v for k, v in plan.config.to_dict().items() if k not in ("variant", "seed")}
        resolved |= {} if plan.deep is None else plan.deep.flat()
        size = {"num_samples": plan.num_samples, "expected_rounds": plan.expected_epochs * plan.rounds_per_epoch}
        self._directory.write(settings=settings, status="running", **plan.identity, **size, map=plan.config.to_dict())
        about = {"num_samples": plan.num_samples, "data_place": plan.data_path, "split": self._scorer.split}
        tags = environment() | plan.identity | about
        name = f"{self._run.train.model}-{self._run.train.labelled_fraction:g}-{self._run.train.seed}"
        self._recorded = self._tracker.last_step("nodes") if resume else 0
        self._tracker.start(name, settings | resolved, tags)

    def _rounds(self, snapshot: Snapshot) -> Snapshot:
        schedule, state, noted = self._schedule, snapshot.state, min(self._recorded, self._history.last)
        if schedule.ends_epoch(state) and schedule.epoch(state.round) > noted:
            self._note(snapshot)  # a run that was stopped at the end of an epoch had saved it before it was noted
        if state.finished:
            return snapshot
        self._group.submit(schedule.block_end(state))
        while True:
            snapshot = self._group.wait()
            self._directory.refuse_lost()
            state = snapshot.state
            self._history.add(state, schedule.samples(state))
            if schedule.is_due(state):
                self._save(snapshot)
            if not state.finished:
                self._group.submit(schedule.block_end(state))
            if schedule.ends_epoch(state):
                self._on_epoch(schedule.epoch(state.round), self._plan.expected_epochs, self._note(snapshot))
            if state.finished:
                return snapshot

    def _note(self, snapshot: Snapshot) -> dict[str, float | None]:
        """The numbers of an epoch that has ended, for report and MLflow; what earlier sittings noted stays as it is."""
        epoch, every = self._schedule.epoch(snapshot.state.round), self._run.train.evaluate_epochs
        seconds, samples = self._schedule.totals(snapshot.state)
        metrics: dict[str, float | None] = {
            **map_metrics(snapshot.tallies),
            "nodes": snapshot.state.num_nodes,
            "seconds": seconds,
            "samples_per_second": samples / seconds,
        }
        if every and epoch % every == 0:
            scores = self._scorer.sample(snapshot)
            metrics |= {k: v for k, v in scores.items() if k != "quantization_error"}
        if self._plan.deep is not None:
            metrics |= deep_metrics(snapshot.tallies)
        if epoch > self._recorded:
            self._tracker.metrics(metrics, epoch)
        if epoch > self._history.last:
            self._history.note(epoch, metrics)
        return metrics

    def _finish(self, snapshot: Snapshot) -> dict[str, Any]:
        state, plan = snapshot.state, self._plan
        seconds, samples = self._schedule.totals(state)
        scores = self._scorer.final(snapshot)
        about: dict[str, Any] = {"num_classes": plan.num_classes, "model": self._run.train.model, **plan.identity}
        about |= {"class_names": self._dataset.class_names, "input": InputSpec.of(self._dataset.manifest).to_dict()}
        path = self._directory.save_map(state, plan.config, *described(plan, snapshot, about))
        epochs = self._schedule.epoch(state.round)
        found = {**self._scorer.scored(), **scores, **verdict(plan.deep, snapshot.network), **self._at_capacity(state)}
        if found.get("collapsed"):
            self._say("The representation has collapsed; deep.on_collapse=go_on kept the result all the same.")
        if lost := self._scorer.lost_classes(state):
            self._say(lost)
        summary = summary_of(self._run, state, epochs, found, snapshot.digest(), seconds, samples, self._directory.path)
        self._tracker.metrics({k: v for k, v in scores.items() if v is not None}, epochs)
        self._directory.write(summary=summary)
        self._history.save()
        kept = (path, self._directory.path / "run.json", self._history.path)
        for file in (*kept, *keepsakes(self._directory.path, self._dataset), *self._report()):
            self._tracker.artifact(file)
        return summary

    def _at_capacity(self, state: MapState) -> dict[str, int]:
        """In how many rounds growth found no free node; said where they are many, since it is hidden by the pruning."""
        if not self._plan.config.is_growing or self._plan.deep is not None:
            return {}
        counts = [numbers["full_rounds"] for numbers in self._history.epochs if "full_rounds" in numbers]
        if len(counts) < self._schedule.epoch(state.round):
            return {}  # a training that was resumed, and what was before is not known
        full = round(sum(counts))
        if advice := capacity_advice(self._plan.config, self._run.map, full, state.round):
            self._say(advice)
        return {"rounds_at_capacity": full}

    def _report(self) -> list[Path]:
        """The report, if one is wanted."""
        tracking = self._run.tracking
        asked = self._directory.path, tracking.uri != "none", self._say
        return automatic.report_of_run(*asked) if automatic.wanted(tracking.report) else []

    def _save(self, snapshot: Snapshot) -> bool:
        """Whether it could be written. If not, that is told; the run goes on, the earlier checkpoints stay."""
        try:
            self._store.save(dataclasses.replace(snapshot, extra={"seconds": self._schedule.totals(snapshot.state)[0]}))
            self._history.save()
        except OSError as error:
            reason = line_of(error).rstrip(".")
            self._say(f"The checkpoint after round {snapshot.state.round} could not be written: {reason}.")
            return False
        finally:
            self._schedule.saved()
        return True

    def _save_interrupted(self) -> str:
        """Saves what there is; what that meets with in its turn is said, and does not hide why the run ended."""
        if self._directory.is_lost and not self._run.train.checkpoints:
            return f"The state is NOT saved: '{self._directory.path}' was removed, moved or replaced."
        where = self._run.train.checkpoints or self._directory.path
        try:
            snapshot = self._group.latest() if self._started else None
            if snapshot is None or snapshot.state.round == 0:
                return "No round was finished yet." if self._started else "Nothing was trained yet in this sitting."
            if self._save(snapshot):
                return f"State saved after round {snapshot.state.round} in {where}; --resume goes on."
        except Exception as error:
            self._say(line_of(error))
        return f"The state is NOT saved; --resume goes on from the last checkpoint in {where}, if there is one."
