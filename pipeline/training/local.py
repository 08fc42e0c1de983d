"""Who computes a run: this process, a world of one without Ray, or the workers of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from pipeline.config import ClusterConfig
from pipeline.signals import unhurried
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan
from pipeline.training.worker import Worker, check_device


class Group(Protocol):
    """Whoever computes the blocks of rounds of a run: this process or a cluster."""

    def start(self, plan: TrainingPlan, snapshot: Snapshot) -> None:
        """Gives the run to all workers."""

    def submit(self, until: int) -> None:
        """Begins a block: rounds until `until` rounds are done, or the map is finished."""

    def wait(self) -> Snapshot:
        """Ends the block; the map after it."""

    def latest(self) -> Snapshot:
        """Leaves the running block; the map of the most advanced worker."""

    def close(self) -> None:
        """Lets all workers go."""


@contextlib.contextmanager
def open_group(config: ClusterConfig, say: Callable[[str], None]) -> Iterator[Group]:
    """The workers of a run, let go at the end. Ray is imported only where it is used."""
    if config.workers == 0:
        local = LocalGroup(config)
        try:
            yield local
        finally:
            local.close()
        return
    from pipeline.cluster.session import Session
    from pipeline.training.group import WorkerGroup

    session = Session(config)
    try:
        group = WorkerGroup(config, session, say)
        try:
            yield group
        finally:
            with unhurried():
                group.close()
    finally:
        with unhurried():
            session.close()


class LocalGroup:
    """A world of one, in this process, without Ray.

    Args:
        config: threads and device are read from it.

    Raises:
        UserError: the device is not there.
    """

    def __init__(self, config: ClusterConfig) -> None:
        check_device(config.device)
        self._threads = torch.get_num_threads()
        self._worker = Worker(config.threads)
        self._until = 0

    def start(self, plan: TrainingPlan, snapshot: Snapshot) -> None:
        """Gives the run to the worker."""
        self._worker.install(plan, snapshot)
        self._worker.alone(0)

    def submit(self, until: int) -> None:
        """Notes the end of the block; the work is done in `wait`."""
        self._until = until

    def wait(self) -> Snapshot:
        """Does the rounds of the block."""
        self._worker.run(0, self._until)
        return self.latest()

    def latest(self) -> Snapshot:
        """The map after the last complete round."""
        snapshot = self._worker.snapshot()
        assert snapshot is not None
        return snapshot

    def close(self) -> None:
        """Gives the threads back."""
        torch.set_num_threads(self._threads)
