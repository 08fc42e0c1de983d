"""A Ray cluster of several nodes as an operator starts it: `ray start`, one process group a node, token on."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

START_S = 150


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nodes:
    """A head and more nodes on this machine, each with its own ports and folder.

    Attributes:
        dashboard: URL for `jobs.submit --address`.
        address: for `--address` of other commands.
        environment: for processes that may speak to the cluster (the token).
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sg", dir="/tmp"))  # paths of sockets over 107 bytes fail
        token = self.folder / "token"
        token.write_text(secrets.token_hex(24))
        binaries = os.path.dirname(sys.executable)
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment = inherited | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        }
        self._groups: list[subprocess.Popen[bytes]] = []

    def start_head(self, cpus: int = 1) -> None:
        """Starts the node with the dashboard."""
        self._attempt("head", cpus, self._head)

    def start_node(self, cpus: int = 1) -> None:
        """Adds a node."""
        self._attempt("node", cpus, lambda: ["--address", self.address])

    def _head(self) -> list[object]:
        port, dashboard = free_port(), free_port()
        self.dashboard, self.address = f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}"
        ports = ["--port", port, "--dashboard-port", dashboard, "--ray-client-server-port", free_port()]
        return ["--head", "--dashboard-host", "127.0.0.1", *ports]

    def _attempt(self, kind: str, cpus: int, options: Callable[[], list[object]]) -> None:
        """Starts a node; Ray gives up after 30 s where a machine is busy, and is started again."""
        for _ in range(4):
            name = f"{kind}{len(list(self.folder.glob('*.log')))}"
            group, log = self._start(name, options(), cpus), self.folder / f"{name}.log"
            until = time.monotonic() + START_S
            while time.monotonic() < until and group.poll() is None:
                if "Ray runtime started" in log.read_text() and self._answers():
                    return
                time.sleep(0.3)
            self._end(group)
        raise AssertionError(log.read_text())

    def close(self) -> None:
        """Ends what was started, and only that."""
        for group in reversed(self._groups):
            self._end(group)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name: str, options: list[object], cpus: int) -> subprocess.Popen[bytes]:
        words = ["ray", "start", "--block", "--disable-usage-stats", "--num-cpus", cpus, "--num-gpus", 0]
        words += [
            "--dashboard-agent-listen-port",
            free_port(),
            "--object-store-memory",
            100 * 2**20,
            "--temp-dir",
            self.folder / name,
            *options,
        ]
        with open(self.folder / f"{name}.log", "wb") as log:
            group = subprocess.Popen(
                [str(word) for word in words],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._groups.append(group)
        return group

    def _answers(self) -> bool:
        headers = {"Authorization": f"Bearer {(self.folder / 'token').read_text()}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{self.dashboard}/api/version", headers=headers), timeout=10
            ):
                return True
        except OSError:
            return False

    def _end(self, group: subprocess.Popen[bytes]) -> None:
        if group not in self._groups:
            return
        self._groups.remove(group)
        import psutil

        try:
            members = psutil.Process(group.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            members = []
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group.pid, number)
            if number == signal.SIGTERM:
                try:
                    group.wait(15)
                except subprocess.TimeoutExpired:
                    continue
        for member in members:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        group.wait(10)
