"""Pieces of work: what one process does without asking anybody. Each is a pure function of its unit and the data.

Kinds of results: "screen" and "test" (accuracy on test rows; trained by the compiled loops, or by somcore and
scikit-learn), "inner" and "inner-somcore" (cross-validation inside the training folds; maps trained by the compiled
loops, or by somcore), "clustering-screen" and "clustering".
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.benchmarks.uci.fitting import Training, cluster
from pipeline.benchmarks.uci.methods import METHODS
from pipeline.benchmarks.uci.protocols import DEFAULT_SET, inner_splits
from pipeline.benchmarks.uci.store import Cell, Row
from pipeline.benchmarks.uci.tables import Fold, Table, load
from pipeline.sweeps import published_spaces as spaces
from somcore.config import UNLABELLED
from somcore.sampling import hash_uniform


@dataclass(frozen=True)
class Design:
    """What all units of a run share; part of the store.

    Attributes:
        data: folder of the tables.
        seed: seed of the draws, of the maps and of the inner splits.
        max_epochs: cut of the published ranges of epochs and pruning_epochs.
    """

    data: Path
    seed: int = 0
    max_epochs: int = 100

    def values(self, method: str, index: int) -> spaces.ParameterSet:
        """A parameter set by its index; DEFAULT_SET is the documented defaults."""
        name = METHODS[method].space
        if index == DEFAULT_SET or name is None:
            return {}
        space = spaces.shortened(spaces.SPACES[name], self.max_epochs)
        return spaces.pick(space, name, index, self.seed)

    def describe(self) -> Row:
        """What a store must agree on: everything but where the data are."""
        drawn = {name: spaces.shortened(space, self.max_epochs) for name, space in spaces.SPACES.items()}
        columns = {name: [[c.name, c.kind, c.low, c.high, *c.choices] for c in space] for name, space in drawn.items()}
        return {"seed": self.seed, "max_epochs": self.max_epochs, "block": spaces.BLOCK, "spaces": columns}


@dataclass(frozen=True)
class Unit:
    """One parameter set on some folds of one cell.

    Attributes:
        cell: where its rows belong.
        index: the parameter set.
        folds: numbers of the folds, 0 … 8.
    """

    cell: Cell
    index: int
    folds: tuple[int, ...] = tuple(range(9))


def work(unit: Unit, design: Design) -> list[Row]:
    """Do one piece of work."""
    table = load(design.data / f"{unit.cell.table}.parquet")
    values = design.values(unit.cell.method, unit.index)
    if unit.cell.kind.startswith("clustering"):
        return [_clustering(unit, table, values)]
    act = _inner if unit.cell.kind.startswith("inner") else _test
    rows = []
    for number in unit.folds:
        fold = table.folds[number]
        started = time.perf_counter()
        row = act(unit, design, table, fold, values)
        place = {"set": unit.index, "repetition": fold.repetition, "fold": fold.fold}
        rows.append({**place, **row, "seconds": round(time.perf_counter() - started, 4)})
    return rows


def _seed(index: int, design: Design) -> int:
    """Every set has its own seed, as in the published searches."""
    return 1000 * design.seed + max(0, index)


def _test(unit: Unit, design: Design, table: Table, fold: Fold, values: spaces.ParameterSet) -> Row:
    fit = METHODS[unit.cell.method].fit
    assert fit is not None
    screening = unit.cell.kind == "screen"
    labels = fold.labels(unit.cell.fraction)
    training = Training(fold.features, labels, table.num_classes, _seed(unit.index, design), screening)
    answer = fit(values, training, fold.test_features)
    right = {name: int((classes == fold.test_classes).sum()) for name, classes in answer.classes.items()}
    number = len(fold.test_classes)
    return {"accuracy": {name: round(count / number, 6) for name, count in right.items()}, "nodes": answer.nodes}


def _inner(unit: Unit, design: Design, table: Table, fold: Fold, values: spaces.ParameterSet) -> Row:
    """Mean accuracy on held-out labelled training rows; test rows are never touched."""
    fit = METHODS[unit.cell.method].fit
    assert fit is not None
    labels = fold.labels(unit.cell.fraction)
    splits = inner_splits(labels.tolist(), _shuffle(unit, design, fold))
    if not splits:
        return {"score": None, "nodes": 0}
    scores: dict[str, float] = {}
    nodes = 0
    screening = unit.cell.kind == "inner"
    whole = Training(fold.features, labels, table.num_classes, _seed(unit.index, design), screening)
    for held in splits:
        rows = torch.tensor(held)
        masked = labels.index_fill(0, rows, UNLABELLED)
        answer = fit(values, replace(whole, labels=masked), fold.features[rows])
        for name, classes in answer.classes.items():
            share = float((classes == labels[rows]).to(torch.float64).mean())
            scores[name] = scores.get(name, 0.0) + share / len(splits)
        nodes += answer.nodes
    return {"score": {name: round(s, 9) for name, s in scores.items()}, "nodes": round(nodes / len(splits), 3)}


def _shuffle(unit: Unit, design: Design, fold: Fold) -> list[int]:
    """A fixed order of the training rows, the same for every method and set."""
    name = f"inner/{unit.cell.table}/{fold.repetition}/{fold.fold}/{unit.cell.fraction}"
    counters = torch.arange(len(fold.classes))
    order: list[int] = hash_uniform(design.seed + zlib.crc32(name.encode()), "inner", counters).argsort().tolist()
    return order


def _clustering(unit: Unit, table: Table, values: spaces.ParameterSet) -> Row:
    started = time.perf_counter()
    screening = unit.cell.kind == "clustering-screen"
    agreement, nodes = cluster(unit.cell.method, values, table.features, table.classes, screening, max(0, unit.index))
    seconds = round(time.perf_counter() - started, 4)
    return {"set": unit.index, "accuracy": {"": round(agreement, 6)}, "nodes": nodes, "seconds": seconds}
