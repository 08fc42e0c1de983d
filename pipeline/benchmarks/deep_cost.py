"""What the map costs a network: rounds of deep training beside plain cross-entropy, exact beside fast, in one run.

All contestants take the same tiles, views and encoder and are measured in turns, in CPU seconds of one thread, so that
other work on the machine disturbs them little. Rates are of the median turn, ratios of all turns, refreshes included.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from pipeline.benchmarks.supervised import Classifier
from pipeline.config import RunConfig
from pipeline.deep.augment import Draws
from pipeline.deep.encoders import initialise
from pipeline.deep.plan import DeepRound
from pipeline.deep.rounds import DeepRounds
from pipeline.prepared.shards import Dataset
from pipeline.training.checkpoint import refuse_shared
from pipeline.training.first import first_snapshot
from pipeline.training.plan import make_plan
from pipeline.training.reduction import LocalReduction
from pipeline.training.trainer import train

_WARM, _STEADY = 3, 4
_FAR = 1000  # epochs: no measured round is the last of its run, which has the passes of the end in it
_ONE_VIEW = {"loss.strong_cross_entropy_weight": 0.0, "loss.agreement_weight": 0.0}
Round = Callable[[int], None]


def one_thread() -> None:
    """CPU seconds are comparable only if there is one thread to spend them."""
    torch.set_num_threads(1)


def deep_rounds(settings: Mapping[str, Any], reduction: str) -> Round:
    """One round of a deep run after the other, refresh included."""
    run = RunConfig.build({**settings, "train.reduction": reduction})
    dataset = Dataset.open(run.data.path)
    plan = make_plan(run, dataset)
    assert plan.deep is not None
    rounds, snapshot = DeepRounds(plan), [first_snapshot(plan, dataset)]
    steady = _STEADY * (plan.deep.settings.refresh_rounds or 0)  # where refreshes have their final distance

    def one(number: int) -> None:
        if number == _WARM:
            state = snapshot[0].state
            snapshot[0] = dataclasses.replace(snapshot[0], state=dataclasses.replace(state, round=steady + 1))
        snapshot[0] = rounds.play(snapshot[0], LocalReduction(), lambda: None)

    return one


def plain_rounds(settings: Mapping[str, Any]) -> Round:
    """The same tiles and views for the same encoder with a linear classifier and torch's own Adam."""
    run = RunConfig.build(settings)
    dataset = Dataset.open(run.data.path)
    plan = make_plan(run, dataset)
    assert plan.deep is not None
    deep, labels = plan.deep, dataset.labels("train")
    module = Classifier(deep.network().encoder, plan.num_features, dataset.num_classes)
    initialise(module, 0)
    optimizer = torch.optim.Adam(module.parameters(), lr=deep.settings.learning_rate)
    weak, rows = deep.views()[0], torch.arange(len(labels))

    def one(number: int) -> None:
        cut = DeepRound.of(number, plan.config, labels, rows, 0)
        optimizer.zero_grad()
        for place in cut.tiles(0, 1):
            samples = dataset.read("train", cut.rows[place])[0]
            view = weak(samples, Draws(0, cut.epoch, cut.positions[place], "weak"))
            loss = functional.cross_entropy(module(view), cut.labels[place], reduction="sum") / cut.num_samples
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return one


def measure(settings: Mapping[str, Any], turns: int) -> dict[str, float]:
    """Samples per CPU second of each contestant, all labels given and no strong views: every sample is one view.

    Returns:
        plain, exact, fast: samples per second; exact_to_plain, exact_to_fast: of the seconds of all turns.
    """
    refuse_shared(settings)
    flat = {**settings, "train.labelled_fraction": 1.0, "train.model": "deep", "map.epochs": _FAR, **_ONE_VIEW}
    batch = int(RunConfig.build(flat).map_config().batch_size)
    contestants = {
        "plain": plain_rounds(flat), "exact": deep_rounds(flat, "exact"), "fast": deep_rounds(flat, "fast"),
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(_WARM + turns):
        for name, one in contestants.items():
            began = time.process_time()
            one(number)
            if number >= _WARM:
                seconds[name].append(time.process_time() - began)
    rates = {name: batch / statistics.median(values) for name, values in seconds.items()}
    total = {name: sum(values) for name, values in seconds.items()}  # medians would hide the refresh
    return rates | {"exact_to_plain": total["plain"] / total["exact"], "exact_to_fast": total["fast"] / total["exact"]}


def workers(settings: Mapping[str, Any], out: Path) -> dict[str, float]:
    """Samples per second of whole runs on one and two Ray workers of a thread each, and whether digests are equal."""
    results = {}
    for count in (1, 2):
        flat = {**settings, "train.model": "deep", "cluster.workers": count, "cluster.threads": 1}
        results[count] = train(flat, out / f"workers-{count}")
    rates = {f"workers_{count}": float(result["samples_per_second"]) for count, result in results.items()}
    equal = results[1]["map_digest"] == results[2]["map_digest"]
    return rates | {"speedup": rates["workers_2"] / rates["workers_1"], "equal": float(equal)}
