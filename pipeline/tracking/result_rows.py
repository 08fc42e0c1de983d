"""Tracked runs as rows: which data set each is of, groups with mean and spread, the best run.

N runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config import keys
from pipeline.errors import UserError, must, nearest, some
from pipeline.sweeps.selection import choosers_of
from pipeline.tracking.stores import bare
from pipeline.training.rundir import changed_settings

Row = dict[str, Any]
SCORES = (
    "accuracy", "balanced_accuracy", "clustering_accuracy", "grouped_accuracy", "nmi", "ari", "purity",
    "quantization_error", "topographic_error",
)  # fmt: skip
_COLUMNS = ("data", "model", "labelled_fraction", "seed", "fold", "sweep", "set")  # that results are mostly grouped by
_ABOUT = (
    "data",
    "split",
    "fold",
    "model",
    "labelled_fraction",
    "seed",
    "nodes",
    "seconds",
    "run_name",
    "run_id",
    "sweep",
    "trial",
)
_LOWER = ("_error", "seconds", "unmatched_share", "misplaced_share", "rerouted_share")  # is better; losses too
_NAMES = ("trial", "data", "fold")
_TOLD = ("data.path", "train.model", "train.labelled_fraction", "train.seed")  # among these
_FEW = 12  # names in a line


def data_names(rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """What the data set of each run is called: what its sweep calls it, else the last part of its path.

    Where another data set has the same name it is the path, and where another one was there at another time, with the
    hash of its manifest. The folds of a data set are one data set.

    Args:
        rows: of N runs, with `data.path`, and the tags `data`, `fold` and `manifest_hash` where a run has them.

    Returns:
        (N,) names; None of a run without a data set.

    Example:
        >>> here, there = {"data.path": "data/iris", "manifest_hash": "a1"}, {"data.path": "old/iris"}
        >>> data_names([here, here]), data_names([here, there | {"manifest_hash": "b2"}])
        (['iris', 'iris'], ['data/iris', 'old/iris'])
    """
    paths = [str(row.get("data.path") or "").split("?")[0].rstrip("/") for row in rows]
    paths = [path.rpartition("/")[0] if row.get("fold") else path for path, row in zip(paths, rows, strict=True)]
    kinds = ["folds" if row.get("fold") else str(row.get("manifest_hash") or "")[:8] for row in rows]
    names = [row.get("data") or path.rpartition("/")[2] for path, row in zip(paths, rows, strict=True)]
    for longer in (paths, [f"{path} ({kind})" if kind else path for path, kind in zip(paths, kinds, strict=True)]):
        held: dict[str, set[str]] = {}
        for name, kind in zip(names, kinds, strict=True):
            held.setdefault(name, set()).add(kind)
        names = [name if len(held[name]) == 1 else long for name, long in zip(names, longer, strict=True)]
    return [name or None for name in names]


def of_data(runs: pd.DataFrame, data: str) -> pd.DataFrame:
    """The runs on one data set.

    Args:
        runs: from `tracked_runs`.
        data: its name in the column `data`, or its path as the runs had it.

    Raises:
        UserError: no run is on it.
    """
    wanted = data.rstrip("/")
    paths = runs["path"].astype(str).str.rstrip("/") if "path" in runs else runs["data"]
    found = runs[(runs["data"] == wanted) | (paths == wanted)]
    if found.empty:
        raise must("--data", f"a data set of these runs ({_some(_data_sets(runs))})", data)
    return found


def without(runs: pd.DataFrame, metric: str) -> tuple[int, str]:
    """How many runs have no value of a metric, and the sentence that says so; empty if there are none."""
    lacking = runs[runs[metric].isna()]
    if lacking.empty:
        return 0, ""
    counts = lacking["model"].value_counts(sort=False) if "model" in lacking else {}
    models = ", ".join(f"{model} {count}" for model, count in counts.items())
    which = f" ({models})" if models else ""
    return len(lacking), f"Left out, having no {metric}: {len(lacking)} of {len(runs)} runs{which}."


def grouped(runs: pd.DataFrame, metric: str, by: Sequence[str]) -> list[Row]:
    """Mean, standard deviation (n − 1) and number of runs of a metric, per group.

    Args:
        runs: from `tracked_runs`.
        metric: a column with numbers; runs without it are left out.
        by: columns to group by; settings by their whole key too.

    Returns:
        One row per group, in order; the deviation of a single run is None.

    Raises:
        UserError: there is no such column, or the metric is no number.
    """
    _check_metric(runs, metric)
    columns = [_column(runs, name) for name in by]
    if len(set(columns)) < len(columns):
        raise must("--group-by", "columns, each of them once", ", ".join(by))
    groups = runs.dropna(subset=[metric]).groupby(columns, dropna=False)[metric]
    table = groups.agg(mean="mean", sd="std", runs="count", least="min", most="max").reset_index()
    return [plain_row(row) for row in table.to_dict("records")]


def best_run(runs: pd.DataFrame, metric: str) -> tuple[Row, str]:
    """The best run, chosen by the metric on validation rows, else (errors) on training rows, else by the metric itself.

    Runs without the score that chooses are left out. Ties go to the smaller map, then to the lower trial, as in sweeps.

    Returns:
        The run's row, and the metric that chose it: choosing by a test metric flatters, so say which it was.

    Raises:
        UserError: there is no such metric, it is no number, no run has it, or the runs are on several data sets.
    """
    _check_metric(runs, metric)
    able = runs.dropna(subset=[metric])
    if able.empty:  # other runs of the store have it: refused with what these have
        _check_metric(runs.dropna(axis="columns", how="all"), metric)
    sets = _data_sets(able)
    if len(sets) > 1:
        raise UserError(
            f"--best must be of runs on one data set. These are on {len(sets)}: {_some(sets)}. "
            f"Choose one, e.g. --data {shlex.quote(sets[0])}, or a sweep of one with --sweep."
        )
    known = [name for name in choosers_of(metric) if name in able and able[name].notna().any()]
    chooser = known[0] if known else metric
    lower = metric.startswith("loss_") or metric.endswith(_LOWER)
    ties = {name: able[name].fillna(nothing) for name, nothing in (("nodes", 0), ("trial", "")) if name in able}
    order = pd.DataFrame({chooser: able[chooser], **ties}).dropna(subset=[chooser])
    ascending = [lower, *(True for _ in ties)]
    best = order.sort_values(list(order), ascending=ascending, kind="stable").index[0]
    return plain_row(able.loc[best].to_dict()), chooser


def about_best(row: Row, metric: str, chooser: str, kept: Mapping[str, Any], uri: str | None) -> dict[str, Row]:
    """The best run for people: the scores first, then what it is, how to score it again, and what it was told.

    Args:
        row: from `best_run`.
        metric: what was asked for.
        chooser: the metric that chose.
        kept: from `kept_of`.
        uri: MLflow store, where it must be named; its login is not.

    Returns:
        Names and values by heading. Numbers of the machine and settings that are as usual are left out.
    """
    told = {key: row.get(key) for key in dict.fromkeys((metric, chooser, *SCORES))}
    told |= {"chosen_by": chooser, **{key: row.get(key) for key in _ABOUT}, "model_uri": kept["model_uri"]}
    if kept["has_map"]:
        store = f" --tracking-uri {shlex.quote(bare(uri))}" if uri else ""
        place = kept["data_place"]  # named only where the run names it from the directory it ran in
        data = f" --data {shlex.quote(place)}" if place and place != kept["settings"].get("data.path") else ""
        told["evaluate"] = f"python -m jobs.evaluate --run {row['run_id']}{data}{store}"
    settings = changed_settings(kept["settings"])
    settings = {key: value for key, value in settings.items() if key not in _TOLD and not key.startswith("tracking.")}
    about = {key: value for key, value in told.items() if value is not None}
    return {"The best run": about, "Settings that differ from the defaults": settings}


def read_trials(path: Path) -> list[Row]:
    """The table of a sweep as rows; names stay names, also those that look like numbers, or like no value."""
    frame = pd.read_csv(path)
    names = pd.read_csv(path, usecols=lambda name: name in _NAMES, dtype=str, keep_default_na=False)
    frame[names.columns] = names
    return [plain_row(row) for row in frame.to_dict("records")]


def plain_row(row: dict[Any, Any]) -> Row:
    """A row in plain Python values; what is missing is None."""
    plain = {str(key): value.item() if hasattr(value, "item") else value for key, value in row.items()}
    return {key: None if value != value else value for key, value in plain.items()}


def _check_metric(runs: pd.DataFrame, metric: str) -> None:
    numbers = [name for name in runs if pd.api.types.is_numeric_dtype(runs[name])]
    if metric not in numbers:
        scores = ", ".join(name for name in SCORES if name in numbers)
        requirement = f"a number of these runs, such as {scores}" if scores else "a number of these runs"
        raise must("--metric", requirement, metric, remedy=_meant(metric, numbers))


def _column(runs: pd.DataFrame, name: str) -> str:
    """The column of a name, which may be the whole key of a setting."""
    last = name.rsplit(".", 1)[-1]
    if name in runs:
        return name
    if last in runs and name in keys():
        return last
    listed = ", ".join(column for column in _COLUMNS if column in runs)
    raise must("--group-by", f"columns of the results, such as {listed}", name, remedy=_meant(name, runs))


def _meant(name: str, names: Iterable[str]) -> str:
    near = nearest(name, names, 3)
    return f"Did you mean {' or '.join(repr(word) for word in near)}?" if near else ""


def _data_sets(runs: pd.DataFrame) -> list[str]:
    return sorted(str(name) for name in runs["data"].dropna().unique())


def _some(names: Sequence[str]) -> str:
    return some(names, _FEW)
