"""The tables of `jobs.benchmark uci` as Markdown: every cell, "not run" where there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.benchmarks.shared import table
from pipeline.benchmarks.uci import bars, published, results
from pipeline.benchmarks.uci.bars import Bar
from pipeline.benchmarks.uci.judgement import average
from pipeline.benchmarks.uci.plan import Request
from pipeline.benchmarks.uci.protocols import Summary
from pipeline.benchmarks.uci.results import Line, Score
from pipeline.benchmarks.uci.store import Store
from pipeline.benchmarks.uci.tables import TABLES

Read = Callable[[Line, str, int], Score | None]


def share(summary: Summary) -> str:
    """Mean (sd) as shares, without leading zeros."""
    return f"{summary.mean:.3f} ({summary.sd:.3f})".replace("0.", ".")


def grid(request: Request, line: Line, read: Read, column: published.Column | None) -> str:
    """One method: fractions down, tables across; the published value behind a slash, ✗ where it is not reached."""
    rows = []
    for fraction in request.fractions:
        row, ours, theirs = [f"{fraction} %"], [], []
        for name in TABLES:
            score = read(line, name, fraction) if name in request.tables else None
            value = None if column is None else column.get((name, fraction))
            row.append(_cell(score, value))
            if score is not None:
                ours.append(score.summary)
                theirs.append(value)
        row.append(_mean(ours, theirs))
        rows.append(row)
    if all(cell == "not run" for row in rows for cell in row[1:]):
        return "Not run.\n"
    return table(["labels", *TABLES, "mean"], rows)


def _cell(score: Score | None, value: float | None) -> str:
    if score is None:
        return "not run"
    text = share(score.summary) + ("" if score.confirmed == len(score.summary.values) else "°")
    if value is None:
        return text
    missed = score.summary.mean < value - max(0.005, score.summary.se)
    return f"{text} / {value:.3f}{' ✗' if missed else ''}".replace(" 0.", " .")


def _mean(ours: list[Summary], theirs: list[float | None]) -> str:
    if not ours:
        return "not run"
    text = f"{average(ours).mean:.3f}"
    known = [value for value in theirs if value is not None]
    return (text + (f" / {sum(known) / len(known):.3f}" if len(known) == len(ours) else "")).replace("0.", ".")


def sets_of(request: Request, lines: Sequence[Line], read: Read) -> str:
    """P by method and table, for the line under a heading."""
    texts = []
    for method in dict.fromkeys(line.method for line in lines):
        numbers = {}
        for name in request.tables:
            scores = [read(Line(method), name, fraction) for fraction in request.fractions]
            found = sorted(score.sets for score in scores if score is not None)
            if found:
                numbers[name] = f"{found[0]}" if found[0] == found[-1] else f"{found[0]} to {found[-1]}"
        per_table = ", ".join(f"{name} {number}" for name, number in numbers.items())
        if per_table:
            texts.append(f"{Line(method).title}: {per_table}")
    return "P (sets per cell): " + "; ".join(texts) + ".\n"


def averages(request: Request, lines: Sequence[Line], read: Read, reference: published.Column, name: str) -> str:
    """Means over the tables where all methods with parameters have results, by fraction."""
    some = [line for line in lines if any(read(line, t, f) for t in request.tables for f in request.fractions)]
    shared = [t for t in request.tables if all(read(line, t, f) for line in some for f in request.fractions)]
    rows = []
    for line in some:
        cells = [[read(line, t, f) for t in shared] for f in request.fractions]
        known = [[score.summary for score in row if score is not None] for row in cells]
        rows.append(
            [line.title, *(f"{average(row).mean:.3f} ± {average(row).se:.3f}" if row else "not run" for row in known)]
        )
    values = [[reference[t, f] for t in shared if (t, f) in reference] for f in request.fractions]
    rows.append([name, *(f"{sum(row) / len(row):.3f}" if row else "–" for row in values)])
    head = table(["method", *(f"{f} %" for f in request.fractions)], rows)
    return f"Mean ± standard error over {', '.join(shared) or 'no table that all have'}:\n\n{head}"


def costs(request: Request, lines: Sequence[Line], read: Read) -> str:
    """Nodes and seconds per training, by method and table at all labels."""
    rows = []
    for line in lines:
        if line.readout:
            continue
        scores = [read(line, name, max(request.fractions)) for name in request.tables]
        rows.append([line.title, *("not run" if s is None else f"{s.nodes:.0f} / {s.seconds:.2f} s" for s in scores)])
    return table(["method", *request.tables], rows)


def clustering(store: Store, request: Request) -> str:
    """Without labels: best of P and mean over P, beside the published best of 500."""
    rows = []
    for method in ("larfdssom", "altsssom"):
        if method not in request.methods:
            continue
        row = [Line(method).title]
        for name in TABLES:
            found = results.clustering(store, request, name, method) if name in request.tables else None
            if found is None:
                row.append("not run")
                continue
            row.append(f"{found[0]:.3f} (mean {found[1]:.3f}, P {found[2]})".replace("0.", "."))
        rows.append(row)
    best = [f"{published.LARFDSSOM_CLUSTERING[name]:.3f}".replace("0.", ".") for name in TABLES]
    rows.append(["LARFDSSOM, published, best of 500", *best])
    return table(["method", *TABLES], rows)


def verdicts(all_bars: Sequence[Bar]) -> str:
    """Missed bars, each with its numbers; and how many were passed."""
    if not all_bars:
        return "Not run.\n"
    missed = [bar for bar in all_bars if not bar.passed]
    means = [bar.passed for bar in all_bars if bar.where.startswith("average")]
    told = f", {sum(means)} of the {len(means)} averages" if len(means) > 1 else ""
    head = f"{len(all_bars) - len(missed)} of {len(all_bars)} comparisons pass{told}. Missed:\n\n"
    return head + "".join(f"- {bar.sentence()}\n" for bar in missed) if missed else head.replace(" Missed:\n", "")


def scoreboard(store: Store, request: Request) -> str:
    """One row per map and readout: cells reached, and verdicts at each fraction on the average over tables."""
    rows = []
    for line in results.lines(request):
        if line.method not in published.SANITY:
            continue
        column = published.ALTSSSOM_ORACLE if line.method == "altsssom" else published.SSSOM_ORACLE
        oracle = bars.oracle_bars(store, request, line, column, "")
        cells, mean = oracle[:-1], oracle[-1:]
        reached = f"{sum(bar.passed for bar in cells)} of {len(cells)}" if cells else "not run"
        average_text = f"{mean[0].ours:.3f} / {mean[0].theirs:.3f}" if mean else "not run"
        honest = [bars.published_bars(store, request, line, published.SSSOM_LOFO, "")]
        for name in ("label-propagation", "label-spreading"):
            honest.append(bars.baseline_bars(store, request, line, Line(name), ""))
        rows.append([line.title, reached, average_text, *(_tally(group) for group in honest)])
    header = ["map", "oracle: cells reached", "oracle: mean / published"]
    header += ["H1 against published LOFO", "H1 against label propagation", "H1 against label spreading"]
    return table(header, rows)


def _tally(group: Sequence[Bar]) -> str:
    """Verdicts of the averages, by fraction."""
    verdict_of = {bar.where.split(" at ")[1]: bar.verdict for bar in group if bar.where.startswith("average")}
    found = []
    for verdict in ("beat", "equal", "below"):
        where = [fraction.replace(" %", "") for fraction, said in verdict_of.items() if said == verdict]
        if where:
            found.append(f"{verdict} at {', '.join(where)} %")
    return "; ".join(found) or "not run"


def all_bars(store: Store, request: Request, recommended: Line) -> dict[str, list[Bar]]:
    """Every bar by group: oracle, honest, clustering."""
    honest = [
        *bars.published_bars(
            store, request, recommended, published.SSSOM_LOFO, f"{recommended.title} beats SS-SOM leave-one-fold-out"
        )
    ]
    for other in ("label-propagation", "label-spreading"):
        name = f"{recommended.title} beats {Line(other).title}"
        honest += bars.baseline_bars(store, request, recommended, Line(other), name)
    return {
        "oracle": bars.oracle_bars(
            store, request, Line("altsssom"), published.ALTSSSOM_ORACLE, "ALTSSSOM reaches ALTSS-SOM"
        ),
        "oracle-sssom": bars.oracle_bars(store, request, Line("sssom"), published.SSSOM_ORACLE, "SSSOM reaches SS-SOM"),
        "honest": honest,
        "clustering": bars.clustering_bars(store, request),
    }
