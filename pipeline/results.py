"""Tracked results pulled from MLflow: runs as rows, groups with mean and spread, the best run.

N runs.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import UserError, must

_PAGE = 1000


def tracked_runs(experiment: str, uri: str | None = None) -> pd.DataFrame:
    """Finished runs of an experiment, newest last.

    Args:
        experiment: its name.
        uri: MLflow store; None = MLflow's own choice (MLFLOW_TRACKING_URI, or its default).

    Returns:
        One row per run: `run_id`, `run_name`, every parameter (by the last part of its key where that is
        unambiguous, numbers as numbers), every metric, and the tags `map_digest` and `manifest_hash`.

    Raises:
        UserError: no such experiment, no finished run in it, or a server that wants another user.
    """
    import mlflow

    where = uri or mlflow.get_tracking_uri()
    rows = []
    with _allowed(where):
        client = mlflow.MlflowClient(where)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(sorted(e.name for e in client.search_experiments())) or "none"
            raise must("--experiment", f"the name of an experiment in {where} ({names})", experiment)
        token = None
        while True:
            page = client.search_runs([found.experiment_id], "status = 'FINISHED'", max_results=_PAGE, page_token=token)
            rows += [_row(run) for run in page if run.data.tags.get("kind") != "sweep"]
            token = page.token
            if not token:
                break
    if not rows:
        raise UserError(f"The experiment '{experiment}' must have a finished run. It has none yet.")
    table = pd.DataFrame(rows[::-1])
    return table.rename(columns=_short_names(table.columns)).apply(_as_numbers)


@contextlib.contextmanager
def _allowed(where: str) -> Iterator[None]:
    """A server that does not let its asker in, told so that the asker can do something."""
    import mlflow

    try:
        yield
    except mlflow.MlflowException as error:
        if "error code 401" not in str(error) and "error code 403" not in str(error):
            raise
        raise UserError(
            f"The tracking server at {where} does not let you in. Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to those of a user who may."
        ) from None


def run_directory(run: str, uri: str | None = None) -> Path:
    """Where the files of a run are: itself if it is a directory, else fetched from MLflow by its id.

    Raises:
        UserError: neither a directory nor the id of a run that has recorded its map.
    """
    if Path(run).is_dir():
        return Path(run)
    import mlflow

    if not re.fullmatch(r"[0-9a-f]{32}", run):
        raise must("--run", "the directory of a run, or its id in MLflow", run)
    where = uri or mlflow.get_tracking_uri()
    client = mlflow.MlflowClient(where)
    try:
        with _allowed(where):
            names = [file.path for file in client.list_artifacts(run)]
    except mlflow.MlflowException as error:
        raise must("--run", "the id of a run that MLflow knows", run, remedy=str(error).split("\n")[0]) from None
    if not {"map.safetensors", "trials.csv"} & set(names):
        raise must("--run", "the id of a run that has recorded its map", run)
    return Path(client.download_artifacts(run, "", tempfile.mkdtemp(prefix="somgrad-")))


def grouped(runs: pd.DataFrame, metric: str, by: Sequence[str]) -> list[dict[str, Any]]:
    """Mean, standard deviation (n − 1) and number of runs of a metric, per group.

    Args:
        runs: from `tracked_runs`.
        metric: a column with numbers.
        by: columns to group by.

    Returns:
        One row per group, in order; the deviation of a single run is None.
    """
    for name in (metric, *by):
        if name not in runs:
            raise must("--metric" if name == metric else "--group-by", f"one of {_choices(runs.columns)}", name)
    groups = runs.dropna(subset=[metric]).groupby(list(by), dropna=False)[metric]
    table = groups.agg(mean="mean", sd="std", runs="count", least="min", most="max").reset_index()
    return [_plain(row) for row in table.to_dict("records")]


def best_run(runs: pd.DataFrame, metric: str) -> tuple[dict[str, Any], str]:
    """The best run, chosen by the metric on validation rows where all runs have it.

    Returns:
        The run's row, and the metric that chose it: choosing by a test metric flatters, so say which it was.
    """
    validated = f"validation_{metric}"
    chooser = validated if validated in runs and runs[validated].notna().all() else metric
    if chooser not in runs:
        raise must("--metric", f"one of {_choices(runs.columns)}", metric)
    lower = metric.endswith(("_error", "seconds"))
    order = runs[chooser].rank(ascending=lower, method="first")
    return _plain(runs.loc[order.idxmin()].to_dict()), chooser


def _row(run: Any) -> dict[str, Any]:
    tags = {name: run.data.tags[name] for name in ("map_digest", "manifest_hash") if name in run.data.tags}
    about = {"run_id": run.info.run_id, "run_name": run.info.run_name}
    return {**about, **run.data.params, **run.data.metrics, **tags}


def _short_names(columns: Iterable[str]) -> dict[str, str]:
    """train.labelled_fraction → labelled_fraction, where no other column is called so."""
    names = list(columns)
    last = [name.rsplit(".", 1)[-1] for name in names]
    return {name: short for name, short in zip(names, last, strict=True) if last.count(short) == 1}


def _as_numbers(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if numbers.notna().sum() == column.notna().sum() else column


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """A row in plain Python values; what is missing is None."""
    plain = {str(key): value.item() if hasattr(value, "item") else value for key, value in row.items()}
    return {key: None if value != value else value for key, value in plain.items()}


def _choices(columns: Iterable[str]) -> str:
    return ", ".join(sorted(columns))
