"""What the user sees of a job on a cluster."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import typer

from jobs._run import Ended
from jobs._shown import say
from pipeline.cluster.submission import PENDING, Cluster, exit_code

_WAITS = (  # 15: Ray's own; RAY_JOB_START_TIMEOUT_SECONDS of the head may say otherwise
    "has not begun: Ray stops it when it begins, or gives it up 15 minutes after it was sent"
)
COLUMNS = ("job", "status", "exit_code", "started", "seconds", "command")


def follow(cluster: Cluster, job: str) -> dict[str, Any]:
    """Prints the log of a job until it ends; the result ends this process as the job ended."""
    lines = _Lines()
    try:
        row = cluster.follow(job, lines.write, say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted(cluster, job)) from None
    lines.close()
    return Ended(show(row, lines.last), exit_code(row))


def _interrupted(cluster: Cluster, job: str) -> str:
    """Ctrl-C: stop the job, or leave it alone?"""
    if _wants_to_stop(job):
        row = cluster.stop(job)
        became = f"is {row['status'].lower()}; submit it again with --resume to go on"
        return f"Job {job} {became if row['ended'] else _WAITS}."
    return f"Job {job} goes on. See --logs {job}, --stop {job}."


def _wants_to_stop(job: str) -> bool:
    """The answer of who sits at a terminal; another Ctrl-C is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        return typer.confirm(f"\nStop job {job}?", err=True)
    except typer.Abort:
        return False


def end(cluster: Cluster, job: str) -> dict[str, Any]:
    """Stops a job; one that has not begun may still wait for it, and that is said."""
    row = cluster.stop(job)
    shown = show(row)
    if not row["ended"]:
        say(f"It {_WAITS}.")
    return shown


def show(row: dict[str, Any], last: str = "") -> dict[str, Any]:
    """One line about a job on stderr; the same for `--json`."""
    seconds = "" if row["seconds"] is None else f" after {row['seconds']:.0f} s"
    failed = f" with exit code {row['exit_code']}" if row["status"] == "FAILED" else ""
    say(f"Job {row['job']}: {row['status'].lower()}{failed}{seconds}.")
    unclear = last == "" and failed and not row["message"].startswith("Job entrypoint command failed")
    if unclear or row["status"] == PENDING:
        say(row["message"])
    return _public(row) | {"result": _result(last)}


def table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All jobs, newest first."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(*COLUMNS)
    for row in rows:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["started"])) if row["started"] else "–"
        cells = row | {"started": started, "command": row["command"][:80]}
        shown.add_row(*("–" if cells[name] is None else str(cells[name]) for name in COLUMNS))
    Console(width=160).print(shown)
    return {"jobs": [_public(row) for row in rows]}


def _public(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in (*COLUMNS, "message")}


def _result(line: str) -> dict[str, Any] | None:
    """The JSON object with which a job ends that was given --json."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


class _Lines:
    """Writes a log to stdout and remembers its last line."""

    def __init__(self) -> None:
        self._tail = ""

    @property
    def last(self) -> str:
        """The last line that is not empty."""
        return next((line for line in reversed(self._tail.splitlines()) if line.strip()), "")

    def write(self, text: str) -> None:
        """Takes the next piece of the log."""
        self._tail = (self._tail + text)[-20_000:]
        print(text, end="", flush=True)

    def close(self) -> None:
        """Ends a line that the log has left open."""
        if self._tail and not self._tail.endswith("\n"):
            print(flush=True)
