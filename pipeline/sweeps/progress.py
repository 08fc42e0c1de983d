"""How far a sweep has come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.sweeps.selection import chooser_of, score_of
from pipeline.sweeps.trials import FAILED, FINISHED, STOPPED, told_of

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
        self._best: tuple[float, str, str] | None = None

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
            parts.append(f"best {self._best[2]} {abs(self._best[0]):.4g} ({self._best[1]})")
            numbers["best_score"] = abs(self._best[0])
        self._tell(done, self._total, ", ".join([*parts, *told_of(row)]))
        if now - self._recorded_at >= _RECORD_S or done >= self._total:
            self._recorded_at = now
            self._record(numbers, done)

    def _count(self, status: str, row: Mapping[str, Any]) -> None:
        self._counts[status] += 1
        score = score_of(row, self._metric)
        if status == FINISHED and score is not None and (self._best is None or score > self._best[0]):
            self._best = (score, row["trial"], chooser_of(self._metric, row))
