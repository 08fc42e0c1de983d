"""The bars: what counts as passing, cell by cell and on average, from the scores of a store.

Definitions in `judgement`; values in `published`. A bar without results is "not run", never passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.benchmarks.uci import judgement, published, results
from pipeline.benchmarks.uci.plan import Request
from pipeline.benchmarks.uci.protocols import Summary
from pipeline.benchmarks.uci.results import Line, Score
from pipeline.benchmarks.uci.store import Store

Read = Callable[..., Score | None]


@dataclass(frozen=True)
class Bar:
    """One comparison.

    Attributes:
        name: what is compared with what.
        where: table and fraction, or "average" of which.
        ours: our mean.
        se: standard error of our mean, or of the difference.
        theirs: the value to reach or beat.
        verdict: "reached", "missed", "beat", "equal", "below"; of a single honest cell whether it is far below.
        passed: whether this counts as passing.
    """

    name: str
    where: str
    ours: float
    se: float
    theirs: float
    verdict: str
    passed: bool

    def sentence(self) -> str:
        """The bar in words, with its numbers."""
        gap = self.ours - self.theirs
        return (
            f"{self.name}, {self.where}: {self.ours:.3f} (se {self.se:.3f}) against {self.theirs:.3f}, "
            f"{gap:+.3f}: {self.verdict}"
        )


def oracle_bars(store: Store, request: Request, line: Line, column: published.Column, name: str) -> list[Bar]:
    """Reach a published oracle column in every cell; the average over the cells not below theirs."""
    bars, ours, theirs = [], [], []
    for table in request.tables:
        for fraction in request.fractions:
            score, value = results.oracle(store, request, line, table, fraction), column.get((table, fraction))
            if score is None or value is None:
                continue
            reached = judgement.reaches(score.summary, value)
            verdict = "reached" if reached else "missed"
            bars.append(
                Bar(name, f"{table} {fraction} %", score.summary.mean, score.summary.se, value, verdict, reached)
            )
            ours.append(score.summary)
            theirs.append(value)
    if ours:
        mean, value = judgement.average(ours), sum(theirs) / len(theirs)
        passed = mean.mean >= value
        verdict = "reached" if passed else "missed"
        bars.append(Bar(name, f"average of {len(ours)} cells", mean.mean, mean.se, value, verdict, passed))
    return bars


def published_bars(store: Store, request: Request, line: Line, column: published.Column, name: str) -> list[Bar]:
    """Honest scores beat a published column on the average over tables at each fraction."""
    bars = []
    for fraction in request.fractions:
        ours, theirs = [], []
        for table in request.tables:
            score = results.honest(store, request, line, table, fraction)
            if score is not None and (table, fraction) in column:
                ours.append(score.summary)
                theirs.append(column[table, fraction])
                where = f"{table} {fraction} %"
                bars.append(_cell(name, where, score.summary.mean, score.summary.se, column[table, fraction]))
        if ours:
            mean, value = judgement.average(ours), sum(theirs) / len(theirs)
            verdict = judgement.against_published(mean, value)
            where = f"average of {len(ours)} tables at {fraction} %"
            bars.append(Bar(name, where, mean.mean, mean.se, value, verdict, verdict == "beat"))
    return bars


def baseline_bars(store: Store, request: Request, line: Line, other: Line, name: str) -> list[Bar]:
    """Honest scores beat a baseline of the same protocol and P: paired fold differences, averaged over tables."""
    bars = []
    for fraction in request.fractions:
        ours, theirs = [], []
        for table in request.tables:
            pair = _paired(store, request, line, other, table, fraction)
            if pair is None:
                continue
            ours.append(pair[0])
            theirs.append(pair[1])
            gap = judgement.difference([pair[0]], [pair[1]])
            bars.append(_cell(name, f"{table} {fraction} %", pair[0].mean, gap.se, pair[1].mean))
        if ours:
            gap = judgement.difference(ours, theirs)
            verdict = judgement.against_baseline(ours, theirs)
            means = [judgement.average(side).mean for side in (ours, theirs)]
            where = f"average of {len(ours)} tables at {fraction} %"
            bars.append(Bar(name, where, means[0], gap.se, means[1], verdict, verdict == "beat"))
    return bars


def _paired(
    store: Store, request: Request, line: Line, other: Line, table: str, fraction: int
) -> tuple[Summary, Summary] | None:
    """The two methods with the same number of sets."""
    pair = [results.honest(store, request, each, table, fraction) for each in (line, other)]
    if pair[0] is None or pair[1] is None:
        return None
    number = min(pair[0].sets, pair[1].sets)
    again = [results.honest(store, request, each, table, fraction, number) for each in (line, other)]
    assert again[0] is not None and again[1] is not None
    return again[0].summary, again[1].summary


def _cell(name: str, where: str, ours: float, se: float, theirs: float) -> Bar:
    """A single cell need not beat: it passes where it is not below by more than two standard errors."""
    passed = ours >= theirs - 2 * se
    return Bar(name, where, ours, se, theirs, f"{'not ' * passed}below by more than 2 se", passed)


def clustering_bars(store: Store, request: Request) -> list[Bar]:
    """Best of P without labels reaches the published row, ± .01."""
    bars = []
    for table in request.tables:
        found = results.clustering(store, request, table, "larfdssom")
        if found is not None:
            value = published.LARFDSSOM_CLUSTERING[table]
            reached = found[0] >= value - 0.01
            verdict = "reached" if reached else "missed"
            bars.append(Bar("LARFDSSOM clustering", table, found[0], 0.0, value, verdict, reached))
    return bars
