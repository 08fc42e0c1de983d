"""Tracked results pulled from MLflow: runs as rows, and what is kept of one of them."""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config import parse_setting
from pipeline.errors import UserError, must, theirs_to_mend
from pipeline.sweeps.folder import SWEEP, TABLE
from pipeline.tracking.asking import asking, reason_of
from pipeline.tracking.result_rows import data_names, read_trials
from pipeline.tracking.stores import bare, database

_PAGE = 1000
_TAGS = ("map_digest", "manifest_hash", "sweep", "trial", "set", "data", "fold", "screened", "split")
_MAP, _RECORD = "map.safetensors", "run.json"


def tracked_runs(experiment: str, uri: str | None = None, sweep: str | None = None) -> pd.DataFrame:
    """Finished runs of an experiment, newest last.

    Args:
        experiment: its name.
        uri: MLflow store; None = MLflow's own choice (MLFLOW_TRACKING_URI, or its default).
        sweep: only the trials of this one: folder, name (tag `sweep`), or id of its run; None = all runs.

    Returns:
        One row per run: `run_id`, `run_name`, every parameter (by the last part of its key where that is unambiguous,
        numbers as numbers), every metric, all tags of `_TAGS`, and `data`, the name of its data set (see `data_names`).

    Raises:
        UserError: no such experiment, no finished run in it, or a server that wants another user.
    """
    wanted = "" if sweep is None else f" and tags.sweep = '{_sweep_name(sweep, uri)}'"
    found = _search(experiment, uri, f"status = 'FINISHED'{wanted}")
    rows = [_row(run) for run in found if run.data.tags.get("kind") not in ("sweep", "comparison")]
    if not rows:
        of = f"The experiment '{experiment}'" if sweep is None else f"The sweep '{sweep}' in experiment '{experiment}'"
        raise UserError(f"{of} must have a finished run. It has none yet.")
    table = pd.DataFrame(rows[::-1])
    table = table.rename(columns=_short_names(table.columns)).apply(_as_numbers)
    table["data"] = data_names(rows[::-1])
    return table


def sweep_rows(sweep: str, experiment: str, uri: str | None = None) -> list[dict[str, Any]]:
    """The trials of a sweep as rows, from its folder or from MLflow.

    Args:
        sweep: folder, name (tag `sweep`), or id of the run of the sweep.
        experiment: where a name is looked up.
        uri: MLflow store; None = MLflow's own choice.

    Returns:
        Rows with trial, status, data, fold, manifest_hash (of its data set), split (that the metrics are of),
        labelled_fraction, seed, set, and metrics; also of trials that have not ended, without metrics.

    Raises:
        UserError: no such sweep.
    """
    table = Path(sweep) / TABLE
    if table.is_file():
        return _with_manifests(read_trials(table), Path(sweep) / SWEEP)
    name = _sweep_name(sweep, uri)
    found = _search(experiment, uri, f"tags.sweep = '{name}'")
    rows = [_trial_row(run) for run in found if run.data.tags.get("kind") == "trial"]
    if not rows:
        raise must("--compare", "folders, names or run ids of sweeps", sweep)
    seeds = next((run.data.params.get("seeds", "") for run in found if run.data.tags.get("kind") == "sweep"), "")
    return rows + _not_ended(rows, [int(seed) for seed in seeds.split(",") if seed])


def kept_of(run_id: str, uri: str | None = None) -> dict[str, Any]:
    """What MLflow keeps of a run beside its numbers.

    Returns:
        settings: by whole key, as in `run.json`, without it all parameters; has_map: whether the map was recorded;
        model_uri: of the newest logged model; data_place: the data set, named from any directory; None if not known.
    """
    with asking(uri) as client:
        run = client.get_run(run_id)
    models = [] if run.outputs is None else list(run.outputs.model_outputs)
    kept: dict[str, Any] = {
        "settings": dict(parse_setting(f"{key}={value}") for key, value in run.data.params.items()),
        "has_map": False,
        "model_uri": f"models:/{models[-1].model_id}" if models else None,
        "data_place": run.data.tags.get("data_place"),
    }
    # Files may be in another store, out of reach from here, with errors of its own: numbers are told without them.
    with contextlib.suppress(Exception), tempfile.TemporaryDirectory() as folder:
        names = {file.path for file in client.list_artifacts(run_id)}
        kept["has_map"] = _MAP in names
        if _RECORD in names:
            text = Path(client.download_artifacts(run_id, _RECORD, folder)).read_text(encoding="utf-8")
            kept["settings"] = dict(json.loads(text)["settings"])
    return kept


def run_statuses(experiment: str, uri: str | None = None) -> list[str]:
    """The status of every run of an experiment, parents and children."""
    return [str(run.info.status) for run in _search(experiment, uri, "")]


def children_of(run_id: str, experiment: str, uri: str | None = None, limit: int = _PAGE) -> list[str]:
    """Ids of the newest children of a run, as a page of MLflow lists them."""
    wanted = f"tags.`mlflow.parentRunId` = '{run_id}'"
    with asking(uri) as client:
        found = client.get_experiment_by_name(experiment)
        return [run.info.run_id for run in client.search_runs([found.experiment_id], wanted, max_results=limit)]


