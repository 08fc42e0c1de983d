"""What a run records, line by line, before any server hears of it."""

from __future__ import annotations

import json
import threading
import time
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
        self._lock = threading.Lock()

    def write(self, kind: str, **content: Any) -> None:
        """Adds one line; it is on disk when this returns, as far as the system goes."""
        line = json.dumps({"kind": kind, "time_ms": int(time.time() * 1000), **content}, default=str)
        with self._lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def lines(self, start: int = 0) -> list[dict[str, Any]]:
        """The complete lines from number `start` on."""
        if not self.path.exists():
            return []
        with self._lock:
            text = self.path.read_text(encoding="utf-8")
        complete = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in complete[start:]]
