"""One training of SS-SOM on a small table: seconds, and what the exact reduction costs over a float one.

Axes: N samples, D features.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.benchmarks.shared import Report, in_words, machine, spread, table
from pipeline.benchmarks.uci import tables
from pipeline.training.reduction import scale_of
from pipeline.training.rounds import RoundPlan, round_statistics
from somcore import SSSOM, MapConfig, MapState, advance, initial_state


def measure(folder: Path, epochs: int, repeats: int, report: Report) -> dict[str, Any]:
    """Train on pendigits, repetition 1, fold 1, all labels, on one thread; exact and fast in turn.

    Args:
        folder: of the tables.
        epochs: passes of the organisation phase.
        repeats: of each.
        report: receives lines of progress.
    """
    torch.set_num_threads(1)
    pendigits = tables.load(folder / "pendigits.parquet")
    fold = pendigits.folds[0]
    X, y = fold.features.numpy(), fold.classes.numpy()
    seconds: dict[str, list[float]] = {"estimator": [], "exact": [], "fast": []}
    state, nodes = None, 0
    for repeat in range(repeats):
        taken, som = _clocked(partial(SSSOM(epochs=epochs, seed=0).fit, X, y))
        seconds["estimator"].append(taken)
        for reduction in ("exact", "fast") if repeat % 2 else ("fast", "exact"):
            taken, state = _clocked(partial(_train, som.config_, fold, pendigits.num_classes, reduction))
            seconds[reduction].append(taken)
        nodes = som.n_nodes_
        report(", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items()))
    assert state is not None
    ratios = [exact / fast for exact, fast in zip(seconds["exact"], seconds["fast"], strict=True)]
    return {
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "exact_over_fast": spread(ratios),
        "num_samples": len(X),
        "num_features": X.shape[1],
        "epochs": epochs,
        "nodes": nodes,
        "rounds": state.round,
        "accuracy": float(som.score(fold.test_features.numpy(), fold.test_classes.numpy())),
        "machine": machine(1),
    }


def _clocked(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call on one thread: what a watch shows when nobody else is there."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def _train(config: MapConfig, fold: tables.Fold, num_classes: int, reduction: str) -> MapState:
    """The rounds of the pipeline in one process: sums in fixed point, or in float64."""
    state = initial_state(config, num_features=fold.features.shape[1], num_classes=num_classes)
    number = len(fold.features)
    while not state.finished:
        plan = RoundPlan.of(state.round, config, number)
        statistics = round_statistics(
            state, lambda rows: (fold.features[rows], fold.classes[rows]), config, plan, number,
            scale=scale_of(state, plan.num_samples, reduction),
        )  # fmt: skip
        state = advance(state, statistics, config)
    return state


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    names = {"estimator": "SSSOM.fit", "exact": "pipeline's rounds, exact", "fast": "pipeline's rounds, float sums"}
    rows = [[names[name], in_words(values)] for name, values in result["seconds"].items()]
    return "\n\n".join([
        "## Growing map: SS-SOM on pendigits", f"`{command}`",
        f"{result['num_samples']} x {result['num_features']} samples, all labelled, {result['epochs']} epochs, one "
        f"thread, load {result['machine']['load']}. {result['nodes']} nodes after {result['rounds']} rounds, "
        f"test accuracy {result['accuracy']:.3f}. CPU seconds: median (min to max); target 2.",
        table(["training", "CPU seconds"], rows).strip(),
        f"Exact over float sums: {in_words(result['exact_over_fast'], 3)} times the time; target at most 1.15.",
    ])  # fmt: skip
