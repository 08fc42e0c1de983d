"""Peak memory of workers that train on a table larger than they may hold.

Axes: N rows, D features, W workers.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.benchmarks.markdown import table
from pipeline.benchmarks.speed import Report, machine, timed
from pipeline.config import ClusterConfig
from pipeline.errors import UserError
from pipeline.prepare import prepare
from pipeline.sources.base import Batch, SourceOptions, SourceSpec
from pipeline.trainer import open_group, train

_GIGABYTE = 1e9
_FEATURES = 32
_SAMPLE_S = 0.05


class RandomTable:
    """Rows around 100 random points, made as they are read.

    Args:
        num_samples: N.
    """

    name = "random"
    options = SourceOptions()

    def __init__(self, num_samples: int) -> None:
        names = tuple(f"x{i}" for i in range(_FEATURES))
        self.spec = SourceSpec(
            kind="table", shape=(_FEATURES,), dtype="float32", class_names=(), feature_names=names,
            details={"rows": num_samples},
        )  # fmt: skip
        self._number = num_samples

    def batches(self) -> Iterator[Batch]:
        """All rows, some megabytes at a time."""
        rng = np.random.default_rng(0)
        points = rng.random((100, _FEATURES), dtype=np.float32)
        for first in range(0, self._number, 16_384):
            rows = np.arange(first, min(first + 16_384, self._number))
            noise = 0.1 * rng.random((len(rows), _FEATURES), dtype=np.float32)
            features = 0.9 * points[rng.integers(0, 100, len(rows))] + noise
            nobody = np.full(len(rows), -1)
            yield Batch(features=features, labels=nobody, keys=rows, rows=rows, split="train", place="random rows")


class Watch(threading.Thread):
    """Looks at the memory of processes until it is told to stop.

    Attributes:
        private: largest anonymous resident bytes of each process: neither mapped files nor shared memory.
        resident: largest resident bytes, with the pages of mapped files, which the system may take back.
    """

    def __init__(self, pids: list[int]) -> None:
        super().__init__(daemon=True)
        self.private, self.resident = dict.fromkeys(pids, 0), dict.fromkeys(pids, 0)
        self._end = threading.Event()

    def run(self) -> None:
        """Samples until `stop`; a process that has ended is passed over."""
        processes = {pid: psutil.Process(pid) for pid in self.private}
        while not self._end.wait(_SAMPLE_S):
            for pid, process in processes.items():
                try:
                    memory = process.memory_info()
                except psutil.NoSuchProcess:
                    continue
                self.private[pid] = max(self.private[pid], memory.rss - memory.shared)
                self.resident[pid] = max(self.resident[pid], memory.rss)

    def stop(self) -> None:
        """Ends the watch."""
        self._end.set()
        self.join()


def measure(num_samples: int, workers: int, batch_size: int, folder: Path | None, report: Report) -> dict[str, Any]:
    """Make the table, train one epoch of a 10x10 map on Ray workers, remove the table.

    Args:
        num_samples: N.
        workers: W.
        batch_size: samples per round.
        folder: where the table lies meanwhile; None = the system's temporary directory.
        report: receives lines of progress.
    """
    if workers < 1:
        raise UserError(f"--workers must be >= 1. Got {workers}.")
    place = Path(tempfile.mkdtemp(prefix="somgrad-memory-", dir=folder))
    try:
        making, manifest = timed(lambda: prepare(RandomTable(num_samples), place / "data"))
        report(f"{manifest.splits['train'].num_samples:,} rows prepared in {making:.0f} s")
        settings = {
            "data.path": str(place / "data"), "train.model": "kohonen", "map.rows": 10, "map.columns": 10,
            "map.algorithm": "superstep", "map.batch_size": batch_size, "map.tile_size": 4096, "map.epochs": 1,
            "cluster.workers": workers, "tracking.uri": "none", "train.evaluate_epochs": 0,
        }  # fmt: skip
        with open_group(ClusterConfig(workers=workers), report) as group:
            watch = Watch(group.pids())  # type: ignore[attr-defined]
            watch.start()
            try:
                taken, summary = timed(lambda: train(settings, place / "run", say=report, group=group))
            finally:
                watch.stop()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return {
        "num_samples": num_samples,
        "num_features": _FEATURES,
        "data_gb": num_samples * _FEATURES * 4 / _GIGABYTE,
        "private_gb": [value / _GIGABYTE for value in watch.private.values()],
        "resident_gb": [value / _GIGABYTE for value in watch.resident.values()],
        "rounds": summary["rounds"],
        "seconds": taken,
        "prepare_seconds": making,
        "machine": machine(1),
    }


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    pairs = zip(result["private_gb"], result["resident_gb"], strict=True)
    rows = [[str(n), f"{private:.2f}", f"{resident:.2f}"] for n, (private, resident) in enumerate(pairs)]
    return "\n\n".join([
        "## Memory of a worker", f"`{command}`",
        f"A table of {result['num_samples']:,} x {result['num_features']} float32 ({result['data_gb']:.2f} GB), one "
        f"epoch of a 10x10 map ({result['rounds']} rounds) in {result['seconds']:.0f} s. Peaks in GB, looked at every "
        f"{_SAMPLE_S:g} s; target below 1 GB private. Private is anonymous memory (RSS less mapped files and shared "
        "memory); RSS counts the pages of the mapped data set too, which the system takes back when it needs them.",
        table(["worker", "private", "RSS"], rows).strip(),
    ])  # fmt: skip
