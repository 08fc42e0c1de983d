"""What one worker does: takes its share of every round, and holds the same map as all the others.

A plain class that runs in this process, or as a Ray actor (last lines). Between two rounds it has a
`Snapshot`, replaced as a whole, so whenever a worker is asked, interrupted or copied, its map is that of
some round.
"""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.environment import code
from pipeline.errors import UserError
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan
from pipeline.training.reduction import LocalReduction, Reduction, ReductionBroken, Rendezvous
from pipeline.training.rounds import Rounds, rounds_of

_KEPT = {"MALLOC_TRIM_THRESHOLD_": (-1, 256 << 20), "MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20)}  # mallopt's option, bytes


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


class Worker:
    """One worker of a group, or the only one.

    Args:
        threads: for the mathematics in this process; set here, because Ray and BLAS have ideas of their own.
    """

    def __init__(self, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._plan: TrainingPlan | None = None
        self._rounds: Rounds | None = None
        self._snapshot: Snapshot | None = None
        self._reduction: Reduction = LocalReduction()
        self._rendezvous = Rendezvous()
        self._generation = 0
        self._leaving = threading.Event()

    def ready(self) -> tuple[str, str]:
        """Answers as soon as the worker lives: digest and folder of the code that it runs."""
        return code()

    def pid(self) -> int:
        """Process id, for those who watch or break processes."""
        return os.getpid()

    def install(self, plan: TrainingPlan, snapshot: Snapshot) -> None:
        """Takes over a run at some round."""
        check_device(plan.device)
        if plan.device == "cuda":  # the same bits every time; not run on a GPU yet
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.deterministic = plan.reduction == "exact"
        if plan != self._plan:
            self._rounds = rounds_of(plan)
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
        if generation != self._generation or self._rounds is None or self._snapshot is None:
            return Report(-1, "", broken="it was restarted")
        broken = ""
        try:
            while self._snapshot.state.round < until and not self._snapshot.state.finished:
                self._snapshot = self._rounds.play(self._snapshot, self._reduction, self._stay)
        except ReductionBroken as error:
            broken = str(error) or "the group was left"
        first = self._reduction.rank == 0 and not broken
        state = self._snapshot.state
        return Report(state.round, self._snapshot.digest(), self.snapshot() if first else None, broken)

    def _stay(self) -> None:
        if self._leaving.is_set():
            raise ReductionBroken("the group was left")


def keep_freed_memory() -> None:
    """Has glibc keep some of the memory that a tile frees, for the next tile (decision 0036).

    Of this process. What a variable of glibc's says in the environment stays; elsewhere than on glibc nothing is done.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for variable, (option, size) in _KEPT.items():
            if variable not in os.environ:
                libc.mallopt(option, size)


def check_device(device: str) -> None:
    """Whether this process has the device of a run.

    Raises:
        UserError: it has not.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("cluster.device must be there for every worker. Got cuda, but torch finds no CUDA device.")


def as_actor(kind: type[Worker]) -> Any:
    """The same class as a Ray actor, with a second thread that can free the first one from a collective.

    Args:
        kind: `Worker`, or a subclass for those who measure workers or break them.
    """
    import ray

    options: dict[str, Any] = {"concurrency_groups": {"control": 1}}
    return ray.remote(**options)(kind)
