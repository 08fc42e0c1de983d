"""What a run records, line by line, before any server hears of it.

While a disk is full, lines wait in memory; the next line that can be written takes them along.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

JOURNAL = "tracking.jsonl"


class Journal:
    """What a run records, in order, on disk.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / JOURNAL
        self.stuck = ""  # why lines wait in memory
        self.lost: Callable[[], bool] = lambda: False  # whether another journal may be there now: it is left alone
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []

    def write(self, kind: str, **content: Any) -> None:
        """Adds one line; it is on disk when this returns, as far as the system goes, or `stuck` says why not."""
        self.write_all({"kind": kind, **content})

    def write_all(self, *lines: dict[str, Any]) -> None:
        """Adds several lines at once."""
        now = int(time.time() * 1000)
        texts = [json.dumps({"kind": line["kind"], "time_ms": now, **line}, default=str) + "\n" for line in lines]
        with self._lock:
            self._waiting += [text.encode() for text in texts]
            if self.lost():
                self.stuck = "its directory was removed, moved or replaced"
                return
            try:
                with open(self.path, "ab+", buffering=0) as file:
                    while self._waiting:
                        _append(file, self._waiting[0])
                        self._waiting.pop(0)
                self.stuck = ""
            except OSError as error:
                self.stuck = error.strerror or str(error)

    def lines(self, start: int = 0) -> list[dict[str, Any]]:
        """The complete lines from number `start` on; one that is no record, torn by a crash, counts, as nothing.

        Raises:
            OSError: they cannot be read; it says the file.
        """
        try:
            if self.lost() or not self.path.exists():
                return []
            with self._lock:
                complete = self.path.read_bytes().split(b"\n")[:-1]
        except OSError as error:  # a disk that fails while it is read says no name
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        return [_read(line) for line in complete[start:]]


def batches(lines: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """What may go to a server in one message: a start, metrics and tags, an end; all others alone."""
    group: list[dict[str, Any]] = []
    for line in lines:
        joins = line["kind"] in ("metrics", "tags", "end")
        if group and not joins:
            yield group
            group = []
        group.append(line)
        if line["kind"] not in ("start", "metrics", "tags"):
            yield group
            group = []
    if group:
        yield group


def _append(file: FileIO, line: bytes) -> None:
    """A whole line at the end; what a full disk left there of an earlier one gets an end of its own."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        line = line if file.read(1) == b"\n" else b"\n" + line
    if file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line.decode())
    except ValueError:
        content = None
    return content if isinstance(content, dict) and "kind" in content else {"kind": "torn"}
