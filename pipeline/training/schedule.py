"""When the driver of a run hears of its workers, saves and scores: which rounds end a block, which an epoch."""

from __future__ import annotations

import time

from pipeline.config import TrainConfig
from pipeline.training.plan import TrainingPlan
from somcore.state import MapState

_BLOCK_S = 10.0  # what a block may take: the driver hears of the workers, and may save, at least as often
_FIRST_ROUNDS = 32


class Schedule:
    """The rounds of one sitting of a run, and its clock.

    Args:
        plan: of the run.
        train: how often to save.
    """

    def __init__(self, plan: TrainingPlan, train: TrainConfig) -> None:
        self._plan, self._train = plan, train
        self._saved_at = time.monotonic()
        self.start(0, 0.0)

    def start(self, round_index: int, seconds: float) -> None:
        """The clock starts; so many rounds and seconds were done in earlier sittings."""
        self._first_round, self._seconds_before = round_index, seconds
        self._began = time.monotonic()

    def saved(self) -> None:
        """A checkpoint was written now, or could not be: the next one is due later."""
        self._saved_at = time.monotonic()

    def is_due(self, state: MapState) -> bool:
        """Whether a checkpoint is due."""
        every = self._train.checkpoint_rounds
        if state.finished:
            return True
        if every:
            return state.round % every == 0
        return time.monotonic() - self._saved_at >= self._train.checkpoint_s

    def block_end(self, state: MapState) -> int:
        """The next epoch end or due checkpoint, but not much later than some seconds from now."""
        per_epoch, every = self._plan.rounds_per_epoch, self._train.checkpoint_rounds
        done, elapsed = state.round - self._first_round, time.monotonic() - self._began
        fitting = int(_BLOCK_S * done / elapsed) if done and elapsed > 0 else _FIRST_ROUNDS
        ends = [(state.round // per_epoch + 1) * per_epoch, state.round + max(1, fitting)]
        if every:
            ends.append((state.round // every + 1) * every)
        if state.round < _FIRST_ROUNDS:  # a map changes most in the beginning: there it is looked at more often
            ends.append(1 << state.round.bit_length())
        return min(ends)

    def epoch(self, round_index: int) -> int:
        """Number of the epoch that a round is in or ends, from 1."""
        return -(-round_index // self._plan.rounds_per_epoch)

    def ends_epoch(self, state: MapState) -> bool:
        """Whether an epoch has ended: a whole one, or the last."""
        return state.finished or state.round % self._plan.rounds_per_epoch == 0

    def samples(self, state: MapState) -> int:
        """Samples that a map has seen in all its rounds."""
        epochs, rounds = divmod(state.round, self._plan.rounds_per_epoch)
        return epochs * self._plan.num_samples + rounds * self._plan.config.batch_size

    def totals(self, state: MapState) -> tuple[float, float]:
        """Seconds of training and samples presented, over all the sittings of a run."""
        seconds = self._seconds_before + time.monotonic() - self._began
        return max(seconds, 1e-9), float(self.samples(state))
