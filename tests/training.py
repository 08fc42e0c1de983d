"""Small trainings that the tests share: five models on digits, a few seconds each, and tables made on the spot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
MODELS = ("kohonen", "dssom", "larfdssom", "sssom", "altsssom")
_GROWING = {"map.epochs": 2, "map.pruning_epochs": 2, "map.batch_size": 400}
_OF_MODEL = {
    "kohonen": {"map.rows": 8, "map.columns": 8, "map.epochs": 5},
    "dssom": {"map.rows": 6, "map.columns": 6, "map.epochs": 3, "map.batch_size": 400},
}


def small(model: str, data: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a training of about a second; every round has several tiles, so several workers have work."""
    settings = {
        "data.path": str(data),
        "train.model": model,
        "train.labelled_fraction": 0.3,
        "train.evaluate_rows": 100,
        "map.tile_size": 64,
        "cluster.workers": 0,
        "tracking.uri": "none",
    }
    return settings | _OF_MODEL.get(model, _GROWING) | {key.replace("__", "."): v for key, v in changes.items()}


def table(folder: Path, features: np.ndarray, labels: np.ndarray | None = None, **options: Any) -> Path:
    """A prepared data set of a table, all rows for training unless said otherwise; its directory."""
    from pipeline.prepare import PrepareOptions, prepare
    from pipeline.sources import SourceOptions, open_source

    folder.mkdir(parents=True)
    columns = {f"x{d}": features[:, d] for d in range(features.shape[1])}
    if labels is not None:
        columns["y"] = labels
    rows = np.stack([column.astype(str) for column in columns.values()], axis=1)
    text = "\n".join([",".join(columns), *(",".join(row) for row in rows)])
    (folder / "raw.csv").write_text(text + "\n")
    written = {"missing": options.pop("missing", "error"), "rows_per_shard": options.pop("rows_per_shard", None)}
    asked = {"label_column": "y" if labels is not None else None, "test_fraction": 0.0} | options
    source = open_source("table", folder / "raw.csv", SourceOptions(**asked))
    prepare(source, folder / "data", PrepareOptions(**written))
    return folder / "data"


def run_job(*arguments: Any, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m jobs.train ...` as a user runs it."""
    return subprocess.run(
        command(*arguments),
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def call_job(*arguments: Any) -> tuple[int, str, str]:
    """The same command without a process of its own: exit code, stdout, stderr."""
    import contextlib
    import io
    import signal
    from unittest.mock import patch

    from jobs._run import run
    from jobs.train import app

    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    words = ["jobs.train", *map(str, arguments)]
    try:
        with patch.object(sys, "argv", words), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run(app)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    finally:
        signal.signal(signal.SIGTERM, handler)


def command(*arguments: Any) -> list[str]:
    """The command line of a training."""
    return [sys.executable, "-m", "jobs.train", *map(str, arguments)]


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object in the last line of stdout; fails with what the job said if there is none."""
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def save_model(directory: Path, out: Path) -> Path:
    """The MLflow model that `jobs.train --log-model` logs, in a directory without a server."""
    import mlflow

    from pipeline.serving import model

    with model._quiet(), model._arguments(directory) as arguments:
        mlflow.pyfunc.save_model(path=str(out), **arguments)
    return out
