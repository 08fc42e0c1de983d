"""Scripted faults against real Ray actors: a worker ends, or stops, when it enters a named phase of a round.

Nothing of this is in the product. `WorkerGroup` takes the class of its workers, and the one made here looks for an
order at the door of every phase. An order is a file: `order(folder, "reduce", "SIGKILL", rank=1)`. The first worker
that it fits takes it (by renaming it, so one alone does) and sends itself the signal, which neither Python nor the
process itself can catch: as if the machine had done it, but at a known place.

Phases: read (rows of a tile), encode (a tile to statistics or features), reduce (the collective), advance (merged sums
to the next map), checkpoint (rank 0 hands its map to the driver).
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.training.worker import Worker
from tests.cluster.nodes import START_S

PHASES = ("read", "encode", "reduce", "advance", "checkpoint")


def order(folder: Path, phase: str, fault: str = "SIGKILL", rank: int | None = None) -> None:
    """Orders a fault, to strike once; `rank` None = whoever comes first."""
    assert phase in PHASES
    new = folder / f".{phase}"
    new.write_text(json.dumps({"fault": fault, "rank": rank}))
    new.rename(folder / phase)


def struck(folder: Path, phase: str) -> bool:
    """Whether the order was carried out."""
    return not (folder / phase).exists() and any(folder.glob(f"{phase}.*"))


def kind(folder: Path) -> type[Worker]:
    """A worker that obeys the orders in a folder."""
    return type("Ordered", (FaultyWorker,), {"orders": str(folder)})


class FaultyWorker(Worker):
    """A worker that looks for orders before every phase; all else is the worker of the product."""

    orders = ""

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        from pipeline.deep import rounds as deep_rounds
        from pipeline.deep import step as deep_step
        from pipeline.prepared import shards
        from pipeline.training import reduction, rounds

        places: list[tuple[str, Any, str]] = [
            ("read", shards.Dataset, "read"),
            ("encode", rounds, "accumulate"),
            ("encode", deep_step.TileStep, "_encode"),
            ("reduce", reduction.ProcessGroupReduction, "reduce"),
            ("advance", rounds, "advance"),
            ("advance", deep_rounds, "advance"),
        ]
        for phase, place, name in places:
            setattr(place, name, self._guarded(phase, getattr(place, name)))

    def snapshot(self) -> Any:
        self._obey("checkpoint")
        return super().snapshot()

    def _guarded(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*args: Any, **options: Any) -> Any:
            self._obey(phase)
            return function(*args, **options)

        return guarded

    def _obey(self, phase: str) -> None:
        path = Path(self.orders) / phase
        if not path.exists():
            return
        try:
            wanted = json.loads(path.read_text())
            if wanted["rank"] not in (None, self._reduction.rank):
                return
            path.rename(f"{path}.{os.getpid()}")
        except OSError:  # another one took it
            return
        os.kill(os.getpid(), getattr(signal, wanted["fault"]))


def until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@contextmanager
def second_node(address: str, cpus: float) -> Iterator[Node]:
    """A second raylet on this machine, joined to the cluster like another machine; gone at the end."""
    node = Node(address, cpus)
    try:
        yield node
    finally:
        node.kill()


class Node:
    """A Ray node of its own, begun with `ray start`."""

    def __init__(self, address: str, cpus: float) -> None:
        import ray

        self._before = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        words = ["start", "--address", address, "--num-cpus", str(cpus), "--num-gpus", "0", "--block"]
        words += ["--object-store-memory", str(100 * 2**20), "--min-worker-port", "0", "--max-worker-port", "0"]
        self._words = [str(Path(sys.executable).with_name("ray")), *words]
        self._attempts = 0
        self._start()
        until(self._joined, 4 * START_S)

    def _start(self) -> None:
        self._attempts += 1
        self._process = subprocess.Popen(
            self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def _joined(self) -> bool:
        """Whether the node is there; Ray gives up after 30 s where a machine is busy, and is started again."""
        import ray

        if self._process.poll() is not None:
            assert self._attempts < 4, "ray start ended"
            self._start()
        return any(node["Alive"] and node["NodeID"] not in self._before for node in ray.nodes())

    def pids(self) -> set[int]:
        """All processes of the node, its workers too."""
        import psutil

        try:
            return {child.pid for child in psutil.Process(self._process.pid).children(recursive=True)}
        except psutil.NoSuchProcess:
            return set()

    def kill(self) -> None:
        """SIGKILL to all of them at once: the machine is gone."""
        for pid in [self._process.pid, *self.pids()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
