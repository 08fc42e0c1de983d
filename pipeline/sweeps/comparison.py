"""Two sweeps side by side: the choices of both, paired by data set, fraction, fold and seed, with paired tests.

A pair is two trainings on the same rows with the same labels: what remains is the difference of the methods. The
tests take pairs as independent. Seeds of one split nearly are; folds share training rows, so their p-values are too
small.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pipeline.comparison.tables import holm
from pipeline.errors import UserError, must, some
from pipeline.sweeps.selection import choosers_of, selected
from pipeline.tracking.results import sweep_rows

Row = dict[str, Any]
Place = tuple[str, float, str, int]
_ROUNDING = 1e-9  # of the scores: far above that of float64 (1e-16), far below one row of any test split


def compare_sweeps(
    names: tuple[str, str], metric: str, experiment: str, uri: str | None, say: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """Compares what two sweeps chose.

    Args:
        names: of the sweeps: folder, name (tag `sweep`) or id of the run of the sweep.
        metric: compared on test rows, where the data have none on training rows; each sweep chooses its sets by it on
            other rows (`choosers_of`).
        experiment: where names are looked up.
        uri: MLflow store; None = MLflow's own.
        say: told in one line which data sets are not paired, because they have a name in common and nothing else, and
            in one of which only training rows are scored.

    Returns:
        A row for each data set and fraction that both have, and one for all of them together: data,
        labelled_fraction, pairs, first, second (means), difference (second − first), sd (of the differences), t_p
        and wilcoxon_p (two-sided; None with fewer than two pairs, or where all differ by the same, which leaves no
        spread to judge by), holm_p (t_p adjusted for the number of rows).

    Raises:
        UserError: no such sweep, or nothing to pair.
    """
    first, second = (_chosen(sweep_rows(name, experiment, uri), metric, name) for name in names)
    both = [key for key in first if key in second]
    shared = [key for key in both if len({first[key][1], second[key][1]} - {None}) < 2]
    other = ", ".join(sorted({repr(key[0]) for key in both} - {repr(key[0]) for key in shared}))
    sentence = f"Other data under the same name, so not paired (their manifests differ): {other}." if other else ""
    if not shared:
        raise UserError(
            f"The sweeps must share a data set, labelled fraction, fold and seed. '{names[0]}' has "
            f"{_some(first)}, '{names[1]}' has {_some(second)}. {sentence}".rstrip()
        )
    if sentence:
        say(sentence)
    if trained := ", ".join(sorted({repr(key[0]) for key in shared if first[key][2] == "train"})):
        say(f"Compared on training rows, having no test split: {trained}.")
    groups: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for key in shared:
        groups.setdefault(key[:2], []).append((first[key][0], second[key][0]))
    rows = [
        {"data": data, "labelled_fraction": fraction, **_tested(pairs)}
        for (data, fraction), pairs in sorted(groups.items())
    ]
    for row, adjusted in zip(rows, holm([row["t_p"] for row in rows]), strict=True):
        row["holm_p"] = adjusted
    if len(rows) > 1:
        rows.append({"data": "all", "labelled_fraction": None, **_tested(_of_data(rows)), "holm_p": None})
    return rows


def _of_data(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """A pair of means for each data set: its fractions share rows and labels, so they are no pairs of their own."""
    by_data: dict[str, list[Row]] = {}
    for row in rows:
        by_data.setdefault(row["data"], []).append(row)
    return [
        (statistics.fmean(row["first"] for row in same), statistics.fmean(row["second"] for row in same))
        for same in by_data.values()
    ]


def _tested(pairs: Sequence[tuple[float, float]]) -> Row:
    from scipy import stats

    gaps = [second - first for first, second in pairs]
    rounding = _ROUNDING * max(abs(score) for pair in pairs for score in pair)
    enough = max(gaps) - min(gaps) > rounding
    return {
        "pairs": len(pairs),
        "first": statistics.fmean(pair[0] for pair in pairs),
        "second": statistics.fmean(pair[1] for pair in pairs),
        "difference": statistics.fmean(gaps),
        "sd": statistics.stdev(gaps) if len(gaps) > 1 else None,
        "t_p": _p(lambda: stats.ttest_1samp(gaps, 0.0).pvalue) if enough else None,
        "wilcoxon_p": _p(lambda: stats.wilcoxon([round(gap / rounding) for gap in gaps]).pvalue) if enough else None,
    }


def _p(test: Callable[[], Any]) -> float | None:
    value = float(test())
    return value if math.isfinite(value) else None


def _chosen(rows: Sequence[Row], metric: str, name: str) -> dict[Place, tuple[float, str | None, str | None]]:
    """Value of each chosen trial and, if known, the hash and the split it is of, by data set, fraction, fold, seed."""
    by_trial = {row["trial"]: row for row in rows}
    keys = [key for choice in selected(rows, metric) for key in choice["trials"]]
    found = {}
    for row in (by_trial[key] for key in keys):
        if isinstance(row.get(metric), int | float):
            place = (row["data"], float(row["labelled_fraction"]), row.get("fold", ""), int(row["seed"]))
            found[place] = float(row[metric]), row.get("manifest_hash"), row.get("split")
    if not found:
        choosers = " or ".join(choosers_of(metric))
        raise must("--compare", f"two sweeps that chose sets by {choosers} and tested them", name)
    return found


def _some(table: Iterable[Place]) -> str:
    texts = [f"{data} {fraction:g} {fold} seed {seed}".replace("  ", " ") for data, fraction, fold, seed in table]
    return some(texts, 3)
