"""How far a sweep has come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.sweeps.folder import FAILED, STOPPED
from pipeline.sweeps.selection import best_trial
from pipeline.sweeps.trials import told_of

_RECORD_S = 5.0


class Progress:
    """Counts trials, tells of each that ends, and records numbers every few seconds.

    Args:
        total: trials of the sweep.
        metric: what the model is judged by.
        tell: told (ended, all, note) whenever a trial has ended.
        record: given (numbers, trials that have ended) every few seconds.
    """

    def __init__(
        self,
        total: int,
        metric: str,
        tell: Callable[[int, int, str], None],
        record: Callable[[Mapping[str, float | None], int], None],
    ) -> None:
        self._total, self._metric, self._tell, self._record = total, metric, tell, record
        self._counts: Counter[str] = Counter()
        self._recorded_at = time.monotonic()
        self._best: dict[str, Any] | None = None

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return self._counts.total()

    def known(self, status: str, row: Mapping[str, Any]) -> None:
        """A trial has ended in an earlier sitting."""
        self._count(status, row)

    def ended(self, status: str, row: Mapping[str, Any]) -> None:
        """A trial has ended now."""
        self._count(status, row)
        done, now = self.done, time.monotonic()
        parts = [f"{self._counts[s]} {s}" for s in (FAILED, STOPPED) if self._counts[s]]
        numbers: dict[str, float | None] = {"trials_done": done, "trials_failed": self._counts[FAILED]}
        if self._best is not None:
            chooser = self._best["chosen_by"]
            parts.append(f"best {chooser} {self._best[chooser]:.4g} ({self._best['trial']})")
            numbers["best_score"] = self._best[chooser]
        self._tell(done, self._total, ", ".join([*parts, *told_of(row)]))
        if now - self._recorded_at >= _RECORD_S or done >= self._total:
            self._recorded_at = now
            self._record(numbers, done)

    def _count(self, status: str, row: Mapping[str, Any]) -> None:
        self._counts[status] += 1
        rows = [{**row, "status": status}] if self._best is None else [self._best, {**row, "status": status}]
        self._best = best_trial(rows, self._metric)
