"""A Ray cluster of several nodes as an operator starts it: `ray start`, one process group a node, token on."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

START_S = 150  # a loaded machine; Ray itself gives up after 30 s, and is started again


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nodes:
    """A head and more nodes on this machine, each with its own ports and folder.

    Attributes:
        dashboard: URL for `jobs.submit --address`.
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
        """Starts the node with the dashboard; tries again where a loaded machine is too slow for Ray's patience."""
        for attempt in range(3):
            self._port, dashboard = free_port(), free_port()
            self.dashboard = f"http://127.0.0.1:{dashboard}"
            options = ["--head", "--port", self._port, "--dashboard-host", "127.0.0.1", "--dashboard-port", dashboard]
            group = self._start(f"head{attempt}", [*options, "--ray-client-server-port", free_port()], cpus)
            if self._wait(group, self._answers):
                return
            self._end(group)
        raise AssertionError((self.folder / f"head{attempt}.log").read_text())

    def start_node(self, cpus: int = 1) -> None:
        """Adds a node."""
        wanted = self.count() + 1
        for attempt in range(3):
            name = f"node{wanted}{attempt}"
            group = self._start(name, ["--address", f"127.0.0.1:{self._port}"], cpus)
            if self._wait(group, lambda: self.count() == wanted):
                return
            self._end(group)
        raise AssertionError((self.folder / f"{name}.log").read_text())

    def count(self) -> int:
        """Nodes that are alive, as the dashboard sees them."""
        text = self._ask("/nodes?view=summary")
        return text.count('"state": "ALIVE"') + text.count('"state":"ALIVE"')

    def close(self) -> None:
        """Ends what was started, and only that."""
        for group in reversed(self._groups):
            self._end(group)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name: str, options: list[object], cpus: int) -> subprocess.Popen[bytes]:
        words = ["ray", "start", "--block", "--disable-usage-stats", "--num-cpus", cpus, "--num-gpus", 0]
        words += ["--object-store-memory", 100 * 2**20, "--temp-dir", self.folder / name, *options]
        with open(self.folder / f"{name}.log", "wb") as log:
            group = subprocess.Popen(
                [str(word) for word in words],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._groups.append(group)
        return group

    def _wait(self, group: subprocess.Popen[bytes], ready: object) -> bool:
        until = time.monotonic() + START_S
        while time.monotonic() < until and group.poll() is None:
            try:
                if ready():  # type: ignore[operator]
                    return True
            except OSError:
                pass
            time.sleep(0.3)
        return False

    def _answers(self) -> bool:
        return self.count() == 1

    def _ask(self, path: str) -> str:
        token = (self.folder / "token").read_text()
        request = urllib.request.Request(self.dashboard + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

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
            try:
                os.killpg(group.pid, number)
            except ProcessLookupError:
                pass
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
