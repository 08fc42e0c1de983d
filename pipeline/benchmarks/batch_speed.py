"""The batch map beside other libraries: same samples, first prototypes, kernel and radii, in one process.

Axes: N samples, D features, K nodes.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from pipeline.benchmarks.shared import Report, in_words, machine, spread, table, timed
from pipeline.errors import DataError, UserError
from somcore import KohonenSOM, MapConfig, initial_indices, initial_state
from somcore.metrics import MapQuality, map_quality

MAPS = ("fastersom", "xpysom", "minisom")
PEERS = (*MAPS, "kmeans", "floor")
_MINISOM_SAMPLES = 500


@dataclass(frozen=True)
class Task:
    """What all of them train.

    Attributes:
        samples: (N, D) float32.
        start: (K, D) float32, first prototypes.
        side: rows and columns of the lattice.
        epochs: passes.
        first, last: radius of the first and of the last pass.
        seed: of the choice of the first prototypes.
    """

    samples: Tensor
    start: Tensor
    side: int
    epochs: int
    first: float
    last: float
    seed: int

    @classmethod
    def of(cls, samples: Tensor, side: int, epochs: int, seed: int) -> Task:
        """The task of the first `epochs` passes from radius side / 2 to 1."""
        config = MapConfig(variant="kohonen", rows=side, columns=side, seed=seed)
        indices = initial_indices(config.resolve(num_samples=len(samples), num_features=samples.shape[1]), len(samples))
        assert indices is not None
        return cls(samples, samples[indices], side, epochs, side / 2, 1.0, seed)

    @property
    def limit(self) -> float:
        """Radius after one pass more, to which the peers' schedules run."""
        return float(self.first * (self.last / self.first) ** (self.epochs / max(1, self.epochs - 1)))


def pixels(folder: Path, rows: int | None) -> Tensor:
    """(N, 784) float32 in [0, 1]: the training images of Fashion-MNIST."""
    file = folder / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    if not file.is_file():
        raise DataError(f"--data must hold {file.relative_to(folder)}. Not found in {folder}.")
    raw = torch.frombuffer(bytearray(gzip.decompress(file.read_bytes())), dtype=torch.uint8)[16:]
    return (raw.view(-1, 784)[:rows] / 255).contiguous()


def measure(task: Task, peers: list[str], repeats: int, threads: int, report: Report) -> dict[str, Any]:
    """Train each of them several times in turn.

    Args:
        task: what is trained.
        peers: names out of PEERS.
        repeats: of ours and of the fast peers; the slow ones run once.
        threads: of torch and of NumPy's libraries.
        report: receives lines of progress.

    Returns:
        For every name its seconds and quality; names of the peers that are not installed.
    """
    torch.set_num_threads(threads)
    runs = {"somgrad": ours} | {name: RUNS[name] for name in peers}
    absent = [name for name in peers if name in MAPS and not importlib.util.find_spec(name)]
    seconds: dict[str, list[float]] = {name: [] for name in runs if name not in absent}
    found: dict[str, Tensor | None] = {}
    with threadpool_limits(threads):
        for repeat in range(repeats):
            for name in seconds:
                if repeat and name in ("xpysom", "minisom", "kmeans"):
                    continue
                taken, (share, found[name]) = timed(partial(runs[name], task))
                seconds[name].append(taken / share)
                report(f"{name}: {seconds[name][-1]:.2f} s")
    names = {name: spread(values) for name, values in seconds.items()}
    quality = {name: _quality(task, prototypes) for name, prototypes in found.items() if prototypes is not None}
    quality.get("kmeans", {}).pop("topographic_error", None)  # its nodes have no places
    rows = {name: {"seconds": names[name], **quality.get(name, {})} for name in names}
    return {"methods": rows, "absent": absent, "epochs": task.epochs, "machine": machine(threads)} | _ratio(seconds)


