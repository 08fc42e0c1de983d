"""What one worker does: takes its share of every round, and holds the same map as all the others.

A plain class that runs in this process, or as a Ray actor (last lines). Between two rounds it has a
`Snapshot`, replaced as a whole, so whenever a worker is asked, interrupted or copied, its map is that of
some round.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from pipeline.errors import UserError
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan, open_reader
from pipeline.training.reduction import LocalReduction, Reduction, ReductionBroken, Rendezvous
from pipeline.training.step import RoundPlan, round_statistics, scale_of
from pipeline.training.tallies import added, check_counted, map_tallies, running
from somcore.update import advance


@dataclass(frozen=True)
class Report:
    """What a worker says at the end of a block of rounds.

    Attributes:
        round: rounds done.
        digest: of its map.
        snapshot: the map itself, from rank 0 only.
        broken: why the block could not be finished; empty if it was.
    """

    round: int
    digest: str
    snapshot: Snapshot | None = None
    broken: str = ""


class Rounds(Protocol):
    """Rounds with a network, as one worker computes them."""

    def play(self, snapshot: Snapshot, reduction: Reduction, stay: Callable[[], None]) -> Snapshot:
        """One round."""


class Worker:
    """One worker of a group, or the only one.

    Args:
        threads: for the mathematics in this process; set here, because Ray and BLAS have ideas of their own.
    """

    def __init__(self, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self._plan: TrainingPlan | None = None
        self._snapshot: Snapshot | None = None
        self._reduction: Reduction = LocalReduction()
        self._rendezvous = Rendezvous()
        self._generation = 0
        self._leaving = threading.Event()
        self._play: Callable[[Snapshot], Snapshot] = self._one_map_round

    def ready(self) -> bool:
        """Answers as soon as the worker lives."""
        return True

    def pid(self) -> int:
        """Process id, for those who watch or break processes."""
        return os.getpid()

    def install(self, plan: TrainingPlan, snapshot: Snapshot) -> None:
        """Takes over a run at some round."""
        check_device(plan.device)
        if plan != self._plan:
            self._play = self._one_map_round
            if plan.deep is None:
                self._read, self._ahead = open_reader(plan)
            else:
                deep = rounds_of(plan)
                self._play = lambda before: deep.play(before, self._reduction, self._stay)
        self._plan = plan
        self._snapshot = snapshot.to(plan.device)

    def snapshot(self) -> Snapshot | None:
        """The map after the last complete round; None before `install`."""
        if self._snapshot is None:
            return None
        return self._snapshot.to("cpu")

    def progress(self) -> int:
        """Rounds done, -1 before `install`. As a Ray call it waits until a running block has ended."""
        return -1 if self._snapshot is None else self._snapshot.state.round

    def listen(self, driver: str, join_s: float) -> str:
        """Opens the meeting point of a new group; for rank 0."""
        return self._rendezvous.listen(driver, join_s)

    def join(
        self, generation: int, address: str, rank: int, world_size: int, join_s: float, collective_s: float
    ) -> bool:
        """Joins a group, over which the coming rounds are reduced; False if it did not form."""
        assert self._plan is not None
        self._leaving.clear()
        try:
            self._reduction = self._rendezvous.join(
                address, rank, world_size, join_s=join_s, collective_s=collective_s, device=self._plan.device
            )
        except ReductionBroken:
            self._rendezvous.leave()
            return False
        self._generation = generation
        return True

    def alone(self, generation: int) -> bool:
        """Goes on as a world of one."""
        self._leaving.clear()
        self._reduction = LocalReduction()
        self._generation = generation
        return True

    def leave(self) -> None:
        """Leaves the group, and a block that is running; called from another thread, it frees the first."""
        self._leaving.set()
        self._rendezvous.leave()

    def run(self, generation: int, until: int) -> Report:
        """Does rounds until `until` rounds are done or the map is finished."""
        if generation != self._generation or self._snapshot is None:
            return Report(-1, "", broken="it was restarted")
        broken = ""
        try:
            while self._snapshot.state.round < until and not self._snapshot.state.finished:
                self._snapshot = self._play(self._snapshot)
        except ReductionBroken as error:
            broken = str(error) or "the group was left"
        first = self._reduction.rank == 0 and not broken
        state = self._snapshot.state
        return Report(state.round, self._snapshot.digest(), self.snapshot() if first else None, broken)

    def _one_map_round(self, snapshot: Snapshot) -> Snapshot:
        assert self._plan is not None
        plan, state = self._plan, snapshot.state
        config, reduction = plan.config, self._reduction
        cut = RoundPlan.of(state.round, config, plan.num_samples)
        own = round_statistics(
            state,
            self._read,
            config,
            cut,
            plan.num_samples,
            scale=scale_of(state, cut.num_samples, plan.max_abs, plan.reduction),
            max_abs=plan.max_abs,
            rank=reduction.rank,
            world_size=reduction.world_size,
            ahead=self._ahead,
            between=self._stay,
        )
        self._stay()
        merged = reduction.reduce(own)
        check_counted(state.round, merged, cut.num_samples)
        after = advance(state, merged, config)
        tallies = added(running(snapshot, plan.rounds_per_epoch), map_tallies(state, after, merged))
        return Snapshot(after, tallies, snapshot.extra)

    def _stay(self) -> None:
        if self._leaving.is_set():
            raise ReductionBroken("the group was left")


def check_device(device: str) -> None:
    """Whether this process has the device of a run.

    Raises:
        UserError: it has not.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("cluster.device must be there for every worker. Got cuda, but torch finds no CUDA device.")


def rounds_of(plan: TrainingPlan) -> Rounds:
    """Who plays the rounds of a deep plan: encoder and map, or a rival."""
    assert plan.deep is not None
    if plan.deep.rival is not None:
        from pipeline.rivals.rounds import RivalRounds

        return RivalRounds(plan)
    from pipeline.deep.rounds import DeepRounds

    return DeepRounds(plan)


def as_actor(kind: type[Worker] = Worker) -> Any:
    """The same class as a Ray actor, with a second thread that can free the first one from a collective.

    Args:
        kind: a subclass, for those who measure workers or break them.
    """
    import ray

    options: dict[str, Any] = {"concurrency_groups": {"control": 1}}
    return ray.remote(**options)(kind)
