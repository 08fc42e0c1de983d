"""The report of a sweep: accuracy by labelled fraction with spread and baselines, what the parameters did, all trials.

One row per trial, as in its table `trials.csv`. N training rows, D features.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from pipeline.errors import OutputError, UserError
from pipeline.labels import labelled_fraction
from pipeline.report.charts import frame
from pipeline.report.page import Page, chart, escaped, select, table
from pipeline.report.palette import COLOURS, shown
from pipeline.selection import metric_of, selected
from pipeline.shards import Dataset

SWEEP, TABLE = "sweep.json", "trials.csv"
_SPREADING_ROWS = 10_000  # label spreading holds a graph over all rows
_NEIGHBOUR_ROWS = 200_000
BASELINES = {
    "majority": "commonest class",
    "neighbour": "1-nearest labelled row",
    "spreading": "label spreading",
}
_DASHES = {"majority": "dot", "neighbour": "dash", "spreading": "dashdot"}
_ABOUT = {"trial", "status", "data", "model", "labelled_fraction", "seed", "set", "attempts", "error", "run_id", "out"}


def is_sweep(directory: Path) -> bool:
    """Whether this is the folder of a sweep."""
    return (directory / SWEEP).is_file()


def read_sweep(directory: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was asked of a sweep, and a row for each of its trials.

    Raises:
        OutputError: it has no table yet, or it cannot be read.
    """
    try:
        definition = dict(json.loads((directory / SWEEP).read_text(encoding="utf-8"))["definition"])
        trials = pd.read_csv(directory / TABLE)
    except FileNotFoundError as error:
        raise OutputError(f"'{directory}' must hold a sweep that has ended once ({TABLE}). {error.strerror}.") from None
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"'{directory}' holds a sweep that cannot be read: {error}.") from None
    rows = [
        {str(k): None if isinstance(v, float) and v != v else v for k, v in row.items()}
        for row in trials.to_dict("records")
    ]
    return definition, rows


def baselines(data: str, fractions: list[float], seeds: list[int]) -> dict[str, dict[float, list[float]]]:
    """Test accuracy of what reads the same labels, by method and fraction, one number for each seed.

    Label spreading is left out for more than 10,000 training rows, and so is what needs labels where there are none.
    """
    dataset = Dataset.open(data)
    count = dataset.num_rows("train")
    if not dataset.num_rows("test") or not dataset.num_classes or count > _NEIGHBOUR_ROWS:
        return {}
    features, labels = (part.numpy() for part in dataset.read("train", slice(0, count)))
    test, truth = (part.numpy() for part in dataset.read("test", slice(0, dataset.num_rows("test"))))
    features, test = np.nan_to_num(features), np.nan_to_num(test)
    found: dict[str, dict[float, list[float]]] = {name: {} for name in BASELINES}
    for fraction in fractions:
        for seed in seeds:
            kept = labelled_fraction(labels, fraction, seed)
            for name, value in _reading(features, kept, test, truth).items():
                found[name].setdefault(fraction, []).append(value)
    return {name: values for name, values in found.items() if values}