def _ratio(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """How many times faster ours is than the fastest other map, repeat by repeat."""
    peers = [name for name in MAPS if name in seconds]
    if not peers:
        return {"fastest_peer": None, "speedup": None}
    fastest = min(peers, key=lambda name: min(seconds[name]))
    theirs = seconds[fastest]
    pairs = [theirs[min(i, len(theirs) - 1)] / own for i, own in enumerate(seconds["somgrad"])]
    return {"fastest_peer": fastest, "speedup": spread(pairs)}


def ours(task: Task) -> tuple[float, Tensor]:
    """KohonenSOM: the share of the work done, and the prototypes."""
    som = KohonenSOM(
        rows=task.side, columns=task.side, lattice="rectangular", radius=task.first, final_radius=task.last,
        epochs=task.epochs, seed=task.seed,
    )  # fmt: skip
    som.fit(task.samples.numpy())
    return 1.0, torch.from_numpy(som.prototypes_)


def _fastersom(task: Task) -> tuple[float, Tensor]:
    from fastersom import SOM

    som = SOM(
        task.side, task.side, n_epochs=task.epochs, sigma_initial=task.first, sigma_final=task.limit, init=task.start,
        device="cpu",
    )  # fmt: skip
    return 1.0, torch.as_tensor(som.fit(task.samples).weights_)


def _xpysom(task: Task) -> tuple[float, Tensor]:
    from xpysom import XPySom

    som = XPySom(
        task.side, task.side, task.samples.shape[1], sigma=task.first, sigmaN=task.limit, std_coeff=1.0,
        random_seed=0, xp=np,
    )  # fmt: skip
    som._weights = task.start.numpy().reshape(task.side, task.side, -1).copy()
    som.train(task.samples.numpy(), task.epochs)
    return 1.0, torch.from_numpy(np.asarray(som._weights, dtype=np.float32).reshape(len(task.start), -1))


def _minisom(task: Task) -> tuple[float, None]:
    from minisom import MiniSom

    som = MiniSom(task.side, task.side, task.samples.shape[1], sigma=task.first, learning_rate=0.5, random_seed=0)
    som._weights = task.start.numpy().reshape(task.side, task.side, -1).astype(np.float64)
    number = min(_MINISOM_SAMPLES, len(task.samples))
    som.train(task.samples[:number].numpy(), number)
    return number / (len(task.samples) * task.epochs), None


def _kmeans(task: Task) -> tuple[float, Tensor]:
    from sklearn.cluster import KMeans

    means = KMeans(len(task.start), init=task.start.numpy(), n_init=1, max_iter=task.epochs, tol=0.0)
    return 1.0, torch.from_numpy(means.fit(task.samples.numpy()).cluster_centers_)


def _floor(task: Task) -> tuple[float, None]:
    """Two float32 matrix products per pass: all distances, and sums by a one-hot matrix."""
    scores = torch.empty(len(task.samples), len(task.start))
    for _ in range(task.epochs):
        torch.mm(task.samples, task.start.T, out=scores)
        torch.mm(scores.T, task.samples)
    return 1.0, None


RUNS: dict[str, Callable[[Task], tuple[float, Tensor | None]]] = {
    "fastersom": _fastersom,
    "xpysom": _xpysom,
    "minisom": _minisom,
    "kmeans": _kmeans,
    "floor": _floor,
}


def _quality(task: Task, prototypes: Tensor) -> dict[str, float]:
    """Errors of a map, all measured alike: exact, on the lattice of the task."""
    config = MapConfig(variant="kohonen", rows=task.side, columns=task.side, lattice="rectangular")
    config = config.resolve(num_samples=len(task.samples), num_features=task.samples.shape[1])
    state = initial_state(config, num_features=task.samples.shape[1], num_classes=0, samples=prototypes)
    total = MapQuality()
    for first in range(0, len(task.samples), 2048):
        total = total.merge(map_quality(state, task.samples[first : first + 2048], config))
    return {"quantization_error": total.quantization_error, "topographic_error": total.topographic_error}


def chosen(text: str) -> list[str]:
    """The peers that an option names."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise UserError(f"--peers must name some of {', '.join(PEERS)}. Got '{name}'.")
    return names


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    labels = {
        "kmeans": "scikit-learn KMeans(400), no map",
        "floor": "two float32 matrix products per epoch: all distances, all sums",
        "minisom": f"minisom (from {_MINISOM_SAMPLES} samples)", "xpysom": "xpysom (once)",
    }  # fmt: skip
    rows = []
    for name, row in result["methods"].items():
        errors = [f"{row[k]:.5f}" if k in row else "-" for k in ("quantization_error", "topographic_error")]
        rows.append([labels.get(name, name), in_words(row["seconds"]), *errors])
    about = result["machine"]
    lines = [
        "## Batch map: 20x20, Fashion-MNIST", f"`{command}`",
        f"{result['epochs']} epochs, {about['threads']} threads of {about['cpus']} CPUs, load {about['load']}, "
        f"torch {about['torch']}. Seconds: median (min to max).",
        table(["method", "seconds", "quantization error", "topographic error"], rows).strip(),
    ]  # fmt: skip
    if result["speedup"]:
        maps = [name for name in result["methods"] if name in MAPS]
        other = result["fastest_peer"] + (f", the fastest of {', '.join(maps)}" if len(maps) > 1 else "")
        lines.append(f"somgrad is {in_words(result['speedup'])} times as fast as {other}; target 1.5.")
    if result["absent"]:
        lines.append(f"Not installed: {', '.join(result['absent'])} (`pip install '.[bench]'`).")
    return "\n\n".join(lines)
