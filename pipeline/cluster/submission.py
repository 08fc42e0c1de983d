"""A job on a running cluster, through Ray's job API: packed, submitted, followed, stopped.

The command line runs on the head node as it would run here. Its code travels (`pipeline.cluster.package`), its data
does not; relative paths mean a folder that all nodes see (`workdir`). Ray names the cluster to the job (RAY_ADDRESS),
so a job never starts a cluster of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.cluster import token_refused
from pipeline.cluster.package import lock_of, stage
from pipeline.cluster.task import CODE, Task, named
from pipeline.environment import TRAVELLED, commit
from pipeline.errors import MachineError, UserError, line_of, must

PENDING, STOPPED, SUCCEEDED, FAILED = "PENDING", "STOPPED", "SUCCEEDED", "FAILED"
ENDED = (STOPPED, SUCCEEDED, FAILED)
_STOP_S = 120  # a job that is stopped may save its state for that long; Ray's own default is 3 s
_BEGINS_S = 5.0  # a job that has not begun by then waits: for room, or until its packages are installed
_AWAY_S = 120.0  # how long a cluster may not answer before following ends


class Cluster:
    """A running cluster and the jobs on it.

    Args:
        address: URL of its dashboard, http://HEAD:8265.

    Raises:
        UserError: nothing answers there, or it wants a token.
    """

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise must("--address", "the URL of the cluster's dashboard, http://HEAD:8265", address)
        import logging

        from ray.job_submission import JobSubmissionClient

        self.address = address.rstrip("/")
        for name in ("sdk", "dashboard_sdk", "packaging"):
            logging.getLogger(f"ray.dashboard.modules.job.{name}").setLevel(logging.ERROR)
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._asking():
            # RAY_ADDRESS, the address of a cluster for `ray.init`, must not take the place of this one
            before = {n: os.environ.pop(n, None) for n in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")}
            try:
                self._client = JobSubmissionClient(self.address)
            finally:
                os.environ.update({name: value for name, value in before.items() if value is not None})

    def submit(self, task: Task, name: str | None = None) -> dict[str, Any]:
        """Sends a task to the cluster.

        Args:
            task: what to run.
            name: of the job, as `job_name` has it; None = one is made.

        Returns:
            job (its name), files and bytes sent.

        Raises:
            UserError: something in the tree must not travel, or the name is taken.
        """
        job = name or f"{task.words[0].removeprefix('jobs.')}-{uuid.uuid4().hex[:8]}"
        with tempfile.TemporaryDirectory(prefix="somgrad-") as folder:
            place = Path(folder) / "code"
            place.mkdir()
            count, size = stage(place, task.tree, named(task.given), code=task.environment != "none")
            runtime: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S), **task.variables}}
            if count:
                runtime["working_dir"] = str(place)
                runtime["env_vars"] |= {TRAVELLED: commit()}
            if task.environment not in ("code", "none"):
                runtime["pip"] = {"packages": _requirements(lock_of(task.tree, task.environment)), "pip_check": False}
            self._submit(
                entrypoint=task.entrypoint(),
                runtime_env=runtime,
                submission_id=job,
                metadata={"somgrad": task.identity},
                entrypoint_num_cpus=task.driver_cpus or None,
            )
        return {"job": job, "files": count, "bytes": size}

    def _submit(self, **request: Any) -> None:
        """Hands a job over; a cluster that has just been started takes none for some seconds."""
        until = time.monotonic() + _AWAY_S
        while True:
            try:
                with self._asking(sent=request["submission_id"]):
                    self._client.submit_job(**request)
                return
            except NoAgent:
                if time.monotonic() > until:
                    raise
            time.sleep(2.0)

    def running(self, task: Task) -> str | None:
        """The job that is doing the same already."""
        return next((row["job"] for row in self.jobs() if row["identity"] == task.identity and not row["ended"]), None)

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that were submitted to the cluster, newest first; columns as of `job`."""
        with self._asking():
            found = [_row(info) for info in self._client.list_jobs() if info.submission_id]
        return sorted(found, key=lambda row: row["started"] or 0, reverse=True)

    def job(self, job: str) -> dict[str, Any]:
        """One job: job, status, exit_code, command, started (s since 1970), seconds, message, identity, ended.

        Raises:
            UserError: there is no such job.
        """
        with self._asking(job):
            return _row(self._client.get_job_info(job))

    def stop(self, job: str) -> dict[str, Any]:
        """Stops a job, waits until it has saved its state and ended; what became of it, as `job`.

        A job that waits for room is not waited for: it is still PENDING, and Ray stops it as soon as it begins.
        """
        with self._asking(job):
            self._client.stop_job(job)
        asked = time.monotonic()
        while not (row := self.job(job))["ended"]:
            waited = time.monotonic() - asked
            if row["status"] == PENDING and waited > _BEGINS_S:
                break
            if waited > _STOP_S + 30:
                raise MachineError(f"Job '{job}' has not ended {_STOP_S + 30} s after it was told to.")
            time.sleep(0.5)
        return row

    def follow(self, job: str, write: Callable[[str], None], say: Callable[[str], None]) -> dict[str, Any]:
        """Writes what a job prints until it ends; what became of it, as `job`.

        A connection that breaks is made again, and what was written is not written twice.

        Args:
            job: its name.
            write: given the pieces of the log.
            say: told once, in Ray's words, why a job does not begin.

        Raises:
            MachineError: the cluster has not answered for two minutes.
        """
        seen, answered, told = 0, time.monotonic(), False
        begins = answered + _BEGINS_S
        while True:
            try:
                while (row := self.job(job))["status"] == PENDING:  # a log is not served before the job begins
                    answered = time.monotonic()
                    if answered > begins and not told:
                        say(row["message"])
                        told = True
                    time.sleep(0.5)
                seen, whole = asyncio.run(self._tail(job, seen, write))
                answered = time.monotonic()
                row = self.job(job)
                if row["ended"]:
                    if not whole:  # it broke off while the job went on; the log of a job that has ended is served too
                        asyncio.run(self._tail(job, seen, write))
                    return row
            except (MachineError, UserError, OSError, RuntimeError) as error:
                if isinstance(error, UserError) and not isinstance(error, Unreachable):
                    raise
                if time.monotonic() - answered > _AWAY_S:
                    raise MachineError(
                        f"The cluster at {self.address} has not answered for {_AWAY_S:.0f} s. The job may go on; "
                        f"see --status {job}, and submit it again with --resume if it is lost."
                    ) from None
            time.sleep(0.5)

    async def _tail(self, job: str, seen: int, write: Callable[[str], None]) -> tuple[int, bool]:
        """Writes the log from a place on; returns the place where the connection ended, and whether as it should."""
        from aiohttp import ClientError

        passed, whole = 0, False
        # broken, or refused: the caller asks for the status and comes again
        with contextlib.suppress(RuntimeError, OSError, ClientError):
            async for text in self._client.tail_job_logs(job):
                fresh = text[max(0, seen - passed) :]
                passed += len(text)
                if fresh:
                    write(fresh)
            whole = True
        return max(seen, passed), whole

    @contextlib.contextmanager
    def _asking(self, job: str = "", sent: str = "") -> Iterator[None]:
        """Ray's errors as ours; about a job that should be there, or one that is sent."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise token_refused(self.address, str(error)) from None
        except OSError as error:
            reason = line_of(error)[:160]
            raise Unreachable(
                f"--address must be the dashboard of a running cluster. Nothing answers at {self.address} ({reason})."
            ) from None
        except RuntimeError as error:
            text = line_of(error)
            if job and ("404" in text or "does not exist" in text):
                raise UserError(f"There is no job '{job}' at {self.address}. See --list.") from None
            if "already exists" in text or "already been used" in text or "already submitted" in text:
                raise must("--name", "a name that no job of the cluster has had", sent) from None
            if "No available agent" in text:
                raise NoAgent(
                    f"No node of the cluster at {self.address} takes jobs: the head's agent did not start, as when "
                    "another node on its machine has the port. Start each with its own --dashboard-agent-listen-port."
                ) from None
            raise MachineError(f"The cluster at {self.address} refused: {text[:300].rstrip('.')}") from None


class NoAgent(MachineError):
    """The cluster takes no jobs, not yet or not at all."""


class Unreachable(UserError):
    """No cluster answers at the address."""


def _requirements(lock: Path) -> list[str]:
    """Lines of a lock file for pip on the nodes."""
    return [line for line in lock.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]


def _row(info: Any) -> dict[str, Any]:
    status = str(getattr(info.status, "value", info.status))
    ended = status in ENDED
    code = {SUCCEEDED: 0, STOPPED: 130}.get(status, info.driver_exit_code if ended else None)
    last = info.end_time or time.time() * 1000
    return {
        "job": info.submission_id,
        "status": status,
        "exit_code": 1 if ended and code is None else code,
        "command": _command(info.entrypoint),
        "started": None if not info.start_time else info.start_time / 1000,
        "seconds": None if not info.start_time else round((last - info.start_time) / 1000, 1),
        "message": (info.message or "").splitlines()[0] if info.message else "",
        "identity": (info.metadata or {}).get("somgrad", ""),
        "ended": ended,
    }


def _command(entrypoint: str) -> str:
    """The part of an entrypoint that its user typed."""
    return entrypoint.rpartition(" -m jobs.")[2] if entrypoint.startswith(f"export {CODE}") else entrypoint


def exit_code(row: Mapping[str, Any]) -> int:
    """What the command on this side ends with: what it ended with there, in the codes of the interface.

    Example:
        >>> [exit_code({"exit_code": code}) for code in (0, 2, 130, 137, -9)]
        [0, 2, 130, 1, 1]
    """
    return row["exit_code"] if row["exit_code"] in (0, 1, 2, 130) else 1
