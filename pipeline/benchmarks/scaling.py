"""What a round costs on several workers: rounds per second, bytes, and the share of the exact reduction.

The workers are those of the product, with a clock around their reduction. What a worker waits for the slowest one is
taken apart from what the reduction itself takes, by a small collective ahead of it.
N rows, K nodes, D features, C classes, T rows per tile, W workers.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.benchmarks.memory_use import RandomTable
from pipeline.benchmarks.scaling_model import fitted, predicted
from pipeline.benchmarks.shared import Report, machine, scratch
from pipeline.config import ClusterConfig, RunConfig
from pipeline.prepare import prepare
from pipeline.prepared.shards import Dataset
from pipeline.training.first import first_snapshot
from pipeline.training.plan import make_plan
from pipeline.training.reduction import Reduction
from pipeline.training.worker import Report as Block
from pipeline.training.worker import Worker
from somcore.statistics import BatchStatistics

_TILES = 64  # in a table
_WEAK = (2, 8, 32)  # tiles per worker of weak scaling
_WARM_UP = 3
_SIZES = (2**10, 2**14, 2**17, 2**19, 2**21)  # int64 numbers of a bare all-reduce
# model, K, D, C: one thing at a time from the middle one
CASES = (
    ("kohonen", 400, 784, 0), ("kohonen", 400, 32, 0), ("kohonen", 100, 784, 0), ("kohonen", 100, 32, 0),
    ("sssom", 400, 784, 10), ("sssom", 400, 32, 10), ("sssom", 400, 32, 100), ("sssom", 100, 32, 10),
)  # fmt: skip


class Clocked:
    """A reduction that notes how long it takes, and how long the others had to be waited for."""

    def __init__(self, inner: Reduction) -> None:
        self._inner, self.rank, self.world_size = inner, inner.rank, inner.world_size
        self.waited = self.took = 0.0

    def reduce(self, statistics: BatchStatistics) -> BatchStatistics:
        """Waits for all, then reduces."""
        start = time.perf_counter()
        self._inner.max(0.0)
        ready = time.perf_counter()
        merged = self._inner.reduce(statistics)
        self.waited, self.took = self.waited + ready - start, self.took + time.perf_counter() - ready
        return merged

    def max(self, value: float) -> float:
        """As it is."""
        return self._inner.max(value)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """As it is."""
        return self._inner.sum(values)

    @property
    def sent_bytes(self) -> int:
        """Of a world of one nothing is sent."""
        return int(getattr(self._inner, "sent_bytes", 0))


class ClockedWorker(Worker):
    """The worker of the product with a clock."""

    def run(self, generation: int, until: int) -> Block:
        """A block, with the clock set to zero before it."""
        reduction = self._reduction
        clock = Clocked(reduction)
        before, start, self._reduction = clock.sent_bytes, time.perf_counter(), clock
        first = 0 if self._snapshot is None else self._snapshot.state.round
        try:
            block = super().run(generation, until)
        finally:
            self._reduction = reduction
        rounds = max(1, block.round - first)
        self._figures = {
            "seconds": (time.perf_counter() - start) / rounds, "waited": clock.waited / rounds,
            "took": clock.took / rounds, "bytes": (clock.sent_bytes - before) / rounds,
        }  # fmt: skip
        return block

    def figures(self) -> dict[str, float]:
        """Of the last block, per round."""
        return self._figures

    def exchange(self, numbers: int, repeats: int) -> float:
        """Median seconds of a bare all-reduce of int64."""
        values, times = torch.zeros(numbers, dtype=torch.int64), []
        for _ in range(repeats):
            self._reduction.max(0.0)
            start = time.perf_counter()
            self._reduction.sum(values)
            times.append(time.perf_counter() - start)
        return statistics.median(times)


class Bench:
    """A group of clocked workers and random tables to train on."""

    def __init__(self, workers: int, place: Path, rounds: int, tile_size: int, report: Report) -> None:
        from pipeline.cluster.session import Session
        from pipeline.training.group import WorkerGroup

        self._config = ClusterConfig(workers=workers, cpus_per_worker=0.1)
        self._session = Session(self._config)
        self.group = WorkerGroup(self._config, self._session, report, ClockedWorker)
        self._place, self._rounds, self._tile_size = place, rounds, tile_size

    def close(self) -> None:
        """Lets the workers go."""
        self.group.close()
        self._session.close()

    def measure(self, model: str, nodes: int, features: int, classes: int, workers: int, tiles: int) -> dict[str, Any]:
        """Rounds of so many tiles; figures per round, the median of the workers.

        Args:
            model: kohonen or sssom.
            nodes: K.
            features: D.
            classes: C.
            workers: W.
            tiles: of T rows in a round, over all workers.
        """
        points = nodes if classes else 10 * nodes  # nodes that no sample falls on would not be sent
        path = self._place / f"{points}-{features}-{classes}"
        if not path.exists():
            prepare(RandomTable(_TILES * self._tile_size, features, classes, points), path)
        settings = {
            "data.path": str(path), "train.model": model, "map.tile_size": self._tile_size,
            "map.batch_size": tiles * self._tile_size, "map.epochs": 100_000, "cluster.workers": workers,
        }  # fmt: skip
        side = round(nodes**0.5)
        settings |= (
            {"map.rows": side, "map.columns": side, "map.algorithm": "superstep", "map.radius": 1.0}
            if model == "kohonen"
            else {"map.capacity": nodes, "map.activation_threshold": 0.99}  # rows of one point fall on one node
        )
        dataset = Dataset.open(path)
        plan = make_plan(RunConfig.build(settings), dataset)
        self.group.resize(workers)
        self.group.start(plan, first_snapshot(plan, dataset))
        for until in (_WARM_UP, _WARM_UP + self._rounds):
            self.group.submit(until)
            state = self.group.wait().state
        found = self.group.asked("figures")
        middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
        middle["share"] = middle["took"] / (middle["seconds"] - middle["waited"])
        case = {"model": model, "nodes": nodes, "features": features, "classes": classes}
        return case | {"workers": workers, "tiles": tiles, "alive": state.num_nodes} | middle

    def weak(self, tiles: int) -> float:
        """Samples per second of 2 workers over those of 1, both with so many tiles per worker in a round."""
        one, two = (self.measure("kohonen", 400, 784, 0, w, w * tiles)["seconds"] for w in (1, 2))
        return 2 * one / two

    def exchange(self) -> dict[int, float]:
        """Seconds of a bare all-reduce by number of int64; the group is that of the last measurement."""
        return {numbers: statistics.median(self.group.asked("exchange", numbers, 15)) for numbers in _SIZES}


def measure(
    workers: int, rounds: int, repeats: int, tile_size: int, folder: Path | None, report: Report
) -> dict[str, Any]:
    """All tables of the page.

    Args:
        workers: the most.
        rounds: per measurement.
        repeats: of weak scaling.
        tile_size: T.
        folder: where tables lie meanwhile; None = the system's temporary directory.
        report: receives lines of progress.
    """
    with scratch("scaling", folder) as place:
        bench = Bench(workers, place, rounds, tile_size, report)
        try:
            cases, bare = [], {}
            for w in range(1, workers + 1):
                for case in CASES:
                    cases.append(bench.measure(*case, workers=w, tiles=4))
                    report(_line(cases[-1]))
                if w > 1:
                    bare[w] = bench.exchange()
            shares = [
                bench.measure(model, 400, 784, classes, 2, 2 * tiles)
                for model, classes in (("kohonen", 0), ("sssom", 10))
                for tiles in (1, 2, 4, 8, 16)
            ]
            for one in shares:
                report(_line(one))
            weak = {tiles: [bench.weak(tiles) for _ in range(repeats)] for tiles in _WEAK}
        finally:
            bench.close()
    model = fitted(bare)
    checked = [one | {"predicted": predicted(model, one["workers"], one["bytes"])} for one in cases + shares
               if one["workers"] > 1]  # fmt: skip
    return {
        "cases": cases, "shares": shares, "weak": weak, "bare": bare, "model": model,
        "checked": checked, "tile_size": tile_size, "machine": machine(1),
    }  # fmt: skip


def _line(one: dict[str, Any]) -> str:
    return (
        f"{one['model']} K={one['nodes']} D={one['features']} C={one['classes']} W={one['workers']} "
        f"tiles={one['tiles']}: {1 / one['seconds']:.1f} rounds/s, {one['bytes'] / 1e6:.2f} MB, "
        f"reduction {100 * one['share']:.1f} %"
    )
