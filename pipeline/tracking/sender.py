"""Carries the journal of a run to MLflow, and remembers how far it came.

The lines that have been sent are counted in `tracking.json` beside the journal, with MLflow's id of the run and the
store that knows it. So whoever goes on, in this process or a later one, from this directory or another, sends what is
missing and nothing twice; and everything, where it is another store. Whether it is another one is asked of the store:
one and the same can have several names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import TrackingUnavailable, line_of
from pipeline.places import write_atomically
from pipeline.tracking.asking import hush, one_at_a_time
from pipeline.tracking.journal import Journal, batches
from pipeline.tracking.stores import URI, absolute, bare, database, is_local, page_of, with_login

POSITION = "tracking.json"
_BATCH_LINES = 200
_METRICS, _PARAMS = 800, 100  # of one message, which MLflow limits to 1000 things
_OF_FAILURE = ("reason", "error")  # tags that no longer hold where a run goes on


class Sender:
    """Carries journal lines to MLflow, and remembers how far it came.

    Args:
        directory: of the run.
        journal: its journal.
        uri: MLflow tracking URI; None = MLflow's own default; "none" = nothing will be sent.
        experiment: name of the experiment.
        tags: of the run, besides those of the journal.
        unique: together these tags name one run: a run that has them is gone on with, not doubled.
    """

    def __init__(
        self,
        directory: Path,
        journal: Journal,
        uri: str | None,
        experiment: str,
        tags: Mapping[str, str] | None = None,
        unique: Mapping[str, str] | None = None,
    ) -> None:
        self._tags, self._unique = {**(tags or {}), **(unique or {})}, dict(unique or {})
        self._position_path = directory / POSITION
        self._journal = journal
        self._uri, self._experiment = uri and with_login(uri), experiment
        self._client: Any = None
        known = _position(directory)
        self._sent = int(known.get("sent", 0))
        self._run_id: str | None = known.get("run_id")
        self._others: list[tuple[str, int]] = [(name, sent) for name, sent in known.get("others", [])]
        self._store: str | None = known.get("store")  # absolute, where `run_id` is known
        self._asked: str | None = known.get("uri") and bare(known["uri"])  # what the store was called then
        self._target = self._chosen()
        self._moved = uri != "none" and not _same(self._target, self._store)
        if not self._moved or not self._store:
            self._asked = uri and bare(uri)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until the store has given one, or said that it knows the one from before."""
        return None if self._moved else self._run_id

    @property
    def store(self) -> str | None:
        """Where the run is recorded, as `run_id`, with the login that it needs."""
        return None if self._moved else self._target

    @property
    def page(self) -> str | None:
        """Address of the run's page in MLflow, without a login; None where no server shows it, or none was reached."""
        if self._client is None or self.run_id is None:
            return None
        return page_of(str(self._target), self._experiment_id, self.run_id)

    def behind(self) -> int:
        """Lines that have not been sent; all of them, as long as the store may be another one.

        Raises:
            TrackingUnavailable: the journal cannot be read.
        """
        try:
            return len(self._journal.lines(0 if self._moved else self._sent))
        except OSError as error:
            raise TrackingUnavailable(line_of(error).rstrip(".")) from error

    def send(self) -> None:
        """Sends all that is new.

        Raises:
            TrackingUnavailable: the server cannot be reached, or refuses; the journal cannot be read.
        """
        if not self.behind():
            return
        try:
            self._connect()
            while lines := self._journal.lines(self._sent)[:_BATCH_LINES]:
                for group in batches(lines):
                    self._apply(group)
                    self._sent += len(group)
                self.note()
        except TrackingUnavailable:
            raise
        except Exception as error:  # MLflow raises its own, those of requests, of SQLAlchemy, of the system
            place = error.filename if isinstance(error, OSError) else None
            if isinstance(place, str) and Path(place).parent == self._position_path.parent:  # no fault of the store
                raise TrackingUnavailable(line_of(error).rstrip(".")) from error
            self._client = None
            reason = f"{type(error).__name__}: {' '.join(bare(str(error)).split())}"[:160]
            if (self._target or "").startswith("sqlite"):
                remedy = "if it stays so, move the file away or give another --tracking-uri"
                raise TrackingUnavailable(f"{self._target} cannot be used ({reason}): {remedy}") from error
            raise TrackingUnavailable(f"the server cannot be reached ({reason})") from error

    def end(self, status: str, tags: Mapping[str, Any]) -> None:
        """Ends the run in MLflow without its journal, if the store answers: to be asked when nothing else is sent."""
        if self.run_id is not None:
            with contextlib.suppress(Exception):
                self._connect()
                self._apply([{"kind": "end", "status": status, "tags": tags, "time_ms": int(time.time() * 1000)}])

    def _chosen(self) -> str | None:
        """The store to send to, by its absolute name; None = MLflow's own default, which only MLflow knows."""
        asked = self._uri or os.environ.get(URI)
        if self._store and self._uri is None and not asked and self._asked is None:
            return self._store
        if self._store and self._uri and self._asked == bare(self._uri) and is_local(self._uri):
            return self._store  # the name is meant from the directory of that time
        return absolute(asked) if asked else None

    def _connect(self) -> None:
        if self._client is None:
            self._open()
        if self._moved:
            self._settle()

    def _open(self) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        hush()
        import mlflow

        self._target = uri = self._target or absolute(mlflow.get_tracking_uri())
        with one_at_a_time(uri):
            client = mlflow.MlflowClient(uri)
            found = client.get_experiment_by_name(self._experiment)
            place = _artifact_place(uri, self._experiment)
            if found and found.lifecycle_stage != "active":
                how = f"restore it (mlflow experiments restore -x {found.experiment_id}) or give another --experiment"
                raise TrackingUnavailable(f"the experiment '{self._experiment}' is deleted: {how}")
            self._experiment_id = found.experiment_id if found else client.create_experiment(self._experiment, place)
        self._client = client

    def _settle(self) -> None:
        """From now on this store; one that does not know the run by any of its ids hears of it from the beginning."""
        known = [(self._run_id, self._sent), *self._others] if self._run_id else self._others
        here = next((one for one in known if self._knows(one[0])), None)
        self._others = [one for one in known if one != here]
        self._run_id, self._sent = here or (None, 0)
        self._store, self._asked, self._moved = self._target, self._uri and bare(self._uri), False
        if here:
            self.note()

    def _knows(self, run_id: str) -> bool:
        from mlflow import MlflowException

        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def _apply(self, lines: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        client, first, last = self._client, lines[0], lines[-1]
        if first["kind"] == "start" and self._run_id is None:
            own = {key: str(value) for key, value in first["tags"].items()}
            self._run_id = self._existing() or client.create_run(
                self._experiment_id, start_time=first["time_ms"], run_name=first["name"], tags={**own, **self._tags}
            ).info.run_id  # fmt: skip
            self.note()
        if self.run_id is None:
            return  # what stands before a start, torn as it was, is of no run
        params = [Param(k, str(v)) for k, v in first.get("params", {}).items() if not k.startswith("tracking.")]
        later = [line for line in lines if line["kind"] != "start"]
        tags = [RunTag(key, str(value)) for line in later for key, value in line.get("tags", {}).items()]
        metrics = [
            Metric(key, value, line["time_ms"], line["step"])
            for line in lines
            for key, value in line.get("values", {}).items()
        ]
        while params or tags or metrics:
            client.log_batch(self.run_id, metrics[:_METRICS], params[:_PARAMS], tags[:_PARAMS], synchronous=True)
            del metrics[:_METRICS], params[:_PARAMS], tags[:_PARAMS]
        if first["kind"] == "resume":
            client.update_run(self.run_id, status="RUNNING")
            for name in client.get_run(self.run_id).data.tags.keys() & _OF_FAILURE:
                client.delete_tag(self.run_id, name)
        elif first["kind"] == "artifact":
            if os.path.isdir(first["path"]):
                client.log_artifacts(self.run_id, first["path"], os.path.basename(first["path"]))
            elif os.path.exists(first["path"]):
                client.log_artifact(self.run_id, first["path"], first.get("folder"))
        if last["kind"] == "end":
            client.set_terminated(self.run_id, last["status"], end_time=last["time_ms"])

    def _existing(self) -> str | None:
        """The run that has the unique tags, where one was made but could not be noted any more."""
        if not self._unique:
            return None
        wanted = " and ".join(_like(key, value) for key, value in self._unique.items())
        found = self._client.search_runs([self._experiment_id], wanted)
        return next((run.info.run_id for run in found if self._unique.items() <= run.data.tags.items()), None)

    def share(self, other: Sender) -> None:
        """Uses the connection of another sender to the same experiment, where it goes to the same store."""
        if other._client is not None and self._target in (None, other._target):
            self._client, self._experiment_id, self._target = other._client, other._experiment_id, other._target

    def note(self) -> None:
        """Writes down where the records go, and how far they came; no login, as others may read the file."""
        if self._journal.lost():
            return
        position = {
            "run_id": self._run_id,
            "sent": self._sent,
            "uri": self._asked,
            "store": self._store and bare(self._store),
            "experiment": self._experiment,
            "others": self._others,  # ids of the run in other stores, and how far they came there
        }
        write_atomically(self._position_path, json.dumps(position).encode())


def store_of(directory: Path, asked: str | None = None) -> str | None:
    """Where MLflow knows the run in this directory; None if nothing was sent.

    Args:
        directory: of the run.
        asked: what the user calls the store, with the login that is not kept.
    """
    store: str | None = _position(directory).get("store")
    return store and with_login(bare(store), asked)


def takes_folders() -> bool:
    """Whether MLflow keeps runs in a folder of files: later versions want to be asked for it."""
    from mlflow import environment_variables as names

    return not hasattr(names, "MLFLOW_ALLOW_FILE_STORE") or bool(names.MLFLOW_ALLOW_FILE_STORE.get())


def _position(directory: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((directory / POSITION).read_text(encoding="utf-8")))
    return {}


def _like(tag: str, value: str) -> str:
    """A condition in MLflow's words, which cannot quote a quote: where there is one, other values meet it too."""
    masked = re.sub(r"['\\]", "_", value)
    return f"tags.`{tag}` {'=' if masked == value else 'LIKE'} '{masked}'"


def _same(store: str | None, other: str | None) -> bool:
    """Whether both are one store by its name alone; others may be one all the same."""
    return store is not None and other is not None and bare(store) == bare(other)


def _artifact_place(uri: str, experiment: str) -> str | None:
    """Artifacts of a local store go beside its file, not into whatever directory a command runs in."""
    file = database(uri)
    return None if file is None else (file.parent / "mlruns" / experiment).as_uri()
