"""The tables of a comparison as markdown, and as one HTML page with figures in it."""

from __future__ import annotations

import base64
import html
import io
import platform
from collections.abc import Sequence
from typing import Any

import torch

from pipeline.comparison.cells import Comparison
from pipeline.comparison.contestants import NAMES, SPREADING
from pipeline.comparison.tables import (
    CLUSTERS,
    COST,
    FEATURES,
    FEWEST,
    Difference,
    Spread,
    Table,
    differences,
    marked,
    ordered,
    tabulated,
)
from pipeline.report.palette import MATPLOTLIB_MARKS, colour, mark
from pipeline.rivals.config import RIVALS

_NOTES = (
    "Means ± standard deviations (n − 1) over seeds (their number in brackets); best first by ACC, then by accuracy.",
    "ACC, NMI, ARI: trained without labels, scored on the test split with as many clusters as classes; a map with more "
    "nodes has them grouped first: by the views that cross between them where a run counted those, else by Ward's "
    "criterion on the prototypes.",
    "Linear probe and 10-NN: on the frozen features of the training without labels.",
    "† learns nothing from labels: its accuracy at a fraction is that of a linear classifier on its frozen features.",
    "Without a network (kmeans and all maps but the deep ones) the frozen features are the samples themselves.",
    "† and label spreading see as many labelled rows as --rows says at most (5,000 unless it was given): where more of "
    "them have labels, that counts against them.",
    "p: paired t-test over seeds, two-sided, Holm's correction within a measure. With three seeds only large, steady "
    "differences can be significant.",
    "Every setting is in the command, in the files or recipes that it names, or a default.",
)
_STYLED = tuple(dict.fromkeys(("deep", "sssom", *RIVALS, SPREADING, *NAMES)))
"""Who has which colour and mark, in every figure: those compared unless others are asked for have colours apart."""
_MARKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Accuracies named on the axis, and the lowest and highest drawn."""
_LIMITS = (0.008, 0.9993)  # of the axis, so that points at the ends lie within it
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:100em;padding:0 1em}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:85%}td{white-space:nowrap}"
    "td,th{border-bottom:1px solid #ccc;padding:.25em .5em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}code{word-break:break-all}"
)


class Page:
    """A comparison, put into words and pictures.

    Args:
        asked: the comparison.
        cells: those that are done.
        missing: names of those that are not.
        name: of the data.
        reference: against whom differences are tested; None = the first contestant.
    """

    def __init__(
        self, asked: Comparison, cells: list[dict[str, Any]], missing: list[str], name: str, reference: str | None
    ) -> None:
        self.asked, self.missing, self.name = asked, missing, name
        self.table: Table = tabulated(cells, asked.fractions)
        self.reference = reference or asked.contestants[0].name
        self.order = ordered(self.table, asked.fractions)
        self.accuracies = {f"accuracy@{fraction:g}": f"{100 * fraction:.4g} %" for fraction in asked.fractions}
        self.differences = differences(self.table, self.reference, [*CLUSTERS, *FEATURES, *self.accuracies])

    def markdown(self) -> str:
        """Tables and notes."""
        parts = [f"## {self.name}", "", *self._lines(self._main())]
        if self.differences:
            title = f"### Against {self.reference}"
            parts += ["", title, "", *self._lines(self._tests())]
        parts += ["", *(f"- {note}" for note in _NOTES)]
        if self.missing:
            parts += ["", f"**Not run yet ({len(self.missing)} cells):** {', '.join(self.missing)}."]
        versions = f"torch {torch.__version__}, Python {platform.python_version()}"
        return "\n".join([*parts, "", f"Command: `{self.asked.command}`. {versions}.", ""])

    def html(self) -> str:
        """The same as a page of its own, with figures."""
        body = [f"<h1>{html.escape(self.name)}</h1>", _html_table(self._main())]
        body += [
            f"<img alt='{html.escape(title)}' src='data:image/png;base64,{data}'>" for title, data in self.figures()
        ]
        if self.differences:
            body += [f"<h2>Against {html.escape(self.reference)}</h2>", _html_table(self._tests())]
        body += ["<ul>", *(f"<li>{html.escape(note)}</li>" for note in _NOTES), "</ul>"]
        if self.missing:
            body.append(f"<p><b>Not run yet:</b> {html.escape(', '.join(self.missing))}</p>")
        body.append(f"<p>Command: <code>{html.escape(self.asked.command)}</code></p>")
        head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        head += f"<title>{html.escape(self.name)}</title><style>{_STYLE}</style>"
        return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(body)}</body></html>\n"

    def _main(self) -> list[list[str]]:
        columns = {**CLUSTERS, **FEATURES, **self.accuracies, **COST}
        titles = [f"accuracy, {t} of labels" if key in self.accuracies else t for key, t in columns.items()]
        rows = [["", *titles]]
        for name in self.order:
            row = self.table[name]
            rows.append([marked(name, self.asked.contestants), *(_text(row.get(key), key) for key in columns)])
        return rows

    def _tests(self) -> list[list[str]]:
        measures = list(dict.fromkeys(d.measure for d in self.differences))
        known = {**CLUSTERS, **FEATURES, **{key: f"accuracy, {t}" for key, t in self.accuracies.items()}}
        by_place = {(d.name, d.measure): d for d in self.differences}
        rows = [["", *(known[measure] for measure in measures)]]
        for name in self.order:
            if name != self.reference:
                rows.append([name, *(_difference(by_place.get((name, measure))) for measure in measures)])
        return rows

    @staticmethod
    def _lines(rows: list[list[str]]) -> list[str]:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]

    def figures(self) -> list[tuple[str, str]]:
        """Titles and pictures (PNG, base64): clusters without labels, accuracy by labelled fraction."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        found = []
        named = [name for name in self.order if "clustering_accuracy" in self.table[name]]
        if named:
            canvas, axes = pyplot.subplots(figsize=(7, 0.4 * len(named) + 1.2), layout="constrained")
            values = [self.table[name]["clustering_accuracy"] for name in named]
            axes.barh(named, [v.mean for v in values], xerr=[v.deviation or 0.0 for v in values], capsize=3)
            axes.invert_yaxis()
            axes.set(xlabel="clustering accuracy without labels", xlim=(0, 1))
            found.append(("clusters without labels", _png(canvas)))
        if len(self.accuracies) > 1:
            canvas, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
            self._curves(axes)
            found.append(("accuracy by labelled fraction", _png(canvas)))
        return found

    def _curves(self, axes: Any) -> None:
        means: list[float] = []
        ends: list[float] = []
        for name in self.order:
            points = [(100 * f, s) for f in sorted(self.asked.fractions) if (s := self._accuracy(name, f))]
            if points:
                x, y = [f for f, _ in points], [min(max(s.mean, _MARKS[0]), _MARKS[-1]) for _, s in points]
                spread = [s.deviation or 0.0 for _, s in points]
                number = _STYLED.index(name)
                style = {"color": colour(number), "marker": MATPLOTLIB_MARKS[mark(number)], "capsize": 3}
                axes.errorbar(x, y, spread, label=marked(name, self.asked.contestants), **style)
                means += [s.mean for _, s in points]
                ends += [place + sign * width for place, width in zip(y, spread, strict=True) for sign in (-1, 1)]
        axes.set(xscale="log", xlabel="labels, % (log scale)", ylabel="test accuracy (logit scale)")
        axes.set_yscale("logit", nonpositive="clip")  # half the errors is the same way up wherever it begins
        shown = [100 * f for f in sorted(self.asked.fractions)]
        axes.set_xticks(shown, [f"{f:g}" for f in shown])
        beyond = max(means, default=0.0) > _MARKS[-1]
        axes.set_yticks(_MARKS, [*(f"{mark:g}" for mark in _MARKS[:-1]), f"{'≥ ' * beyond}{_MARKS[-1]:g}"])
        axes.minorticks_off()
        if means:
            below = max((mark for mark in _MARKS if mark < min(ends)), default=_LIMITS[0])
            axes.set_ylim(below, min((mark for mark in _MARKS if mark > max(ends)), default=_LIMITS[1]))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))

    def _accuracy(self, name: str, fraction: float) -> Spread | None:
        return self.table[name].get(f"accuracy@{fraction:g}")


def _png(canvas: Any) -> str:
    from matplotlib import pyplot

    buffer = io.BytesIO()
    canvas.savefig(buffer, dpi=110, format="png")
    pyplot.close(canvas)
    return base64.b64encode(buffer.getvalue()).decode()


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    return f"<div class='scroll' tabindex='0'><table><tr>{head}</tr>{body}</table></div>"


def _text(value: Spread | None, column: str) -> str:
    if value is None:
        return "–"
    if column in COST:
        return f"{value.mean:,.0f}" if value.mean >= 1 else f"{value.mean:.1g}"
    spread = "" if value.deviation is None else f" ± {value.deviation:.3f}"
    return f"{value.mean:.3f}{spread} ({len(value.values)})"


def _difference(found: Difference | None) -> str:
    if found is None:
        return "–"
    if found.p is None:
        told = "too few seeds" if found.seeds < FEWEST else "the same in every seed"
    else:
        told = f"p {found.p:.3f}" if found.p >= 0.0005 else "p < 0.001"
    return f"{found.mean:+.3f} ({told})"
