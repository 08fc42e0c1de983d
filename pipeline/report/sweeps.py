"""The report of a sweep: accuracy by labelled fraction with spread and baselines, what the parameters did, all trials.

One row per trial.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.colors import sample_colorscale

from pipeline.baselines import BASELINES
from pipeline.report.charts import OUTLINE, frame
from pipeline.report.page import Page, chart, escaped, select, table
from pipeline.report.palette import COLOURS, printed, shown
from pipeline.report.sweep_data import SweepData
from pipeline.sweeps.selection import on_split

_DASHES = {"majority": "dot", "neighbour": "dash", "spreading": "dashdot"}
_SHADES = (COLOURS[9], COLOURS[3], COLOURS[8])  # of the baselines


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
        x=x, y=mean, mode="lines+markers", name="mean ± sd", line={"color": COLOURS[1], "width": 3},
        marker={"size": 9}, error_y={"array": [p[2] or 0.0 for p in points], "thickness": 2, "width": 6},
        hoverinfo="text", text=[f"{p[0]:.1%} of labels<br>{p[1]:.4f} ± {p[2] or 0:.4f} (n = {p[3]})" for p in points],
    )  # fmt: skip
    for number, (method, values) in enumerate(data.baselines.get(name, {}).items()):
        means = [float(np.mean(values[fraction])) for fraction in sorted(values)]
        spread = [float(np.std(values[f], ddof=1)) if len(values[f]) > 1 else 0.0 for f in sorted(values)]
        figure.add_scatter(
            x=sorted(values), y=means, mode="lines+markers", name=BASELINES[method],
            line={"dash": _DASHES[method], "color": _SHADES[number], "width": 2},
            error_y={"type": "data", "array": spread, "thickness": 1, "width": 4},
        )  # fmt: skip
    ticks = sorted({float(row["labelled_fraction"]) for row in here})
    zero = 0.0 in ticks
    figure.update_xaxes(
        type="linear" if zero else "log", tickmode="array", tickvals=ticks, ticktext=[f"{f:.3g}" for f in ticks],
        title_text="labelled fraction" + ("" if zero else " (log)"),
    )  # fmt: skip
    figure.update_yaxes(title_text=_scored(data, name))
    return frame(figure, legend={"title": {"text": ""}}, margin={"l": 64, "r": 12, "t": 32, "b": 54}, dragmode=False)


def fractions_figure(data: SweepData, name: str) -> Figure:
    """The same as a figure for papers."""
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    here = [row for row in data.finished if str(row["data"]) == name]
    every = [[float(row[key]) for row in here] for key in ("labelled_fraction", data.metric)]
    axes.plot(*every, ".", color="#bbbbbb", label="every trial", zorder=1)
    points = data.by_fraction(name)
    axes.errorbar([p[0] for p in points], [p[1] for p in points], [p[2] or 0.0 for p in points], color=COLOURS[1],
                  marker="o", capsize=3, linewidth=2, label="mean ± sd", zorder=3)  # fmt: skip
    styles = {"majority": ":", "neighbour": "--", "spreading": "-."}
    for number, (method, values) in enumerate(data.baselines.get(name, {}).items()):
        means = [float(np.mean(values[fraction])) for fraction in sorted(values)]
        axes.plot(sorted(values), means, styles[method], color=_SHADES[number], marker=".",
                  label=BASELINES[method], zorder=2)  # fmt: skip
    x = sorted({float(row["labelled_fraction"]) for row in here})
    if 0.0 not in x:
        axes.set_xscale("log")
    axes.set_xticks(x, [f"{f:.3g}" for f in x], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("labelled fraction")
    axes.set_ylabel(_scored(data, name))
    axes.set_title(printed(name, 60), fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return figure


def _scored(data: SweepData, name: str) -> str:
    """The metric, and whose rows it is of."""
    return data.metric.replace("_", " ") + on_split([row for row in data.finished if row["data"] == name])


def parameter_chart(data: SweepData, key: str) -> go.Figure:
    """What a hyper-parameter did: the metric of every trial by its value."""
    figure = go.Figure()
    fractions = sorted({float(row["labelled_fraction"]) for row in data.finished})
    shades = np.linspace(0, 1, max(2, len(fractions)))
    for number, fraction in enumerate(fractions):
        here = [row for row in data.finished if float(row["labelled_fraction"]) == fraction]
        figure.add_scatter(
            x=[row.get(key) for row in here], y=[row[data.metric] for row in here], mode="markers",
            name=f"{fraction:.3g}",
            marker={"size": 8, "color": sample_colorscale("Viridis", float(shades[number]))[0],
                    "line": {"width": 0.5, "color": OUTLINE}},
            text=[shown(row["trial"]) for row in here], hovertemplate="%{text}<br>%{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text=key)
    figure.update_yaxes(title_text=data.metric.replace("_", " "))
    margin = {"l": 64, "r": 12, "t": 32, "b": 50}
    return frame(figure, legend={"title": {"text": "labelled fraction"}}, margin=margin, dragmode=False)


def sweep_page(data: SweepData) -> Page:
    """The page of a sweep."""
    model = str(data.rows[0]["model"])
    counts = {name: sum(row["status"] == name for row in data.rows) for name in ("finished", "failed", "stopped")}
    page = Page(
        title=f"Sweep of {model} on {', '.join(data.tables)}",
        about=f"{len(data.rows)} trials: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n) + ".",
        footer="Made with somgrad; charts by plotly.js.",
    )
    metric = data.metric.replace("_", " ")
    page.tiles = [("trials", str(len(data.rows))), ("sets chosen by", data.choosers.replace("_", " "))]
    page.tiles += [
        (f"{metric} on {name}, {100 * p[0]:.3g}% of labels", f"{p[1]:.4f}")
        for name in data.tables
        for p in data.by_fraction(name)[-1:]
    ]
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
            f"{data.meaning[0].upper()}{data.meaning[1:]}: mean and standard deviation (n − 1). Baselines read the "
            f"same labels. {told}"
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
    head = ["data", "labelled fraction", "set", data.metric, "sd", "seeds", "folds", "chosen by", "score"]
    keys = ("data", "labelled_fraction", "set", "mean", "sd", "seeds", "folds", "chosen_by", "score")
    chosen = [[_text(row[key]) for key in keys] for row in data.chosen]
    title = "The only set" if all(row["score"] is None for row in data.chosen) else "Chosen by validation"
    made = f"<h2>{title}</h2>{table(head, chosen)}" if chosen else ""
    return f"{made}<h2>What was asked</h2>{table(['key', 'value'], rows)}"


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
