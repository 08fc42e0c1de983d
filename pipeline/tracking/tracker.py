"""Every run in MLflow, and in a journal first.

What is recorded goes to `tracking.jsonl` in the run's directory, line by line. A thread of the driver
carries the lines to MLflow; how far it came is noted beside them (`tracking.json`). So a server that is
slow, unreachable or away for a while holds up nothing and loses nothing: what it missed is sent later, by
the same thread, or by a resumed run. Only the driver writes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError, TrackingUnavailable, must
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender, store_of, takes_folders
from pipeline.tracking.stores import bare, sqlite
from pipeline.tracking.system_metrics import SystemMetrics

__all__ = ["Tracker", "check_store", "store_of"]

_RETRY_S = 20.0
_WANTED = "a URI such as sqlite:///mlflow.db or http://HOST:5000"
_STORES = ("file", "http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc")


def check_store(uri: str | None, field: str = "--tracking-uri") -> None:
    """A URI of a kind that MLflow does not know is a mistake, where one that does not answer may come back.

    Args:
        uri: of `field`; None = of MLFLOW_TRACKING_URI, which may be unset.
        field: what the user gave it with.

    Raises:
        UserError: neither MLflow nor a plugin of it has stores of that kind.

    Example:
        >>> check_store("sqlite:///mlflow.db"), check_store("http://localhost:5000"), check_store("none")
        (None, None, None)
    """
    if uri is None:
        uri, field = os.environ.get("MLFLOW_TRACKING_URI"), "MLFLOW_TRACKING_URI"
        if uri == "none":
            remedy = "To record nothing pass --tracking-uri none."
            raise must(field, _WANTED, uri, remedy=remedy)
    kind, separator, _ = (uri or "").partition("://")
    folder = uri and uri not in ("none", "databricks", "uc") and (not separator or kind == "file")
    if folder and not takes_folders():
        remedy = "It is a folder, which MLflow takes with MLFLOW_ALLOW_FILE_STORE=true only."
        if not separator and Path(uri or "").is_file():
            remedy = f"It is a file: {sqlite(Path(uri or ''))} where it is an SQLite database."
        raise must(field, _WANTED, uri, remedy=remedy)
    if not separator or kind.split("+")[0] in _STORES:  # postgresql+psycopg2: a database and its driver
        return
    if kind not in {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}:
        raise must(field, _WANTED, bare(uri or ""))


class Tracker:
    """Records one run. Nothing in here raises because of a server.

    Args:
        directory: of the run; the journal lives there.
        uri: MLflow tracking URI; None = MLflow's own default, "none" = the journal only.
        experiment: name of the experiment.
        say: told once, in one line, that the server cannot be reached.
        unique: tags that together name this run only; see `Sender`.
    """

    def __init__(
        self,
        directory: Path,
        uri: str | None,
        experiment: str,
        say: Callable[[str], None] = lambda line: None,
        unique: Mapping[str, str] | None = None,
    ) -> None:
        self._journal = Journal(directory)
        self._say = say
        self._said = self._told_stuck = False
        self._quiet = uri == "none"
        self._system = SystemMetrics()
        self._sender = Sender(directory, self._journal, uri, experiment, unique=unique)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._carry, name="tracking", daemon=True)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until the server has given one."""
        return self._sender.run_id

    @property
    def store(self) -> str | None:
        """The store that gave or knows `run_id`, with the login that it needs."""
        return None if self._quiet else self._sender.store

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Begins the record, or goes on with that of the same directory."""
        if any(line["kind"] == "start" for line in self._journal.lines()):
            self._journal.write("resume", tags=dict(tags))
        else:
            self._journal.write("start", name=name, params=dict(params), tags=dict(tags))
        if self._journal.stuck:
            raise OutputError(f"'{self._journal.path}' must be writable. It is not: {self._journal.stuck}.")
        if not self._quiet:
            self._sender.note()
            self._thread.start()

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Records numbers of one epoch, now and then with those of the machine; None and NaN are left out."""
        numbers = {k: float(v) for k, v in values.items() if v is not None and v == v}
        numbers |= self._system.sample()
        self._journal.write("metrics", values=numbers, step=step)
        if self._journal.stuck and not self._told_stuck:
            self._say(f"{self._journal.path} cannot be written: {self._journal.stuck}. Its lines wait in memory.")
        self._told_stuck = bool(self._journal.stuck)
        self._wake.set()

    def last_step(self, name: str) -> int:
        """The last step that was recorded of a number, in any sitting; 0 = none."""
        lines = (line for line in self._journal.lines() if line["kind"] == "metrics" and name in line["values"])
        return max((line["step"] for line in lines), default=0)

    def artifact(self, path: Path) -> None:
        """Records a file, or a directory with all its files."""
        self._journal.write("artifact", path=str(path.absolute()))
        self._wake.set()

    def watch(self, lost: Callable[[], bool]) -> None:
        """From now on nothing is read or written in the directory where `lost` says that it is another one."""
        self._journal.lost = lost

    def finish(self, status: str, tags: Mapping[str, Any] | None = None, patience_s: float = 60.0) -> None:
        """Ends the record and waits for the last lines to be sent.

        Args:
            status: FINISHED, FAILED or KILLED, MLflow's words.
            tags: what is known only now.
            patience_s: how long at most. What has not been sent by then stays in the journal. Where that cannot be
                written, MLflow is told the end directly.
        """
        self._journal.write("end", status=status, tags=dict(tags or {}))
        self._stop.set()
        self._wake.set()
        if not self._thread.is_alive():
            return
        self._thread.join(patience_s)
        if self._journal.stuck:
            if not self._thread.is_alive():
                self._sender.end(status, tags or {})
            if not self._journal.lost():
                why = f"{self._journal.path} cannot be written: {self._journal.stuck}"
                self._say(f"Tracking: not everything was sent. {why}. --resume records the rest.")
        elif reason := self._unsent():
            self._tell(reason)
        elif page := self._sender.page:
            self._say(f"MLflow: {page}")

    def _unsent(self) -> str:
        """That not everything was sent, in words, or why nobody knows; nothing, where all was."""
        try:
            return "not everything was sent" if self._sender.behind() else ""
        except TrackingUnavailable as error:
            return str(error)

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
