"""How far the trials of a sweep are while none of them ends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pipeline.sweeps.trials import Trial
from pipeline.training.rundir import RunDirectory

_PATIENCE_S = 60.0
_NAMED = 3


class Waiting:
    """Says which round the running trials have reached when none has ended for a minute, for two, for four, ...

    Args:
        folder: of the trials.
        say: told in one line.
        patience_s: seconds until the first line.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], patience_s: float = _PATIENCE_S) -> None:
        self._folder, self._say, self._first_s = folder, say, patience_s
        self._ended: set[str] = set()
        self._restart()

    def _restart(self) -> None:
        self._since, self._patience_s = time.monotonic(), self._first_s

    def ended(self, key: str) -> None:
        """This trial has ended."""
        self._ended.add(key)
        self._restart()

    def running(self, portions: Iterable[Sequence[Trial]]) -> None:
        """Told every moment what the processes do: each its portion, one trial after another."""
        passed = time.monotonic() - self._since
        if passed < self._patience_s:
            return
        self._patience_s *= 2
        left = ([trial.key for trial in portion if trial.key not in self._ended] for portion in portions)
        reached = [f"{keys[0]} {progress_of(self._folder / keys[0])}" for keys in left if keys]
        if reached:
            more = f" and {len(reached) - _NAMED} more" if len(reached) > _NAMED else ""
            after = f"{passed:.0f} s" if passed < 120 else f"{passed / 60:.0f} min"
            self._say(f"No trial has ended for {after}. Running: {', '.join(reached[:_NAMED])}{more}.")


def progress_of(trial: Path) -> str:
    """Round of the newest checkpoint of a trial, and about how many there will be."""
    directory = RunDirectory(trial)
    expected = directory.record.get("expected_rounds")
    if not expected:
        return "(beginning)"
    reached = max((int(re.sub(r"\D", "", path.stem)) for path in directory.checkpoints.glob("round-*")), default=0)
    return f"(round {reached:,} of about {expected:,})"
