"""From finished work to scores: one summary per protocol, method, table and fraction.

What a protocol chose from screened scores counts as trained by somcore where that training is in the store; the
number of those, and how often they differ, is part of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.benchmarks.uci.methods import METHODS
from pipeline.benchmarks.uci.plan import FOLDS, Request, complete_sets, honest_choice, score_table
from pipeline.benchmarks.uci.protocols import DEFAULT_SET, Summary, best_and_mean, lofo_choice, oracle_choice
from pipeline.benchmarks.uci.store import Cell, Row, Store


@dataclass(frozen=True)
class Line:
    """A method with one of its readouts: a row of the tables.

    Attributes:
        method: name of the method.
        readout: "" is the method's own rule.
    """

    method: str
    readout: str = ""

    @property
    def title(self) -> str:
        """How tables call it."""
        return METHODS[self.method].title + (f", {self.readout} readout" if self.readout else "")


@dataclass(frozen=True)
class Score:
    """One cell of a table.

    Attributes:
        summary: mean and spread over nine folds.
        sets: P.
        confirmed: folds whose chosen set was trained by somcore (all, for methods that are not screened).
        nodes: mean nodes of the chosen maps.
        seconds: mean seconds of the chosen trainings, as measured (on a shared machine: an upper bound).
    """

    summary: Summary
    sets: int
    confirmed: int
    nodes: float
    seconds: float


def lines(request: Request) -> Iterator[Line]:
    """All rows with classes."""
    for name in request.methods:
        if METHODS[name].fit is not None:
            yield from (Line(name, readout) for readout in ("", *METHODS[name].readouts))


def oracle(
    store: Store, request: Request, line: Line, table: str, fraction: int, limit: int | None = None
) -> Score | None:
    """Best of P on the test rows of each fold."""
    return _searched(store, request, line, table, fraction, limit, oracle_choice)


def lofo(
    store: Store, request: Request, line: Line, table: str, fraction: int, limit: int | None = None
) -> Score | None:
    """The set that is best on the other eight folds (H2)."""
    return _searched(store, request, line, table, fraction, limit, lofo_choice)


def honest(
    store: Store, request: Request, line: Line, table: str, fraction: int, limit: int | None = None
) -> Score | None:
    """H1: chosen inside the training fold; methods without parameters as they are."""
    cell = Cell("test", table, line.method, fraction)
    if METHODS[line.method].space is None:
        return defaults(store, request, line, table, fraction)
    inner = Cell(request.inner_kind(line.method), table, line.method, fraction)
    number = complete_sets(store, inner, min(limit or request.inner_samples, request.inner_samples))
    choice = honest_choice(store, request, cell, number, line.readout) if number else None
    return None if choice is None else _score(store, request, cell, choice, number, line.readout)


def defaults(store: Store, request: Request, line: Line, table: str, fraction: int) -> Score | None:
    """The documented defaults: a sanity row on these tables, not an honest result."""
    cell = Cell("test", table, line.method, fraction)
    return _score(store, request, cell, [DEFAULT_SET] * len(FOLDS), 0, line.readout)


def clustering(store: Store, request: Request, table: str, method: str) -> tuple[float, float, int, bool] | None:
    """Best of P, mean over P, P, and whether the best was trained by somcore."""
    cell = Cell(request.cluster_kind, table, method, 0)
    number = 0
    while number < request.samples and store.has(cell, number):
        number += 1
    if not number:
        return None
    values = [(store.row(cell, index) or {})["accuracy"][""] for index in range(number)]
    best, mean = best_and_mean(values)
    again = store.row(Cell("clustering", table, method, 0), values.index(best))
    return (again["accuracy"][""] if again else best), mean, number, again is not None


def agreement(store: Store) -> tuple[int, int]:
    """Trainings that were both screened and done by somcore, and those whose test accuracy is the same."""
    both = same = 0
    for cell in store.cells():
        if cell.kind not in ("screen", "clustering-screen"):
            continue
        twin = Cell(cell.kind.replace("screen", "").rstrip("-") or "test", cell.table, cell.method, cell.fraction)
        for row in store.rows(twin):
            place = (row["set"], row.get("repetition", 0), row.get("fold", 0))
            screened = store.row(cell, *place)
            if screened is not None:
                both += 1
                same += screened["accuracy"] == row["accuracy"]
    return both, same


def _searched(store, request, line, table, fraction, limit, choose) -> Score | None:  # type: ignore[no-untyped-def]
    if METHODS[line.method].space is None:
        return None
    searched = Cell(request.kind(line.method), table, line.method, fraction)
    number = complete_sets(store, searched, min(limit or request.samples, request.samples))
    if not number:
        return None
    choice = choose(score_table(store, searched, number, line.readout))
    cell = Cell("test", table, line.method, fraction)
    return _score(store, request, cell, choice, number, line.readout)


def _score(store: Store, request: Request, cell: Cell, choice: list[int], number: int, readout: str) -> Score | None:
    rows: list[Row] = []
    confirmed = 0
    for index, place in zip(choice, FOLDS, strict=True):
        row = store.row(cell, index, *place)
        confirmed += row is not None
        if row is None:
            row = store.row(Cell(request.kind(cell.method), cell.table, cell.method, cell.fraction), index, *place)
        if row is None:
            return None
        rows.append(row)
    summary = Summary.of([row["accuracy"][readout] for row in rows])
    nodes, seconds = (sum(row[name] for row in rows) / len(rows) for name in ("nodes", "seconds"))
    return Score(summary, number, confirmed, nodes, seconds)
