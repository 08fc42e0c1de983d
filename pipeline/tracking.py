"""Every run in MLflow, and in a journal first.

What is recorded goes to `tracking.jsonl` in the run's directory, line by line. A thread of the driver
carries the lines to MLflow; how far it came is noted beside them (`tracking.json`). So a server that is
slow, unreachable or away for a while holds up nothing and loses nothing: what it missed is sent later, by
the same thread, by a resumed run, or by `replay`. Only the driver writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoint import write_atomically
from pipeline.errors import TrackingUnavailable
from pipeline.journal import Journal

POSITION = "tracking.json"
_RETRY_S = 20.0
_BATCH_LINES = 200


class Tracker:
    """Records one run. Nothing in here raises because of a server.

    Args:
        directory: of the run; the journal lives there.
        uri: MLflow tracking URI; None = MLflow's own default, "none" = the journal only.
        experiment: name of the experiment.
        say: told once, in one line, that the server cannot be reached.
    """

    def __init__(
        self,
        directory: Path,
        uri: str | None,
        experiment: str,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._journal = Journal(directory)
        self._say = say
        self._said = False
        self._quiet = uri == "none"
        self._sender = _Sender(directory, self._journal, uri, experiment)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._carry, name="tracking", daemon=True)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until the server has given one."""
        return self._sender.run_id

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Begins the record, or goes on with that of the same directory."""
        if self._journal.lines():
            self._journal.write("resume", tags=dict(tags))
        else:
            self._journal.write("start", name=name, params=dict(params), tags=dict(tags))
        if not self._quiet:
            self._sender.note()
            self._thread.start()

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Records numbers of one epoch; None and NaN are left out."""
        numbers = {k: float(v) for k, v in values.items() if v is not None and v == v}
        self._journal.write("metrics", values=numbers, step=step)
        self._wake.set()

    def artifact(self, path: Path) -> None:
        """Records a file."""
        self._journal.write("artifact", path=str(path.absolute()))
        self._wake.set()

    def finish(self, status: str, tags: Mapping[str, Any] | None = None, patience_s: float = 60.0) -> None:
        """Ends the record and waits for the last lines to be sent.

        Args:
            status: FINISHED, FAILED or KILLED, MLflow's words.
            tags: what is known only now.
            patience_s: how long at most. What has not been sent by then stays in the journal.
        """
        self._journal.write("end", status=status, tags=dict(tags or {}))
        self._stop.set()
        self._wake.set()
        if not self._thread.is_alive():
            return
        self._thread.join(patience_s)
        if self._sender.behind():
            self._tell("not everything was sent")

    def _carry(self) -> None:
        while True:
            last = self._stop.is_set()
            try:
                self._sender.send()
            except TrackingUnavailable as error:
                self._tell(str(error))
                if last:
                    return
                self._stop.wait(_RETRY_S)
                continue
            if last:
                return
            self._wake.wait(5.0)
            self._wake.clear()
            self._stop.wait(0.2)  # several records in one message

    def _tell(self, reason: str) -> None:
        if not self._said:
            self._said = True
            self._say(
                f"Tracking: {reason}. Training goes on; the records are kept in {self._journal.path}, "
                "and --resume sends them later."
            )


