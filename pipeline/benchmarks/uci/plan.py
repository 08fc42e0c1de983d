"""What is still to be done: units in order of worth, and the choices that decide which trainings are confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.benchmarks.uci.methods import METHODS
from pipeline.benchmarks.uci.protocols import DEFAULT_SET, inner_choice, lofo_choice, oracle_choice
from pipeline.benchmarks.uci.store import Cell, Row, Store
from pipeline.benchmarks.uci.units import Unit
from pipeline.sweeps.published_spaces import BLOCK

FOLDS = tuple((repetition, fold) for repetition in (1, 2, 3) for fold in (1, 2, 3))
PROTOCOLS = ("defaults", "oracle", "lofo", "honest", "clustering")


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        methods: names of methods.
        tables: names of the tables that are present.
        fractions: per cent of labelled rows.
        samples: P of oracle, LOFO and clustering.
        inner_samples: P of the honest protocol.
        protocols: of PROTOCOLS.
        screening: whether maps can be screened by compiled loops.
    """

    methods: tuple[str, ...]
    tables: tuple[str, ...]
    fractions: tuple[int, ...]
    samples: int
    inner_samples: int
    protocols: tuple[str, ...]
    screening: bool = True

    def kind(self, method: str) -> str:
        """Where the searched scores of a method are kept."""
        return "screen" if self.screening and METHODS[method].is_map else "test"

    def inner_kind(self, method: str) -> str:
        """Where the scores of the inner cross-validation of a method are kept."""
        return "inner" if self.screening or not METHODS[method].is_map else "inner-somcore"

    @property
    def cluster_kind(self) -> str:
        """Where the searched scores of clusterings are kept."""
        return "clustering-screen" if self.screening else "clustering"

    def cells(self, kind: str, methods: tuple[str, ...] | None = None) -> Iterator[Cell]:
        """Cells with labels, method by method."""
        for method in methods or self.methods:
            for table in self.tables if METHODS[method].fit is not None else ():
                for fraction in self.fractions:
                    yield Cell(kind, table, method, fraction)


def outstanding(request: Request, store: Store) -> Iterator[Unit]:
    """Units whose results are not in the store; what is confirmed depends on what was searched before."""
    if {"oracle", "lofo"} & set(request.protocols):
        yield from _search(request, store, request.samples, request.kind)
    if "honest" in request.protocols:
        yield from _search(request, store, request.inner_samples, request.inner_kind)
    if "clustering" in request.protocols:
        yield from _clustering(request, store)
    if {"defaults", "honest"} & set(request.protocols):
        for method in request.methods:
            for cell in request.cells(request.kind(method), (method,)):
                yield from _missing(store, cell, DEFAULT_SET)


def confirmations(request: Request, store: Store) -> Iterator[Unit]:
    """Trainings by somcore of every set that a protocol chose from screened scores."""
    asked: set[tuple[Cell, int, int]] = set()
    for name in _readouts(request):
        for cell in request.cells("test"):
            if name not in ("", *METHODS[cell.method].readouts):
                continue
            wanted: dict[int, list[int]] = {}
            for choice in _choices(request, store, cell, name):
                for number, index in enumerate(choice):
                    if (cell, index, number) not in asked:
                        asked.add((cell, index, number))
                        wanted.setdefault(index, []).append(number)
            for index, numbers in sorted(wanted.items()):
                yield from _missing(store, cell, index, tuple(numbers))
    if "defaults" in request.protocols:
        for cell in request.cells("test"):
            yield from _missing(store, cell, DEFAULT_SET)
    for cell in _cluster_cells(request, "clustering-screen") if request.screening else ():
        rows = [row for row in store.rows(cell) if row["set"] < request.samples]
        if rows:
            best = max(rows, key=lambda row: row["accuracy"][""])["set"]
            confirmed = Cell("clustering", cell.table, cell.method, 0)
            if not store.has(confirmed, best):
                yield Unit(confirmed, best)


def _readouts(request: Request) -> list[str]:
    """The methods' own rule first."""
    names = dict.fromkeys(name for method in request.methods for name in METHODS[method].readouts)
    return ["", *names]


def _choices(request: Request, store: Store, cell: Cell, readout: str) -> Iterator[list[int]]:
    searched = Cell(request.kind(cell.method), cell.table, cell.method, cell.fraction)
    number = complete_sets(store, searched, request.samples)
    if number and {"oracle", "lofo"} & set(request.protocols):
        scores = score_table(store, searched, number, readout)
        yield oracle_choice(scores)
        yield lofo_choice(scores)
    if "honest" in request.protocols and METHODS[cell.method].space is not None:
        choice = honest_choice(store, request, cell, request.inner_samples, readout)
        if choice is not None:
            yield choice


def complete_sets(store: Store, cell: Cell, limit: int) -> int:
    """How many of the first sets are there on all nine folds."""
    number = 0
    while number < limit and all(store.has(cell, number, *place) for place in FOLDS):
        number += 1
    return number


def score_table(store: Store, cell: Cell, number: int, readout: str = "") -> list[list[float]]:
    """(P, 9) accuracies of the first P sets."""
    return [[_accuracy(store.row(cell, i, *place), readout) for place in FOLDS] for i in range(number)]


def _accuracy(row: Row | None, readout: str) -> float:
    assert row is not None
    value: float = row["accuracy"][readout]
    return value


def honest_choice(store: Store, request: Request, cell: Cell, number: int, readout: str = "") -> list[int] | None:
    """Per fold the set chosen by the inner cross-validation among the first P; None while it is incomplete."""
    inner = Cell(request.inner_kind(cell.method), cell.table, cell.method, cell.fraction)
    if complete_sets(store, inner, number) < number:
        return None
    choice = []
    for place in FOLDS:
        rows = [store.row(inner, i, *place) or {} for i in range(number)]
        scores = [None if row["score"] is None else row["score"][readout] for row in rows]
        choice.append(inner_choice(scores, [row["nodes"] for row in rows]))
    return choice


def _missing(store: Store, cell: Cell, index: int, folds: tuple[int, ...] = tuple(range(9))) -> Iterator[Unit]:
    left = tuple(number for number in folds if not store.has(cell, index, *FOLDS[number]))
    if left:
        yield Unit(cell, index, left)


def _search(request: Request, store: Store, number: int, kind: Callable[[str], str]) -> Iterator[Unit]:
    """Block by block, so that a run that stops has the same sets everywhere."""
    searched = tuple(m for m in request.methods if METHODS[m].space is not None)
    for block in range(0, number, BLOCK):
        for method in searched:
            for cell in request.cells(kind(method), (method,)):
                for index in range(block, min(block + BLOCK, number)):
                    yield from _missing(store, cell, index)


def _cluster_cells(request: Request, kind: str) -> Iterator[Cell]:
    if "clustering" in request.protocols:
        for method in ("larfdssom", "altsssom"):
            for table in request.tables if method in request.methods else ():
                yield Cell(kind, table, method, 0)


def _clustering(request: Request, store: Store) -> Iterator[Unit]:
    for cell in _cluster_cells(request, request.cluster_kind):
        for index in range(request.samples):
            if not store.has(cell, index):
                yield Unit(cell, index)
