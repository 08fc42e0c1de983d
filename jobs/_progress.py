"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType


class Progress:
    """Counts work on stderr; quiet lines at most every few seconds where there is no terminal.

    Args:
        what: What is counted, put behind the number.
        total: The whole, where it is known.
        every_s: Seconds between two plain lines.
    """

    def __init__(self, what: str, total: int | None = None, every_s: float = 5.0) -> None:
        self._what, self._total, self._every_s = what, total, every_s
        self._done, self._last = 0, time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal and self._done:
            print(file=sys.stderr)

    def __call__(self, done: int, note: str = "") -> None:
        """Report that `done` pieces are finished (a running total)."""
        self._done, now = done, time.monotonic()
        if now - self._last < (0.1 if self._terminal else self._every_s) and done != self._total:
            return
        self._last = now
        share = f"/{self._total}" if self._total else ""
        text = f"{done}{share} {self._what}{' ' + note if note else ''}"
        if self._terminal:
            filled = int(24 * done / self._total) if self._total else 0
            bar = f"[{'#' * filled}{'.' * (24 - filled)}] " if self._total else ""
            print(f"\r{bar}{text}\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
