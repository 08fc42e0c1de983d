"""A sweep in MLflow: one run for the sweep, a child for each trial that has ended.

Trials write journals only. A thread of the driver sends the journal of a trial as soon as it has ended, begun and
ended in one go, so no child is left running; what a killed sweep could not send, the next one sends.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.environment import environment
from pipeline.errors import MachineError, TrackingUnavailable
from pipeline.places import write_atomically
from pipeline.sweeps.folder import SWEEP, TRIALS
from pipeline.sweeps.plan import FREE, SweepPlan
from pipeline.sweeps.trials import Trial, stop_trial
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender
from pipeline.tracking.stores import bare
from pipeline.tracking.tracker import Tracker

_RETRY_S = 10.0
_PATIENCE_S = 60.0

Item = tuple[Trial, Mapping[str, Any] | None]


def kept_place(folder: Path, uri: str | None, experiment: str | None) -> tuple[str | None, str]:
    """Store and experiment of a sweep: as asked, else as before, else MLflow's own and somgrad; kept beside its plan.

    Args:
        folder: of the sweep, whose plan is there.
        uri: of the store, with the login that is not kept.
        experiment: its name.
    """
    content = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
    before = content.get("tracking", {})
    uri, experiment = uri or before.get("uri"), experiment or before.get("experiment", "somgrad")
    content["tracking"] = {"uri": uri and bare(uri), "experiment": experiment}
    write_atomically(folder / SWEEP, (json.dumps(content, indent=1) + "\n").encode())
    return uri, experiment


def kept_store(folder: Path) -> str | None:
    """The store of a sweep that goes on; None where none was named, or there is no sweep."""
    with contextlib.suppress(OSError, ValueError):
        store: str | None = json.loads((folder / SWEEP).read_text(encoding="utf-8")).get("tracking", {}).get("uri")
        return store
    return None


class Recorder:
    """Records a sweep. Nothing in here raises because of a server.

    Args:
        plan: the sweep.
        uri: MLflow tracking URI; None = MLflow's own, "none" = journals only.
        experiment: name of the experiment.
        say: told once, in one line, that the server cannot be reached.
        resumed: whether there may be runs in MLflow whose id could not be noted.
    """

    def __init__(
        self, plan: SweepPlan, uri: str | None, experiment: str, say: Callable[[str], None], resumed: bool
    ) -> None:
        self._plan, self._uri, self._experiment, self._resumed = plan, uri, experiment, resumed
        unique = {"sweep": plan.name, "kind": "sweep"}
        self._parent = Tracker(plan.folder, uri, experiment, say, unique=unique if resumed else None)
        self._say = say
        self._items: queue.Queue[Item | None] = queue.Queue()
        self._peer: Sender | None = None
        self._unsent: list[Trial] = []
        self._until = float("inf")
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._work, name="sweep-record", daemon=True)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the sweep's run."""
        return self._parent.run_id

    def start(self) -> None:
        """Begins the record of the sweep, or goes on with it."""
        about = {"sweep": self._plan.name, "kind": "sweep", "model": self._plan.model}
        about["data"] = ",".join(dict.fromkeys(data.name for data in self._plan.data_sets))
        about["labelled_fraction"] = ",".join(f"{f:g}" for f in self._plan.definition["fractions"])
        about |= {key: str(self._plan.definition[key]) for key in FREE}
        about["mlflow.note.content"] = f"{self._plan.num_trials} trials in {self._plan.folder}"
        self._parent.start(f"sweep-{self._plan.model}-{self._plan.name}", _plain(self._plan), environment() | about)
        self._thread.start()

    def ended(self, trial: Trial) -> None:
        """A trial has ended by itself."""
        self._items.put((trial, None))

    def stopped(self, trial: Trial, last: Mapping[str, Any]) -> None:
        """A scheduler is stopping a trial; noted when its process has gone."""
        self._items.put((trial, last))

    def progress(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Numbers of the sweep itself, by the count of trials that have ended."""
        self._parent.metrics(metrics, step)

    def drain(self) -> None:
        """Sends the trials that are left, for a while; no more will come."""
        self._until = time.monotonic() + _PATIENCE_S
        if self._thread.is_alive():
            self._items.put(None)
            self._thread.join()

    def finish(self, status: str, tags: Mapping[str, Any], artifacts: list[Path]) -> None:
        """Ends the record of the sweep."""
        self.drain()
        for path in artifacts:
            self._parent.artifact(path)
        self._parent.finish(status, tags)

    def run_id_of(self, trial: Trial) -> str | None:
        """MLflow's id of a trial's run, as far as it was sent."""
        return self._sender(trial).run_id

    def _sender(self, trial: Trial, *tags: Mapping[str, str] | None) -> Sender:
        """Of a trial, to the store of the sweep's run."""
        path = self._plan.folder / TRIALS / trial.key
        return Sender(path, Journal(path), self._parent.store or self._uri, self._experiment, *tags)

    def _work(self) -> None:
        last = False
        while not (last and not self._unsent):
            last = last or self._take()
            self._send()
            if last and (self._unsent and time.monotonic() > self._until):
                self._say(f"Tracking: {len(self._unsent)} trials were not sent; --resume sends them later.")
                return
            if last and self._unsent:
                time.sleep(0.5)

    def _take(self) -> bool:
        """Waits for news; whether it was the last."""
        try:
            item = self._items.get(timeout=1.0)
        except queue.Empty:
            return False
        if item is None:
            return True
        trial, stopped = item
        if stopped is not None:
            try:
                stop_trial(trial, self._plan.folder / TRIALS, stopped)
            except (MachineError, OSError) as error:
                self._say(str(error))
                return False
        if self._uri != "none":
            self._unsent.append(trial)
        return False

    def _send(self) -> None:
        if not self._unsent or time.monotonic() < self._retry_at:
            return
        parent = self._parent.run_id
        if parent is None:  # it has not been made yet, or the server is away
            return
        try:
            while self._unsent:
                self._send_one(self._unsent[0], parent)
                self._unsent.pop(0)
        except TrackingUnavailable:  # the tracker of the sweep has told it
            self._retry_at = time.monotonic() + _RETRY_S

    def _send_one(self, trial: Trial, parent: str) -> None:
        unique = {"sweep": self._plan.name, "trial": trial.key}
        folds = sum(data.name == trial.data for data in self._plan.data_sets)
        about = {
            "kind": "trial",
            "data": trial.data,
            "model": self._plan.model,
            "labelled_fraction": f"{trial.labelled_fraction:g}",
            "set": str(trial.index),
            "mlflow.parentRunId": parent,
            **({"fold": trial.fold, "folds": str(folds)} if trial.fold else {}),
        }
        tags = about if self._resumed else {**about, **unique}
        sender = self._sender(trial, tags, unique if self._resumed else None)
        if self._peer is not None:
            sender.share(self._peer)
        if sender.behind():
            sender.send()
            self._peer = sender


def _plain(plan: SweepPlan) -> dict[str, Any]:
    """The definition as flat parameters, by the keys of the command line; what may change later is in tags."""
    asked = {k: v for k, v in plan.definition.items() if k not in ("model", "data", "space", "settings", *FREE)}
    texts = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in asked.items()}
    where = ",".join(data.path for data in plan.data_sets)
    about = {"data.path": where, "train.model": plan.model, "space": plan.space.name}
    return {**about, **texts, **plan.definition["settings"]}