def _search(experiment: str, uri: str | None, wanted: str) -> list[Any]:
    """Runs of an experiment, newest first.

    Raises:
        UserError: no such experiment, a store that cannot be reached, or one that wants another user.
    """
    import mlflow

    where = uri or mlflow.get_tracking_uri()
    if (file := database(where)) and not file.exists():  # MLflow would make an empty one
        remedy = "Run it where the trainings ran, or name their store."
        raise must("--tracking-uri", "an MLflow store that is there", bare(where), remedy=remedy)
    with asking(uri) as client:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(sorted(e.name for e in client.search_experiments())) or "none"
            raise must("--experiment", f"the name of an experiment in {bare(where)} ({names})", experiment)
        if found.lifecycle_stage != "active":
            remedy = f"It is deleted; to restore it: mlflow experiments restore -x {found.experiment_id}"
            raise must("--experiment", "an experiment that is not deleted", experiment, remedy=remedy)
        runs, token = [], None
        while True:
            page = client.search_runs([found.experiment_id], wanted, max_results=_PAGE, page_token=token)
            runs += list(page)
            token = page.token
            if not token:
                return runs


def _sweep_name(sweep: str, uri: str | None) -> str:
    """The tag of a sweep, from its folder, the id of its run, or itself."""
    file = Path(sweep) / SWEEP
    if file.is_file():
        return str(json.loads(file.read_text(encoding="utf-8"))["name"])
    if not re.fullmatch(r"[0-9a-f]{32}", sweep):
        return sweep.replace("'", "")
    with asking(uri) as client, _known("The sweep", sweep):
        return str(client.get_run(sweep).data.tags.get("sweep", sweep))


def _with_manifests(rows: list[dict[str, Any]], file: Path) -> list[dict[str, Any]]:
    """Rows of the table of a sweep, with what its definition knows of their data."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))["definition"]["data"]
    except (OSError, ValueError, KeyError):  # the table is enough to pair what has the same names
        known = {}
    keys = [f"{row['data']}-{row['fold']}" if row.get("fold") else row["data"] for row in rows]
    return [{**row, "manifest_hash": known.get(key)} for row, key in zip(rows, keys, strict=True)]


def _not_ended(rows: list[dict[str, Any]], seeds: list[int]) -> list[dict[str, Any]]:
    """Rows of trials that MLflow has no run of: all seeds of a set, all folds of a data set belong to a sweep."""
    about = ("data", "fold", "labelled_fraction", "set")
    there = {(*(row[name] for name in about), row["seed"]) for row in rows}
    sets = {place[:-1] for place in there}
    lacking = [(*place, seed) for place in sorted(sets) for seed in seeds if (*place, seed) not in there]
    folds: dict[tuple[str, float], set[str]] = {}
    for data, fold, fraction, _ in sets:
        folds.setdefault((data, fraction), set()).add(fold)
    for row in rows:
        if len(folds[row["data"], row["labelled_fraction"]]) < row["folds"]:
            lacking.append((row["data"], "-", row["labelled_fraction"], row["set"], row["seed"]))
    return [{"trial": "", "status": "waiting", **dict(zip((*about, "seed"), place, strict=True))} for place in lacking]


def _trial_row(run: Any) -> dict[str, Any]:
    tags, params = run.data.tags, run.data.params
    return {
        "trial": tags["trial"],
        "status": "finished" if run.info.status == "FINISHED" else run.info.status.lower(),
        "data": tags["data"],
        "fold": tags.get("fold", ""),
        "folds": int(tags.get("folds", 0)),
        "manifest_hash": tags.get("manifest_hash"),
        "split": tags.get("split"),
        "labelled_fraction": float(tags["labelled_fraction"]),
        "seed": int(params.get("train.seed", 0)),
        "set": int(tags["set"]),
        "run_id": run.info.run_id,
        **run.data.metrics,
    }


def run_directory(run: str, uri: str | None = None, option: str = "--run") -> Path:
    """Where the files of a run are: itself if it is a directory, else a copy from MLflow, while this process lives.

    Args:
        run: a directory, or MLflow's id.
        uri: of the store; None = MLflow's own.
        option: that the user gave it with.

    Raises:
        UserError: neither a directory nor the id of a run that has recorded its map.
    """
    if Path(run).is_dir():
        return Path(run)
    if not re.fullmatch(r"[0-9a-f]{32}", run):
        raise must(option, "the directory of a run, or its id in MLflow", bare(run))
    with asking(uri) as client, _known(option, run):
        names = [file.path for file in client.list_artifacts(run)]
        if not {_MAP, TABLE} & set(names):
            raise must(option, "the id of a run that has recorded its map", run)
        copy = tempfile.mkdtemp(prefix="somgrad-")
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
        return Path(client.download_artifacts(run, "", copy))


@contextlib.contextmanager
def _known(field: str, run: str) -> Iterator[None]:
    """A run that the store does not know, or whose files it cannot give, told as what was given for it."""
    from mlflow import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise must(field, "the id of a run that MLflow knows", run, remedy=reason_of(error)) from None
    except Exception as error:  # of the files' own store, whatever keeps them
        if theirs_to_mend(error):
            raise
        raise UserError(f"The files of run {run} cannot be fetched: {reason_of(error, 200)}") from None


def _row(run: Any) -> dict[str, Any]:
    tags = {name: run.data.tags[name] for name in _TAGS if name in run.data.tags}
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
