"""A trial of a large sweep by the compiled loops of `pipeline.sweeps.screening`: its scores, no map.

The loops repeat somcore's rules, ten and more times faster on small tables; their maps agree with somcore's to
rounding, not to the bit. So they only look: the trials that a sweep chooses are trained again by somcore, and those
figures are what it tells (decision 0010). N samples, D features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pipeline.config import RunConfig
from pipeline.environment import COMMIT, environment
from pipeline.prepared.scaling import MAX_ABS
from pipeline.prepared.shards import Dataset
from pipeline.sweeps.screening import can_screen, screen_map
from pipeline.tracking.journal import Journal
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan, make_plan, training_labels
from pipeline.training.scoring import Scorer, summary_of
from somcore.config import GROWING

FEWEST_TRIALS = 200
MOST_VALUES = 2_000_000
_OPEN = 64


def screenable(settings: Mapping[str, Any], num_samples: int, num_features: int, dense: bool) -> bool:
    """Whether the loops cover a trial: a growing map on a small table without missing values, exact sums, here.

    Args:
        settings: flat keys of the trial.
        num_samples, num_features: N and D of its training split.
        dense: a table without missing values.
    """
    if not dense or num_samples * num_features > MOST_VALUES or settings["train.model"] not in GROWING:
        return False
    run = RunConfig.build(settings)
    exact = run.train.reduction == "exact" and run.cluster.device == "cpu"
    return exact and can_screen(run.map_config())


def train_screened(settings: Mapping[str, Any], path: Path, name: str) -> dict[str, Any]:
    """Trains a trial by the loops, and records it.

    Args:
        settings: flat keys of the trial.
        path: its directory; gets a journal, and nothing else.
        name: of the trial.

    Returns:
        The summary, with the keys of `pipeline.training.trainer.train`; `map_digest` is None, as no map is kept.
    """
    began = time.monotonic()
    run = RunConfig.build(settings)
    dataset = _opened(run.data.path)
    plan = make_plan(run, dataset)
    features = dataset.read("train", slice(None))[0].to(torch.float64)
    labels = training_labels(plan, dataset.labels("train"))[0] if plan.num_classes else None
    state = screen_map(plan.config, features, labels, plan.num_classes, MAX_ABS)
    scorer = Scorer(plan, dataset, 0)
    scores = scorer.final(Snapshot(state))
    seconds = max(time.monotonic() - began, 1e-9)
    epochs = -(-state.round // plan.rounds_per_epoch)
    numbers = {**scores, "nodes": state.num_nodes, "seconds": seconds}
    _record(plan, run, path, name, epochs, scorer.split, numbers)
    found = {**scorer.scored(), **scores}
    return summary_of(run, state, epochs, found, None, seconds, epochs * plan.num_samples, path)


def _record(
    plan: TrainingPlan,
    run: RunConfig,
    path: Path,
    name: str,
    epochs: int,
    split: str,
    scores: Mapping[str, float | None],
) -> None:
    settings = {key: value for key, value in run.flat().items() if value is not None}
    resolved = {f"map.{k}": v for k, v in plan.config.to_dict().items() if k not in ("variant", "seed")}
    journal = Journal(path)
    tags = {**plan.identity, "split": split, "screened": "true"}
    tags |= {key: value for key, value in environment().items() if key == COMMIT}
    numbers = {key: float(value) for key, value in scores.items() if value is not None and value == value}
    begun = any(line["kind"] == "start" for line in journal.lines())  # in an attempt that failed
    first = {"kind": "resume"} if begun else {"kind": "start", "name": name, "params": settings | resolved}
    journal.write_all(
        {**first, "tags": tags},
        {"kind": "metrics", "values": numbers, "step": epochs},
        {"kind": "end", "status": "FINISHED", "tags": {}},
    )


@lru_cache(maxsize=_OPEN)
def _opened(path: str) -> Dataset:
    """A process does many trials on the same few tables."""
    return Dataset.open(path)
