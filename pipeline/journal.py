"""What a run records, line by line, before any server hears of it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

JOURNAL = "tracking.jsonl"


class Journal:
    """What a run records, in order, on disk.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / JOURNAL
        self._lock = threading.Lock()

    def write(self, kind: str, **content: Any) -> None:
        """Adds one line; it is on disk when this returns, as far as the system goes."""
        self.write_all({"kind": kind, **content})

    def write_all(self, *lines: dict[str, Any]) -> None:
        """Adds several lines at once."""
        now = int(time.time() * 1000)
        texts = [json.dumps({"kind": line["kind"], "time_ms": now, **line}, default=str) + "\n" for line in lines]
        with self._lock, open(self.path, "ab+") as file:
            if file.tell() and self._ends_torn(file):
                file.write(b"\n")
            file.write("".join(texts).encode())

    def lines(self, start: int = 0) -> list[dict[str, Any]]:
        """The complete lines from number `start` on; one torn by a crash counts, as nothing."""
        if not self.path.exists():
            return []
        with self._lock:
            text = self.path.read_text(encoding="utf-8")
        complete = text[: text.rfind("\n") + 1].splitlines()
        return [_read(line) for line in complete[start:]]

    @staticmethod
    def _ends_torn(file: BinaryIO) -> bool:
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def _read(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:
        return {"kind": "torn"}
