"""The published tables: every cell of every protocol, resumable, the same for any number of processes."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context

import torch

from pipeline.benchmarks.shared import Report
from pipeline.benchmarks.uci.plan import Request, confirmations, outstanding
from pipeline.benchmarks.uci.store import Row, Store
from pipeline.benchmarks.uci.units import Design, Unit, work

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(
    request: Request,
    design: Design,
    store: Store,
    processes: int,
    budget_s: float | None,
    report: Report,
    phases: Sequence[str] = ("search", "confirm"),
) -> int:
    """Do what is outstanding, then train the chosen sets again.

    Args:
        request: what was asked for.
        design: what all units share.
        store: finished work, and where new work goes.
        processes: worker processes of one thread each; 0 = in this process.
        budget_s: no unit starts later than this; None = no limit.
        report: receives lines of progress.
        phases: "search" looks at sets, "confirm" trains those that a protocol chose from screened scores again by
            somcore.

    Returns:
        Units left undone.
    """
    deadline = None if budget_s is None else time.monotonic() + budget_s
    left = 0
    with _executor(processes) as submit:
        for title in phases:
            units = {"search": outstanding, "confirm": confirmations}[title]
            todo = list(units(request, store))
            done = _drain(title, todo, design, store, submit, max(1, processes), deadline, report)
            left += len(todo) - done
    return left


def _drain(
    title: str,
    todo: list[Unit],
    design: Design,
    store: Store,
    submit: Callable[..., Future[list[Row]]],
    processes: int,
    deadline: float | None,
    report: Report,
) -> int:
    """Work through the units with a few in flight; results are stored as they finish."""
    clock = _Clock(title, todo, processes, report)
    flying: dict[Future[list[Row]], Unit] = {}
    waiting = iter(todo)
    try:
        while True:
            for unit in _affordable(waiting, 2 * processes - len(flying), deadline):
                flying[submit(work, unit, design)] = unit
            if not flying:
                return clock.done
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                unit = flying.pop(future)
                rows = future.result()
                store.append(unit.cell, rows)
                clock.finished(unit, rows)
    finally:
        for future in flying:
            future.cancel()


def _affordable(waiting: Iterator[Unit], number: int, deadline: float | None) -> Iterable[Unit]:
    for _ in range(number):
        if deadline is not None and time.monotonic() > deadline:
            return
        unit = next(waiting, None)
        if unit is None:
            return
        yield unit


class _Clock:
    """Progress and the time left, from the mean cost of a fold by kind, table and method."""

    def __init__(self, title: str, todo: list[Unit], processes: int, report: Report) -> None:
        self.done = 0
        self._title, self._processes, self._report = title, processes, report
        self._total, self._last = len(todo), time.monotonic()
        self._left: dict[tuple[str, str, str], int] = defaultdict(int)
        self._cost: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for unit in todo:
            self._left[_kind(unit)] += len(unit.folds)

    def finished(self, unit: Unit, rows: list[Row]) -> None:
        """Count a unit; a line at most every ten seconds."""
        self.done += 1
        self._left[_kind(unit)] -= len(unit.folds)
        cost = self._cost[_kind(unit)]
        cost[0] += sum(row["seconds"] for row in rows)
        cost[1] += len(rows)
        if time.monotonic() - self._last < 10 and self.done < self._total:
            return
        self._last = time.monotonic()
        known = [seconds / number for seconds, number in self._cost.values() if number]
        typical = sum(known) / len(known)
        left = 0.0
        for kind, folds in self._left.items():
            seconds, number = self._cost.get(kind, (0.0, 0.0))
            left += folds * (seconds / number if number else typical)
        where = f"{unit.cell.table} {unit.cell.method} {unit.cell.fraction} %"
        minutes = left / self._processes / 60
        self._report(f"{self._title} {self.done}/{self._total} {where} set {unit.index}, {minutes:.1f} min left")


def _kind(unit: Unit) -> tuple[str, str, str]:
    return unit.cell.kind, unit.cell.table, unit.cell.method


@contextmanager
def _executor(processes: int) -> Iterator[Callable[..., Future[list[Row]]]]:
    """A way to submit work: to spawned processes of one thread each, or at once in this process."""
    if processes == 0:
        yield _at_once
        return
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # inherited by the processes below
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        yield pool.submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _at_once(function: Callable[..., list[Row]], *arguments: object) -> Future[list[Row]]:
    future: Future[list[Row]] = Future()
    try:
        future.set_result(function(*arguments))
    except BaseException as error:
        future.set_exception(error)
    return future
