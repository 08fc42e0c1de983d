"""Peak memory of workers that train on a table larger than they may hold.

Axes: N rows, D features, W workers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from pipeline.benchmarks.shared import Report, machine, scratch, table, timed
from pipeline.config import ClusterConfig
from pipeline.errors import UserError
from pipeline.prepare import prepare
from pipeline.prepared.shards import Dataset
from pipeline.sources.base import Batch, SourceOptions, SourceSpec
from pipeline.training.local import open_group
from pipeline.training.trainer import train

_GIGABYTE = 1e9
_FEATURES = 32
_SAMPLE_S = 0.05
_TILE = 4096
_RATE_S = 5.0  # of measuring what the disk and the processor can do


class RandomTable:
    """Rows around random points, made as they are read; of the same points, row by row, whatever N.

    Args:
        num_samples: N.
        num_features: D.
        num_classes: C; rows of one point have one class. 0 = no labels.
        num_points: how many there are.
    """

    name = "random"
    options = SourceOptions()

    def __init__(
        self, num_samples: int, num_features: int = _FEATURES, num_classes: int = 0, num_points: int = 100
    ) -> None:
        names = tuple(f"x{i}" for i in range(num_features))
        classes = tuple(f"class {c}" for c in range(num_classes))
        self.spec = SourceSpec(
            kind="table", shape=(num_features,), dtype="float32", class_names=classes, feature_names=names,
            details={"rows": num_samples},
        )  # fmt: skip
        self._number, self._features, self._classes, self._points = num_samples, num_features, num_classes, num_points

    def batches(self) -> Iterator[Batch]:
        """All rows, some megabytes at a time."""
        rng = np.random.default_rng(0)
        points = rng.random((self._points, self._features), dtype=np.float32)
        for first in range(0, self._number, 16_384):
            rows = np.arange(first, min(first + 16_384, self._number))
            noise = 0.1 * rng.random((len(rows), self._features), dtype=np.float32)
            chosen = rng.integers(0, self._points, len(rows))
            features = 0.9 * points[chosen] + noise
            labels = chosen % self._classes if self._classes else np.full(len(rows), -1)
            yield Batch(features=features, labels=labels, keys=rows, rows=rows, split="train", place="random rows")


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


def measure(
    num_samples: int, num_features: int, workers: int, batch_size: int, folder: Path | None, report: Report
) -> dict[str, Any]:
    """Make the table, train one epoch of a 10x10 map on Ray workers, remove the table.

    Args:
        num_samples: N.
        num_features: D.
        workers: W.
        batch_size: samples per round.
        folder: where the table lies meanwhile; None = the system's temporary directory.
        report: receives lines of progress.
    """
    if workers < 1:
        raise UserError(f"--workers must be >= 1. Got {workers}.")
    with scratch("memory", folder) as place:
        making, manifest = timed(lambda: prepare(RandomTable(num_samples, num_features), place / "data"))
        report(f"{manifest.splits['train'].num_samples:,} rows prepared in {making:.0f} s")
        unpacking, dataset = timed(lambda: _unpacked(place / "data"))
        report(f"unpacked in {unpacking:.0f} s")
        side = 10
        settings = {
            "data.path": str(place / "data"), "train.model": "kohonen", "map.rows": side, "map.columns": side,
            "map.algorithm": "superstep", "map.batch_size": batch_size, "map.tile_size": _TILE, "map.epochs": 1,
            "cluster.workers": workers, "tracking.uri": "none", "train.evaluate_epochs": 0,
        }  # fmt: skip
        rates = {"disk": disk_rate(dataset, workers), "gemm": gemm_rate(num_features, side * side, workers)}
        report(f"rows per second: {rates['disk']:,.0f} from the disk, {rates['gemm']:,.0f} through the products")
        forget(place / "data")
        with open_group(ClusterConfig(workers=workers), report) as group:
            watch = Watch(group.pids())  # type: ignore[attr-defined]
            watch.start()
            try:
                taken, summary = timed(lambda: train(settings, place / "run", say=report, group=group))
            finally:
                watch.stop()
    return {
        "num_samples": num_samples,
        "num_features": num_features,
        "data_gb": num_samples * num_features * 4 / _GIGABYTE,
        "private_gb": [value / _GIGABYTE for value in watch.private.values()],
        "resident_gb": [value / _GIGABYTE for value in watch.resident.values()],
        "rounds": summary["rounds"],
        "rates": rates | {"trained": num_samples / summary["seconds"]},
        "seconds": taken,
        "rounds_seconds": summary["seconds"],
        "prepare_seconds": making,
        "unpack_seconds": unpacking,
        "machine": machine(1),
    }


def _unpacked(path: Path) -> Dataset:
    dataset = Dataset.open(path)
    dataset.labels("train")
    return dataset


def forget(path: Path) -> None:
    """Drops the files of a data set from the page cache, so that the disk has to be asked."""
    for file in path.rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_rate(dataset: Dataset, workers: int) -> float:
    """Rows per second that come from the disk alone, in random order, a tile at a time, asked by W threads."""
    if dataset.place.local is not None:
        forget(dataset.place.local)
    count = dataset.num_samples("train")

    def read(thread: int) -> float:
        rng, done, start = np.random.default_rng(thread), 0, time.monotonic()
        while time.monotonic() - start < _RATE_S:
            dataset.read_raw("train", rng.integers(0, count, _TILE))
            done += _TILE
        return done / (time.monotonic() - start)

    with ThreadPoolExecutor(workers) as threads:
        return sum(threads.map(read, range(workers)))


def gemm_rate(num_features: int, num_nodes: int, workers: int) -> float:
    """Rows per second of the two float32 products that a distance needs, on as many cores as workers have."""
    rows, nodes = torch.rand(_TILE, num_features), torch.rand(num_features, num_nodes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done, start = 0, time.monotonic()
        while time.monotonic() - start < _RATE_S:
            _ = (rows @ nodes, rows @ nodes)
            done += _TILE
        return done / (time.monotonic() - start) * min(workers, os.cpu_count() or 1)
    finally:
        torch.set_num_threads(threads)


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    pairs = zip(result["private_gb"], result["resident_gb"], strict=True)
    rows = [[str(n), f"{private:.2f}", f"{resident:.2f}"] for n, (private, resident) in enumerate(pairs)]
    rates, row_bytes = result["rates"], 4 * result["num_features"]
    slower = min(rates["disk"], rates["gemm"])
    return "\n\n".join([
        "## Memory of a worker", f"`{command}`",
        f"A table of {result['num_samples']:,} x {result['num_features']} float32 ({result['data_gb']:.2f} GB), one "
        f"epoch of a 10x10 map: {result['rounds']} rounds in {result['rounds_seconds']:.0f} s, the whole training, "
        f"with its start and its final scores, in {result['seconds']:.0f} s; load {result['machine']['load']}. Peaks "
        f"in GB, looked at every {_SAMPLE_S:g} s; target below 1.5 GB RSS. Private is anonymous memory (RSS less "
        "mapped files and shared memory); RSS counts the pages of mapped files too, which the system takes back when "
        "it needs them.",
        table(["worker", "private", "RSS"], rows).strip(),
        f"Rows per second of the rounds: {rates['trained']:,.0f} trained "
        f"({rates['trained'] * row_bytes / 1e6:.0f} MB/s); "
        f"{rates['disk']:,.0f} read in random order from the cold disk ({rates['disk'] * row_bytes / 1e6:.0f} MB/s), "
        f"{rates['gemm']:,.0f} through two float32 matrix products, both as fast as {len(rows)} threads can. Training "
        f"over the slower of the two: {rates['trained'] / slower:.2f}. Made in {result['prepare_seconds']:.0f} s, "
        f"unpacked once in {result['unpack_seconds']:.0f} s.",
    ])  # fmt: skip
