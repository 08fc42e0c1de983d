"""Progress on stderr: one bar on a terminal, below whatever else is said; plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """Counts work on stderr, with the time that is left; plain lines every few seconds where there is no terminal.

    On a terminal other lines of this process, those of libraries too, are written above the bar. Ray's processes
    write into their own files.

    Args:
        what: What is counted, put behind the number.
        total: The whole, where it is known.
        every_s: Seconds between two plain lines.
    """

    def __init__(self, what: str, total: int | None = None, every_s: float = 5.0) -> None:
        self._what, self._total, self._every_s = what, total, every_s
        self._done, self._began = 0, time.monotonic()
        self._last, self._first = self._began, (0, self._began)
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar, self._task = _bar(what, total)
            self._bar.start()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as it is, and the terminal to others."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None:
        """Report that `done` pieces are finished (a running total), and that there are others in all."""
        self._total, now = total or self._total, time.monotonic()
        if self._done == 0 and done:
            self._first = (done, now)  # what comes before the first is waiting, or was done earlier
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._total, note=note)
            return
        if now - self._last < self._every_s and done != self._total:
            return
        self._last = now
        share = f"/{self._total}" if self._total else ""
        parts = [f"{done}{share} {self._what}{' ' + note if note else ''}", *self._left(now)]
        print(" · ".join(parts), file=sys.stderr, flush=True)

    def _left(self, now: float) -> list[str]:
        """About how long it will take still, from what was done since the first report."""
        before, since = self._first
        if not self._total or self._done <= before or self._done >= self._total:
            return []
        seconds = (now - since) / (self._done - before) * (self._total - self._done)
        return [f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"]


def _bar(what: str, total: int | None) -> tuple[Any, Any]:
    """A bar of rich, and what it counts."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class _Count(ProgressColumn):
        def render(self, task: Any) -> Text:
            whole = f"/{task.total:,.0f}" if task.total else ""
            return Text(f"{task.completed:,.0f}{whole} {task.description}")

    bar = Progress(
        BarColumn(24),
        _Count(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
    )
    return bar, bar.add_task(what, total=total, note="")
