"""How far a sweep has come, in one line a person can read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.selection import chooser_of, score_of
from pipeline.trials import FAILED, FINISHED, STOPPED

_SAY_S = 5.0


class Progress:
    """Counts trials and tells of them, at most every few seconds.

    Args:
        total: trials of the sweep.
        metric: what the model is judged by.
        say: told the line.
        record: given (numbers, trials that have ended) as often.
    """

    def __init__(
        self,
        total: int,
        metric: str,
        say: Callable[[str], None],
        record: Callable[[Mapping[str, float | None], int], None],
    ) -> None:
        self._total, self._metric, self._say, self._record = total, metric, say, record
        self._counts: Counter[str] = Counter()
        self._before = 0
        self._said_at, self._first_at = time.monotonic(), 0.0
        self._best: tuple[float, str] | None = None

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return self._counts.total()

    def known(self, status: str, row: Mapping[str, Any]) -> None:
        """A trial has ended in an earlier sitting."""
        self._before += 1
        self._count(status, row)

    def ended(self, status: str, row: Mapping[str, Any]) -> None:
        """A trial has ended now."""
        self._count(status, row)
        done, now = self.done, time.monotonic()
        self._first_at = self._first_at or now
        if now - self._said_at < _SAY_S and done < self._total:
            return
        self._said_at = now
        parts = [f"{done}/{self._total} trials"]
        parts += [f"{self._counts[s]} {s}" for s in (FAILED, STOPPED) if self._counts[s]]
        numbers: dict[str, float | None] = {"trials_done": done, "trials_failed": self._counts[FAILED]}
        if self._best is not None:
            parts.append(f"best {chooser_of(self._metric)} {abs(self._best[0]):.4g} ({self._best[1]})")
            numbers["best_score"] = abs(self._best[0])
        new = done - self._before - 1  # the first one waited for its process to start
        if done < self._total and new > 0:
            left = (now - self._first_at) / new * (self._total - done)
            parts.append(f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left")
        self._record(numbers, done)
        self._say(", ".join(parts))

    def _count(self, status: str, row: Mapping[str, Any]) -> None:
        self._counts[status] += 1
        score = score_of(dict(row), self._metric)
        if status == FINISHED and score is not None and (self._best is None or score > self._best[0]):
            self._best = (score, row["trial"])