def _reading(features: np.ndarray, kept: np.ndarray, test: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    from sklearn.neighbors import KNeighborsClassifier

    from pipeline.fractions import spreading_accuracy

    known = kept >= 0
    if not known.any():
        return {}
    scores = {"majority": float((truth == np.bincount(kept[known]).argmax()).mean())}
    nearest = KNeighborsClassifier(1).fit(features[known], kept[known])
    scores["neighbour"] = float((nearest.predict(test) == truth).mean())
    if len(features) <= _SPREADING_ROWS:
        scores["spreading"] = spreading_accuracy(features, kept, test, truth)
    return scores


class SweepData:
    """A sweep, ready to be drawn.

    Args:
        directory: its folder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.definition, self.rows = read_sweep(directory)
        self.metric = self._metric()
        self.finished = [row for row in self.rows if row["status"] == "finished" and row.get(self.metric) is not None]
        if not self.finished:
            raise UserError(f"The sweep in '{directory}' must have a finished trial to be looked at. It has none.")
        self.tables = sorted({str(row["data"]) for row in self.finished})
        self.chosen = selected(self.rows, self.metric)
        self.baselines = {name: self._baselines(name) for name in self.tables}

    def _metric(self) -> str:
        model = str(self.rows[0]["model"]) if self.rows else ""
        classes = any(row.get("clustering_accuracy") is not None for row in self.rows)
        return metric_of(model, 1 if classes else 0)

    def _baselines(self, name: str) -> dict[str, dict[float, list[float]]]:
        if self.metric != "accuracy":
            return {}
        here = [row for row in self.finished if row["data"] == name]
        paths = [p for p in map(str, self.definition.get("data", [])) if Path(p).name == name]
        fractions = sorted({float(row["labelled_fraction"]) for row in here})
        seeds = sorted({int(row["seed"]) for row in here})
        try:
            return baselines(paths[0], fractions, seeds) if paths else {}
        except (UserError, OSError):
            return {}

    @property
    def parameters(self) -> list[str]:
        """Hyper-parameters that differ between trials."""
        keys = [key for key in self.rows[0] if key not in _ABOUT and "." in key]
        return [key for key in keys if len({str(row.get(key)) for row in self.finished}) > 1]

    def by_fraction(self, name: str) -> list[tuple[float, float, float | None, int]]:
        """Fraction, mean, standard deviation (n − 1) and seeds: of the chosen sets; of all trials without a choice."""
        chosen = [row for row in self.chosen if row["data"] == name and row["mean"] is not None]
        if chosen:
            return sorted((float(r["labelled_fraction"]), r["mean"], r["sd"], int(r["seeds"])) for r in chosen)
        here = [row for row in self.finished if row["data"] == name]
        found = []
        for fraction in sorted({float(row["labelled_fraction"]) for row in here}):
            values = [float(row[self.metric]) for row in here if float(row["labelled_fraction"]) == fraction]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found.append((fraction, float(np.mean(values)), spread, len(values)))
        return found


def fractions_chart(data: SweepData, name: str) -> go.Figure:
    """The metric by labelled fraction: every trial, mean and spread of the chosen sets, baselines."""
    figure = go.Figure()
    here = [row for row in data.finished if str(row["data"]) == name]
    figure.add_scatter(
        x=[float(row["labelled_fraction"]) for row in here], y=[float(row[data.metric]) for row in here],
        mode="markers", name="every trial", marker={"size": 6, "color": "rgba(128,128,128,0.55)"}, hoverinfo="text",
        text=[f"{shown(row['trial'])}<br>{data.metric} {row[data.metric]:.4f}" for row in here],
    )  # fmt: skip
    points = data.by_fraction(name)
    x, mean = [p[0] for p in points], [p[1] for p in points]
    figure.add_scatter(
        x=x, y=mean, mode="lines+markers", name="chosen set, mean ± sd", line={"color": COLOURS[1], "width": 3},
        marker={"size": 9}, error_y={"type": "data", "array": [p[2] or 0.0 for p in points], "thickness": 2, "width": 6},
        hoverinfo="text", text=[f"{p[0]:.1%} of labels<br>{p[1]:.4f} ± {p[2] or 0:.4f} ({p[3]} runs)" for p in points],
    )  # fmt: skip
    for number, (method, values) in enumerate(data.baselines.get(name, {}).items()):
        means = [float(np.mean(values[fraction])) for fraction in sorted(values)]
        spread = [float(np.std(values[f], ddof=1)) if len(values[f]) > 1 else 0.0 for f in sorted(values)]
        figure.add_scatter(
            x=sorted(values), y=means, mode="lines+markers", name=BASELINES[method],
            line={"dash": _DASHES[method], "color": (COLOURS[9], COLOURS[3], COLOURS[8])[number], "width": 2},
            error_y={"type": "data", "array": spread, "thickness": 1, "width": 4},
        )  # fmt: skip
    zero = 0.0 in x
    figure.update_xaxes(
        type="linear" if zero else "log", tickmode="array", tickvals=x, ticktext=[f"{f:.3g}" for f in x],
        title_text="labelled fraction" + ("" if zero else " (log)"),
    )  # fmt: skip
    figure.update_yaxes(title_text=f"{data.metric.replace('_', ' ')} on the test split")
    return frame(figure, legend={"title": {"text": ""}}, margin={"l": 64, "r": 12, "t": 32, "b": 54}, dragmode=False)


def fractions_figure(data: SweepData, name: str) -> Figure:
    """The same as a figure for papers."""
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    here = [row for row in data.finished if str(row["data"]) == name]
    axes.plot([float(r["labelled_fraction"]) for r in here], [float(r[data.metric]) for r in here], ".", color="#bbbbbb",
              label="every trial", zorder=1)  # fmt: skip
    points = data.by_fraction(name)
    axes.errorbar([p[0] for p in points], [p[1] for p in points], [p[2] or 0.0 for p in points], color=COLOURS[1],
                  marker="o", capsize=3, linewidth=2, label="chosen set, mean ± sd", zorder=3)  # fmt: skip
    styles = {"majority": ":", "neighbour": "--", "spreading": "-."}
    for number, (method, values) in enumerate(data.baselines.get(name, {}).items()):
        means = [float(np.mean(values[fraction])) for fraction in sorted(values)]
        axes.plot(sorted(values), means, styles[method], color=(COLOURS[9], COLOURS[3], COLOURS[8])[number], marker=".",
                  label=BASELINES[method], zorder=2)  # fmt: skip
    x = [p[0] for p in points]
    if 0.0 not in x:
        axes.set_xscale("log")
    axes.set_xticks(x, [f"{f:.3g}" for f in x], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("labelled fraction")
    axes.set_ylabel(f"{data.metric.replace('_', ' ')} on the test split")
    axes.set_title(name, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return figure


def parameter_chart(data: SweepData, key: str) -> go.Figure:
    """What a hyper-parameter did: the metric of every trial by its value."""
    figure = go.Figure()
    fractions = sorted({float(row["labelled_fraction"]) for row in data.finished})
    shades = np.linspace(0, 1, max(2, len(fractions)))
    for number, fraction in enumerate(fractions):
        here = [row for row in data.finished if float(row["labelled_fraction"]) == fraction]
        figure.add_scatter(
            x=[row.get(key) for row in here], y=[row[data.metric] for row in here], mode="markers", name=f"{fraction:.3g}",
            marker={"size": 8, "color": [float(shades[number])] * len(here), "colorscale": "Viridis", "cmin": 0, "cmax": 1,
                    "line": {"width": 0.5, "color": "rgba(128,128,128,0.9)"}},
            text=[shown(row["trial"]) for row in here], hovertemplate="%{text}<br>%{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text=key)
    figure.update_yaxes(title_text=data.metric.replace("_", " "))
    return frame(
        figure, legend={"title": {"text": "labelled fraction"}}, margin={"l": 64, "r": 12, "t": 32, "b": 50}, dragmode=False
    )


def sweep_page(data: SweepData) -> Page:
    """The page of a sweep."""
    model = str(data.rows[0]["model"])
    counts = {name: sum(row["status"] == name for row in data.rows) for name in ("finished", "failed", "stopped")}
    page = Page(
        title=f"Sweep of {model} on {', '.join(data.tables)}",
        about=f"{len(data.rows)} trials: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n) + ".",
        footer="Made with somgrad; charts by plotly.js.",
    )
    best = max((p for name in data.tables for p in data.by_fraction(name)), key=lambda p: p[1])
    page.tiles = [("trials", str(len(data.rows))), (f"best mean {data.metric.replace('_', ' ')}", f"{best[1]:.4f}")]
    page.tabs.append(("fractions", "By labelled fraction", _fractions_panel(page, data), False))
    if data.parameters:
        page.tabs.append(("parameters", "Parameters", _parameters_panel(page, data), False))
    columns = ["trial", "status", data.metric, "nodes", "seconds", *data.parameters]
    rows = [[_text(row.get(name)) for name in columns] for row in data.rows]
    page.tabs.append(("trials", "Trials", table(columns, rows), False))
    page.tabs.append(("run", "Sweep", _sweep_panel(data), False))
    return page


def _fractions_panel(page: Page, data: SweepData) -> str:
    parts = []
    for number, name in enumerate(data.tables):
        place = f"fractions-{number}"
        page.charts[place] = fractions_chart(data, name)
        points = data.by_fraction(name)
        told = "; ".join(f"{p[0]:.3g}: {p[1]:.4f} ± {p[2] or 0:.4f} ({p[3]})" for p in points)
        caption = (
            f"Mean and standard deviation (n − 1) over seeds of the set that validation rows chose, where they could; else of "
            f"all trials. Baselines read the same labels. {told}"
        )
        alt = f"{data.metric} by labelled fraction on {name}. {caption}"
        parts.append(f"<h2>{escaped(name)}</h2>{chart(place, alt, escaped(caption))}")
    return "".join(parts)


def _parameters_panel(page: Page, data: SweepData) -> str:
    parts = []
    for number, key in enumerate(data.parameters):
        page.charts[f"parameter-{number}"] = parameter_chart(data, key)
        place = chart(f"parameter-{number}", f"{data.metric} of every trial by {key}.", "One mark per trial.")
        parts.append(place.replace("<figure>", "<figure hidden>", 1) if number else place)
    choices = [(f"parameter-{number}", key) for number, key in enumerate(data.parameters)]
    return f'<div class="controls">{select("parameter", "Parameter", choices, "data-choose")}</div>{"".join(parts)}'


def _sweep_panel(data: SweepData) -> str:
    rows = [[key, _text(value)] for key, value in data.definition.items()]
    head = ["data", "labelled fraction", "set", data.metric, "sd", "seeds", "chosen by", "score"]
    chosen = [
        [_text(row[key]) for key in ("data", "labelled_fraction", "set", "mean", "sd", "seeds", "chosen_by", "score")]
        for row in data.chosen
    ]
    made = f"<h2>Chosen by validation</h2>{table(head, chosen)}" if chosen else ""
    return f"{made}<h2>What was asked</h2>{table(['key', 'value'], rows)}"


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
