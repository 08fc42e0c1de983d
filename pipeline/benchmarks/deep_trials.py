"""Many short deep trainings: which anchors keep a representation alive, and how often random settings collapse.

Every trial is kept when it is done; the same folder goes on where it was left. A collapse is a result with numbers.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.benchmarks.shared import design_of, keep_design
from pipeline.config import RunConfig
from pipeline.deep.collapse import MEASURES
from pipeline.deep.rounds import DeepRounds
from pipeline.errors import Collapsed, Diverged
from pipeline.places import write_atomically
from pipeline.prepared.shards import Dataset
from pipeline.training.plan import make_plan
from pipeline.training.rundir import RunDirectory
from pipeline.training.trainer import train
from somcore.sampling import hash_uniform

Say = Callable[[str], None]

SHORT = {"loss.relevance_warmup_rounds": 20, "loss.consistency_start": 60}
"""What a recipe begins after an epoch must begin earlier in trainings of one: relevances, the alarm, consistency."""

OFF = {f"loss.{name}_weight": 0.0 for name in (
    "pull", "labelled_pull", "push", "cross_entropy", "strong_cross_entropy", "consistency", "classifier", "agreement",
    "balance", "reconstruction", "variance", "covariance",
)}  # fmt: skip
NO_LABELS = {"train.labelled_fraction": 0.0}
PULL = OFF | {"loss.pull_weight": 1.0}
LABELLED = PULL | {"loss.labelled_pull_weight": 1.0, "loss.push_weight": 1.0}
ANCHORS: dict[str, dict[str, Any]] = {
    "pull alone, no labels": PULL | NO_LABELS,
    "+ variance floor": PULL | NO_LABELS | {"loss.variance_weight": 1.0},
    "+ variance floor, covariance": PULL | NO_LABELS | {"loss.variance_weight": 1.0, "loss.covariance_weight": 1.0},
    "+ decoder": PULL | NO_LABELS | {"loss.reconstruction_weight": 4.0},
    "+ decoder, variance floor": PULL | NO_LABELS | {"loss.reconstruction_weight": 4.0, "loss.variance_weight": 1.0},
    "+ balance": PULL | NO_LABELS | {"loss.balance_weight": 1.0},
    "+ agreement": PULL | NO_LABELS | {"loss.agreement_weight": 1.0},
    "+ agreement, balance": PULL | NO_LABELS | {"loss.agreement_weight": 1.0, "loss.balance_weight": 1.0},
    "pull and push, labels": LABELLED,
    "+ variance floor, labels": LABELLED | {"loss.variance_weight": 1.0},
    "+ decoder, labels": LABELLED | {"loss.reconstruction_weight": 4.0},
    "+ classifier": LABELLED | {"loss.classifier_weight": 1.0},
    "+ cross-entropy": LABELLED | {"loss.cross_entropy_weight": 1.0},
    "+ cross-entropy, consistency": LABELLED | {"loss.cross_entropy_weight": 1.0, "loss.consistency_weight": 1.0},
    "+ cross-entropy, classifier": LABELLED | {"loss.cross_entropy_weight": 1.0, "loss.classifier_weight": 1.0},
    "+ cross-entropy, consistency, variance floor, balance": LABELLED | {
        "loss.cross_entropy_weight": 1.0, "loss.consistency_weight": 1.0, "loss.variance_weight": 1.0,
        "loss.balance_weight": 0.3,
    },
}  # fmt: skip
"""The ablation: each row's settings over the recipe's."""

RANGES: dict[str, tuple[str, float, float]] = {
    "deep.learning_rate": ("log", 1e-4, 5e-3),
    "encoder.dim": ("integer", 8, 128),
    "map.capacity": ("integer", 15, 200),
    "map.bmu_rate": ("log", 0.005, 0.2),
    "map.relevance_slope": ("log", 0.05, 1.0),
    "map.threshold_quantile": ("log", 0.01, 0.2),
    "loss.temperature": ("log", 0.005, 0.1),
    "loss.pull_weight": ("log", 0.05, 5.0),
    "loss.labelled_pull_weight": ("log", 0.05, 5.0),
    "loss.push_weight": ("log", 0.05, 5.0),
    "loss.variance_weight": ("log", 0.1, 10.0),
    "loss.confidence": ("linear", 0.6, 0.99),
}
"""What random settings are drawn from: scale, lowest, highest."""


@dataclass(frozen=True)
class Trial:
    """One short training: its name and what it changes."""

    name: str
    changes: dict[str, Any]


def anchor_trials() -> list[Trial]:
    """The ablation of anchors."""
    return [Trial(name, changes) for name, changes in ANCHORS.items()]


def random_trials(count: int, seed: int = 0) -> list[Trial]:
    """Latin hypercube over `RANGES`, a function of count and seed alone."""
    trials: list[dict[str, Any]] = [{} for _ in range(count)]
    places = torch.arange(count)
    for name, (scale, low, high) in RANGES.items():
        order = hash_uniform(seed, f"trials/{name}/order", places).argsort().tolist()
        inside = hash_uniform(seed, f"trials/{name}/place", places).to(torch.float64) * 2.0**-62
        for trial, row in enumerate(order):
            share = (row + float(inside[trial])) / count
            logs = math.log(low), math.log(high)
            value = math.exp(logs[0] + share * (logs[1] - logs[0])) if scale == "log" else low + share * (high - low)
            trials[trial][name] = round(value) if scale == "integer" else value
    return [Trial(f"set {number}", changes) for number, changes in enumerate(trials)]


def run_trials(
    trials: Sequence[Trial], settings: dict[str, Any], out: Path, minutes: float | None, say: Say
) -> list[dict[str, Any]]:
    """Results of all trials that are done; computes the missing ones while there is time.

    Raises:
        UserError: `out` keeps results of other settings or trials.
    """
    keep_design(out, design_of(settings) | {"trials": [trial.changes for trial in trials]})
    end = None if minutes is None else time.monotonic() + 60 * minutes
    results = []
    for number, trial in enumerate(trials):
        path = out / f"{number:03d}.json"
        if not path.exists():
            if end is not None and time.monotonic() > end:
                break
            result = _run(trial, settings, out / f"run-{number:03d}", say)
            write_atomically(path, json.dumps(result).encode())
        results.append(json.loads(path.read_text(encoding="utf-8")))
    return results


def _run(trial: Trial, settings: dict[str, Any], directory: Path, say: Say) -> dict[str, Any]:
    last: dict[str, Any] = {}
    flat = settings | trial.changes | {"train.model": "deep"}
    result: dict[str, Any] = {"name": trial.name, "changes": trial.changes, "ended": "finished"}

    def watch(epoch: int, expected: int, metrics: Any) -> None:
        last.update(metrics)

    try:
        done = train(flat, directory, resume=bool(RunDirectory(directory).record), on_epoch=watch)
        result |= {name: done.get(name) for name in ("accuracy", "nmi", "purity", "nodes", "rounds", "seconds")}
    except Collapsed as collapse:
        result |= {"ended": "collapsed", **collapse.details}
    except Diverged as failure:
        result |= {"ended": "failed", "reason": str(failure)}
    result |= {name: last[name] for name in MEASURES if name in last and name not in result}
    if result["ended"] == "finished" and all(name in result for name in MEASURES):
        run = RunConfig.build(flat)
        limits = DeepRounds(make_plan(run, Dataset.open(run.data.path))).limits  # those that the training has
        result["ended"] = "collapsed" if done.get("collapsed") or limits.passed(result) else "finished"
    say(f"{trial.name}: {result['ended']}, largest node {result.get('largest_share', math.nan):.2f}")
    return result


def markdown(results: list[dict[str, Any]], title: str, command: str) -> str:
    """One row per trial: how it ended, and the shares and scores of its last epoch.

    Collapsed is what the alarm ended, and, where it was off, what it would have ended in the last epoch.
    """
    columns = (
        "largest_share", "effective_nodes", "embedding_rank", "mean_std", "nodes", "accuracy", "nmi", "purity"
    )  # fmt: skip
    lines = [f"### {title}", "", f"| | ended | {' | '.join(name.replace('_', ' ') for name in columns)} |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for result in results:
        cells = [_cell(result.get(name)) for name in columns]
        lines.append(f"| {result['name']} | {result['ended']} | {' | '.join(cells)} |")
    ended = [result["ended"] for result in results]
    tally = ", ".join(f"{ended.count(kind)} {kind}" for kind in ("finished", "collapsed", "failed"))
    return "\n".join([*lines, "", f"{len(results)} trials: {tally}. Command: `{command}`.", ""])


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