class _Sender:
    """Carries journal lines to MLflow, and remembers how far it came."""

    def __init__(self, directory: Path, journal: Journal, uri: str | None, experiment: str) -> None:
        self._position_path = directory / POSITION
        self._journal = journal
        self._uri, self._experiment = uri, experiment
        self._client: Any = None
        known = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self._position_path.read_text(encoding="utf-8"))
        self._sent = int(known.get("sent", 0))
        self.run_id: str | None = known.get("run_id")

    def behind(self) -> int:
        """Lines that have not been sent."""
        return len(self._journal.lines(self._sent))

    def send(self) -> None:
        """Sends all that is new.

        Raises:
            TrackingUnavailable: the server cannot be reached, or refuses.
        """
        try:
            while lines := self._journal.lines(self._sent)[:_BATCH_LINES]:
                self._connect()
                for group in _batches(lines):
                    self._apply(group)
                    self._sent += len(group)
                    self.note()
        except Exception as error:  # MLflow raises its own, those of requests, of SQLAlchemy, of the system
            self._client = None
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
            raise TrackingUnavailable(f"the server cannot be reached ({reason})") from error

    def _connect(self) -> None:
        if self._client is not None:
            return
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import logging

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        import mlflow

        uri = self._uri or mlflow.get_tracking_uri()
        with _one_at_a_time(uri):
            client = mlflow.MlflowClient(uri)
            found = client.get_experiment_by_name(self._experiment)
            place = _artifact_place(uri, self._experiment)
            self._experiment_id = found.experiment_id if found else client.create_experiment(self._experiment, place)
        self._client = client

    def _apply(self, lines: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric, RunTag

        client, first = self._client, lines[0]
        tags = [RunTag(key, str(value)) for key, value in first.get("tags", {}).items()]
        if first["kind"] == "start":
            run = client.create_run(
                self._experiment_id, start_time=first["time_ms"], run_name=first["name"],
                tags={tag.key: tag.value for tag in tags},
            )  # fmt: skip
            self.run_id = run.info.run_id
            self.note()
            self._log_params(first["params"])
            return
        assert self.run_id is not None
        if tags:
            client.log_batch(self.run_id, tags=tags)
        if first["kind"] == "resume":
            client.update_run(self.run_id, status="RUNNING")
        elif first["kind"] == "metrics":
            values = [
                Metric(key, value, line["time_ms"], line["step"])
                for line in lines
                for key, value in line["values"].items()
            ]
            for start in range(0, len(values), 1000):
                client.log_batch(self.run_id, metrics=values[start : start + 1000])
        elif first["kind"] == "artifact":
            if os.path.exists(first["path"]):
                client.log_artifact(self.run_id, first["path"])
        elif first["kind"] == "end":
            client.set_terminated(self.run_id, first["status"], end_time=first["time_ms"])

    def _log_params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        listed = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(listed), 100):
            self._client.log_batch(self.run_id, params=listed[start : start + 100])

    def note(self) -> None:
        """Writes down where the records go, and how far they came."""
        position = {
            "run_id": self.run_id,
            "sent": self._sent,
            "uri": self._uri,
            "experiment": self._experiment,
        }
        write_atomically(self._position_path, json.dumps(position).encode())


def replay(directory: Path, uri: str | None = None, experiment: str | None = None) -> str | None:
    """Sends what a run recorded while its server was away; returns MLflow's id of the run.

    Args:
        directory: of the run.
        uri: another server than the one of the run; None = the same.
        experiment: another experiment; None = the same.

    Raises:
        TrackingUnavailable: the server cannot be reached. Nothing is lost; call again.
    """
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((directory / POSITION).read_text(encoding="utf-8"))
    sender = _Sender(
        directory,
        Journal(directory),
        uri or known.get("uri"),
        experiment or known.get("experiment", "somgrad"),
    )
    sender.send()
    return sender.run_id


def _batches(lines: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Neighbouring metrics lines together, all others alone."""
    group: list[dict[str, Any]] = []
    for line in lines:
        if line["kind"] == "metrics":
            group.append(line)
            continue
        if group:
            yield group
            group = []
        yield [line]
    if group:
        yield group


def _artifact_place(uri: str, experiment: str) -> str | None:
    """Artifacts of a local store go beside its file, not into whatever directory a command runs in."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlruns" / experiment).as_uri()


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Two processes that create one new SQLite store at once break it, so they take turns."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    import fcntl

    database = Path(uri.removeprefix("sqlite:///")).absolute()
    database.parent.mkdir(parents=True, exist_ok=True)
    with open(database.with_name(database.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
