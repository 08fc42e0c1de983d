"""Which set of a sweep is the best: chosen on validation rows, its test value told once.

For each data set (each fold of it) and labelled fraction the set with the best mean over the seeds is chosen by the
rows that were withheld from training; without classes by the error on the validation split, else on the training rows,
never on test rows. Ties go to the smaller map, then to the lower number. Where a set has no such score (no row could be
withheld), it cannot be chosen, unless it is the only one: there is no choice then.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.config import SEMI_SUPERVISED
from pipeline.sweeps.folder import FINISHED

Row = dict[str, Any]
ERROR = "quantization_error"


def finite(value: Any) -> bool:
    """Whether it is a number one can compare."""
    return isinstance(value, int | float) and math.isfinite(value)


def metrics_of(model: str, num_classes: int) -> tuple[str, ...]:
    """What a model can be judged by, the usual first: accuracy, agreement of nodes and classes, the map's error."""
    if num_classes == 0:
        return (ERROR,)
    of_nodes = ("clustering_accuracy", "grouped_accuracy", "nmi", "ari", "purity", ERROR)
    return ("accuracy", "balanced_accuracy", *of_nodes) if model in SEMI_SUPERVISED else of_nodes


def choosers_of(metric: str) -> tuple[str, ...]:
    """The scores that may choose, the first that a trial has: on validation rows; of errors also on training rows."""
    return (f"validation_{metric}", f"training_{metric}") if metric == ERROR else (f"validation_{metric}",)


def chooser_of(metric: str, row: Mapping[str, Any]) -> str:
    """The score that chooses among trials like this one.

    Example:
        >>> chooser_of("accuracy", {}), chooser_of("quantization_error", {"training_quantization_error": 0.1})
        ('validation_accuracy', 'training_quantization_error')
    """
    names = choosers_of(metric)
    return next((name for name in names if finite(row.get(name))), names[-1])


def score_of(row: Mapping[str, Any], metric: str) -> float | None:
    """The score of a trial that chooses, larger is better; None if it has none."""
    value = row.get(chooser_of(metric, row))
    if not finite(value):
        return None
    return -float(value) if metric == ERROR else float(value)  # type: ignore[arg-type]


def row_of_epoch(metrics: Mapping[str, Any]) -> Row:
    """The numbers of an epoch like those of a trial: its `quantization_error` is what its rounds tallied."""
    return {**metrics, f"training_{ERROR}": metrics.get(ERROR)}


def selected(rows: Sequence[Row], metric: str) -> list[Row]:
    """The chosen set of each data set and labelled fraction, with mean and sd (n − 1) over its seeds.

    Of a data set with folds each fold chooses by its own validation rows alone, because those of another fold may be
    its test rows; mean and sd are over the folds then. Sets with a trial that did not finish are left out: a mean
    over fewer seeds is no comparison.

    Returns:
        Rows with data, labelled_fraction, set (None where folds chose differently), chosen_by, score (None of the
        only set without one), metric, split (whose rows mean and tests are of; None of trials that do not say), mean,
        sd, seeds, folds, of (how many sets were compared), trials, and tests: one value per seed or fold.
    """
    only = len({row["set"] for row in rows}) == 1
    chosen = []
    for (data, fraction), group in _groups(rows, ("data", "labelled_fraction")):
        folds = [_choose(trials, metric, only) for _, trials in _groups(group, ("fold",))]
        found = [choice for choice in folds if choice is not None]
        if len(found) < len(folds):
            continue
        sets = {choice["set"] for choice in found}
        whole = found[0] if len(found) == 1 else _over_folds(found)
        tests = [value for value in whole.pop("tests") if value is not None]
        chosen.append(
            {
                "data": data,
                "labelled_fraction": fraction,
                "set": sets.pop() if len(sets) == 1 else None,
                "chosen_by": whole["chosen_by"],
                "score": whole["score"],
                "metric": metric,
                "split": next((row["split"] for row in group if row.get("split")), None),
                "mean": statistics.fmean(tests) if tests else None,
                "sd": statistics.stdev(tests) if len(tests) > 1 else None,
                "seeds": whole["seeds"],
                "folds": len(found),
                "of": whole["of"],
                "trials": whole["trials"],
                "tests": tests,
            }
        )
    return chosen


def _choose(rows: Sequence[Row], metric: str, only: bool) -> Row | None:
    """The set with the best mean validation score over the seeds; then the smaller map, then the lower number."""
    candidates = []
    for (index,), trials in _groups(rows, ("set",)):
        if any(row["status"] != FINISHED for row in trials):
            continue
        scores = [score_of(row, metric) for row in trials]
        if all(score is not None for score in scores):
            nodes = statistics.fmean(row.get("nodes") or 0 for row in trials)
            candidates.append((-statistics.fmean(s for s in scores if s is not None), nodes, index, trials))
        elif only:
            candidates.append((math.nan, 0.0, index, trials))
    if not candidates:
        return None
    score, _, index, trials = min(candidates, key=lambda c: c[:3])
    tests = [float(row[metric]) if finite(row.get(metric)) else None for row in trials]
    about = {"set": index, "score": abs(score) if finite(score) else None, "seeds": len(trials), "of": len(candidates)}
    about["chosen_by"] = chooser_of(metric, trials[0])
    return {**about, "trials": [row["trial"] for row in trials], "tests": tests}


def _over_folds(found: Sequence[Row]) -> Row:
    """Choices of several folds as one: a fold counts as the mean over its seeds."""
    means = [
        statistics.fmean(known) if (known := [t for t in choice["tests"] if t is not None]) else None
        for choice in found
    ]
    scores = [choice["score"] for choice in found]
    return {
        "chosen_by": found[0]["chosen_by"],
        "score": None if None in scores else statistics.fmean(scores),
        "seeds": found[0]["seeds"],
        "of": min(choice["of"] for choice in found),
        "trials": [trial for choice in found for trial in choice["trials"]],
        "tests": means,
    }


def on_split(rows: Iterable[Mapping[str, Any]]) -> str:
    """Whose rows a metric is of, in words, as far as trials or choices say.

    Example:
        >>> on_split([{"split": "test"}]), on_split([{}])
        (' on the test split', '')
    """
    splits = dict.fromkeys(row["split"] for row in rows if row.get("split"))
    return f" on the {' or '.join(splits)} split" if splits else ""


def best_trial(rows: Iterable[Row], metric: str) -> Row | None:
    """The finished trial with the best validation score, as a row with `chosen_by`; None if there is none."""
    scored = [(score_of(row, metric), row) for row in rows if row["status"] == FINISHED]
    able = [(score, row) for score, row in scored if score is not None]
    if not able:
        return None
    _, row = min(able, key=lambda pair: (-pair[0], pair[1].get("nodes") or 0, pair[1]["trial"]))
    return {"chosen_by": chooser_of(metric, row), **row}


def chosen_trials(rows: Sequence[Row], metric: str) -> set[str]:
    """Keys of the trials of all chosen sets, and of the best trial."""
    best = best_trial(rows, metric)
    return {key for choice in selected(rows, metric) for key in choice["trials"]} | ({best["trial"]} if best else set())


def _groups(rows: Iterable[Row], by: tuple[str, ...]) -> list[tuple[tuple[Any, ...], list[Row]]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name, "") for name in by), []).append(row)
    return sorted(found.items())
