"""The figure: accuracy by labelled fraction, deep map beside the same encoder trained on the labels alone.

Every cell (fraction, seed, method) is kept when it is done; the same folder goes on where it was left.
"""

from __future__ import annotations

import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.benchmarks.shared import design_of, keep_design
from pipeline.benchmarks.supervised import train_supervised
from pipeline.config import RunConfig
from pipeline.errors import must
from pipeline.places import alone_in, write_atomically
from pipeline.prepared.shards import Dataset
from pipeline.report.sweep_data import read_sweep
from pipeline.sweeps.folder import FINISHED
from pipeline.training.rundir import RunDirectory
from pipeline.training.trainer import train

METHODS = {
    "deep": "deep map", "supervised": "labels alone, weak views", "supervised-strong": "labels alone, strong views too",
}  # fmt: skip
"""What may be compared, and its name in table and figure."""
_KEPT = ("accuracy", "seconds", "nodes", "map_digest")
Say = Callable[[str], None]
Swept = dict[tuple[float, int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Curve:
    """What is asked.

    Attributes:
        settings: flat keys of a deep run without fraction and seed, `data.path` included.
        fractions: labelled fractions.
        seeds: of labels, order and start.
        methods: some of `METHODS`.
        out: where runs and results are kept.
        command: that makes the table.
        sweep: folder of a sweep of the same settings whose finished trials are the deep runs; None = run them.
    """

    settings: dict[str, Any]
    fractions: Sequence[float]
    seeds: Sequence[int]
    methods: Sequence[str]
    out: Path
    command: str
    sweep: Path | None = None


def compute(curve: Curve, minutes: float | None, say: Say) -> list[dict[str, Any]]:
    """All cells that are done; computes the missing ones while there is time.

    Raises:
        ValueError: a method or setting is not known, there are no test rows, a sweep is not one of the deep runs, or
            `out` keeps other cells or is in use by a benchmark that runs.
    """
    for method in curve.methods:
        if method not in METHODS:
            raise must("--methods", f"some of {', '.join(METHODS)}", method)
    for fraction in curve.fractions:
        RunConfig.build({**curve.settings, "train.labelled_fraction": fraction})
    if not Dataset.open(str(curve.settings["data.path"])).num_samples("test"):
        raise must("--data", "a data set with a test split", curve.settings["data.path"])
    swept = {} if curve.sweep is None else _swept(curve.sweep, str(curve.settings["data.path"]))
    design = design_of(curve.settings)
    with alone_in(curve.out, "a benchmark"):
        keep_design(curve.out, design)
        return _computed(curve, swept, minutes, say)


def _computed(curve: Curve, swept: Swept, minutes: float | None, say: Say) -> list[dict[str, Any]]:
    """The cells, those of a sweep among them; its folder is held."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    cells = []
    places = list(itertools.product(curve.seeds, curve.fractions, curve.methods))
    for number, (seed, fraction, method) in enumerate(places, start=1):
        if method == "deep" and curve.sweep is not None:
            cells += swept.get((fraction, seed), [])
            continue
        path = curve.out / f"{method}-{fraction:g}-{seed}.json"
        if not path.exists():
            if end is not None and time.monotonic() > end:
                continue
            say(f"{number} of {len(places)}: {method}, {fraction:g} of the labels, seed {seed}")
            cell = _cell(curve, method, fraction, seed, say)
            write_atomically(path, json.dumps(cell).encode())
        cells.append(json.loads(path.read_text(encoding="utf-8")))
    return cells


def _swept(folder: Path, data: str) -> Swept:
    """The finished trials of a sweep of one data set and one set of parameters as cells, by fraction and seed.

    Raises:
        UserError: several data sets or sets were swept, or another data set or model.
    """
    definition, rows = read_sweep(folder)
    for name in ("data", "set", "model"):
        values = sorted({str(row[name]) for row in rows})
        if len(values) > 1 or (name == "model" and values != ["deep"]):
            raise must("--sweep", f"a sweep of one {name}" if name != "model" else "a sweep of deep", ", ".join(values))
    if Dataset.open(data).manifest_hash not in definition.get("data", {}).values():
        raise must("--sweep", f"a sweep of the data in '{data}' (--data)", str(rows[0]["data"]))
    return {
        (float(row["labelled_fraction"]), int(row["seed"])): [
            {"method": "deep", "fraction": float(row["labelled_fraction"]), "seed": int(row["seed"])}
            | {name: row[name] for name in _KEPT}
        ]
        for row in rows
        if row["status"] == FINISHED
    }


def _cell(curve: Curve, method: str, fraction: float, seed: int, say: Say) -> dict[str, Any]:
    settings = {**curve.settings, "train.labelled_fraction": fraction, "train.seed": seed}
    if method != "deep":
        result = train_supervised(settings, strong=method == "supervised-strong", say=say)
    else:
        directory = curve.out / "runs" / f"{fraction:g}-{seed}"
        result = train(settings, directory, resume=bool(RunDirectory(directory).record), say=say)
    kept = {name: result.get(name) for name in _KEPT}
    return {"method": method, "fraction": fraction, "seed": seed, **kept}


def spread(cells: list[dict[str, Any]], method: str, fraction: float) -> tuple[float, float, int] | None:
    """Mean, standard deviation (0 of one) and number of the accuracies of a cell of the table; None without any."""
    values = [c["accuracy"] for c in cells if c["method"] == method and c["fraction"] == fraction]
    if not values:
        return None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values)


def markdown(curve: Curve, cells: list[dict[str, Any]], name: str) -> str:
    """The table: accuracy as mean ± standard deviation (seeds), error cut of the better baseline, minutes of a run."""
    baselines = [method for method in METHODS if method in curve.methods and method != "deep"]
    names = " | ".join(METHODS[method] for method in ("deep", *baselines))
    lines = [
        f"### {name}: test accuracy by labelled fraction",
        "",
        f"| labels | {names} | error cut | minutes |",
        "|---" * (len(baselines) + 4) + "|",
    ]
    for fraction in curve.fractions:
        deep, *others = (spread(cells, method, fraction) for method in ("deep", *baselines))
        alone = max((other[0] for other in others if other), default=1.0)
        cut = f"{1 - (1 - deep[0]) / (1 - alone):.0%}" if deep and alone < 1 else "–"
        minutes = [c["seconds"] / 60 for c in cells if c["method"] == "deep" and c["fraction"] == fraction]
        spent = f"{statistics.mean(minutes):.1f}" if minutes else "–"
        texts = " | ".join(_text(value) for value in (deep, *others))
        lines.append(f"| {100 * fraction:.4g} % | {texts} | {cut} | {spent} |")
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return "\n".join([*lines, "", f"Command: `{curve.command}`. {versions}.", ""])


def _text(value: tuple[float, float, int] | None) -> str:
    if value is None:
        return "–"
    mean, deviation, number = value
    return f"{mean:.4f} ± {deviation:.4f} ({number})" if number > 1 else f"{mean:.4f} (1)"


def figure(curve: Curve, cells: list[dict[str, Any]], name: str, path: Path) -> Path:
    """Accuracy against fraction, mean and spread over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for method in curve.methods:
        points = [(f, s) for f in curve.fractions if (s := spread(cells, method, f)) is not None]
        if points:
            x, values = zip(*points, strict=True)
            axes.errorbar(
                [100 * f for f in x], [v[0] for v in values], [v[1] for v in values], label=METHODS[method],
                marker="o", capsize=3,
            )  # fmt: skip
    axes.set(xscale="log", xlabel="labels, %", ylabel="test accuracy", title=name)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=150)
    pyplot.close(canvas)
    return path
