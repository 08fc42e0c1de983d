"""The `somgrad` command: every job by its name, each imported only when it is asked for."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from typing import Annotated

import typer

from jobs._lazy import lazy_group
from jobs._run import run

JOBS = {
    "demo": "The main job on a small data set, from nothing: prepare, train, table.",
    "prepare": "Raw data to a prepared data set (parquet shards and a manifest).",
    "train": "One training.",
    "sweep": "Labelled-fraction and hyperparameter sweep on Ray Tune.",
    "evaluate": "Metrics of a trained model on a split.",
    "export": "A trained model as an ONNX file.",
    "predict": "Batch prediction: parquet in, parquet out.",
    "features": "Features of a frozen extractor as a prepared data set.",
    "compare": "Every model side by side on one data set: table, figures, significance.",
    "results": "Tracked results as a table, CSV or JSON.",
    "report": "The map report, one HTML page.",
    "submit": "Any of these as a Ray job on a cluster.",
    "benchmark": "Side-by-side measurements.",
}


app = lazy_group(
    {name: (f"jobs.{name}", text) for name, text in JOBS.items()},
    "Commands",
    "Example: somgrad prepare digits --out data/digits",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"somgrad {importlib.metadata.version('somgrad')}")
        raise typer.Exit


@app.callback()
def _somgrad(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    """Growing, relevance-learning self-organizing maps over a Ray cluster."""


def main() -> None:
    """Entry point of the `somgrad` command; modules of the working directory are found, as with `python -m`."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    run(app, "somgrad")


if __name__ == "__main__":
    main()
