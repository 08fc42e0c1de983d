"""The report of a run or a sweep: reads, draws, writes.

Axes: N rows looked at.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import ClusterConfig, TrackingConfig, TrainConfig
from pipeline.errors import must
from pipeline.prepared.labels import kept_labels
from pipeline.report.collect import ROWS, collect
from pipeline.report.data import MapData
from pipeline.report.figures import all_figures, save
from pipeline.report.page import Page, escaped, table, write_page
from pipeline.report.sweep_data import SweepData, is_sweep
from pipeline.report.sweeps import fractions_figure, sweep_page
from pipeline.report.tables import write_tables
from pipeline.report.views import add_embeddings, add_growth, add_map, add_nodes, add_planes, add_scores
from pipeline.section import Section
from pipeline.tracking.journal import Journal
from pipeline.tracking.results import run_directory

METHODS = ("pca", "tsne", "umap")
_COUNTED = 1_000_000  # training rows; of more the labels are not drawn again to be counted
_TILES = {
    "accuracy": ("accuracy", "{:.1%}"),
    "balanced_accuracy": ("balanced accuracy", "{:.1%}"),
    "clustering_accuracy": ("clustering accuracy", "{:.1%}"),
    "grouped_accuracy": ("accuracy of groups", "{:.1%}"),
    "nmi": ("NMI", "{:.3f}"),
    "purity": ("purity", "{:.1%}"),
    "quantization_error": ("quantization error", "{:.4g}"),
    "topographic_error": ("topographic error", "{:.4g}"),
}
_OPTIONS = {
    "data.path": "--data",
    "train.model": "--model",
    "train.labelled_fraction": "--labelled-fraction",
    "train.seed": "--seed",
    "cluster.workers": "--workers",
    "train.reduction": "--reduction",
}
_SECTIONS: dict[str, type[Section]] = {"train": TrainConfig, "cluster": ClusterConfig, "tracking": TrackingConfig}


def report_of(
    run: str | Path,
    out: str | Path,
    *,
    data: str | None = None,
    rows: int = ROWS,
    figures: str | Path | None = None,
    uri: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes the report of a run, with its nodes as tables beside the page, or of a sweep.

    Args:
        run: directory of a run or of a sweep, or the id of one in MLflow.
        out: the HTML file.
        data: the prepared data set, where it is not any more where the run found it.
        rows: at most so many rows of a split are looked at; 0 = all.
        figures: also a directory for the figures, as PNG and SVG.
        uri: MLflow store of an id; None = MLflow's own choice.
        say: told in one line that the samples are not to be had.

    Returns:
        run, out, bytes, nodes and rows (None for sweeps), tables and figures (their files).

    Raises:
        UserError: there is no such run, the data are others, or the file cannot be written.
    """
    run, out = str(run), Path(out)
    if rows < 0:
        raise must("--rows", "an integer >= 0 (0: all)", rows)
    if out.is_dir():
        raise must("--out", "a file", str(out))
    directory, tables = run_directory(run, uri), list[Path]()
    if is_sweep(directory):
        sweep = SweepData(directory)
        made = sweep_page(sweep), {f"fractions-{name}": fractions_figure(sweep, name) for name in sweep.tables}
        about: dict[str, Any] = {"nodes": None, "rows": None}
    else:
        found = collect(directory, rows, data=data)
        if found.train is None:
            say(_about(found))
        tables = write_tables(found, out)
        made = run_page(found, tables=tables), all_figures(found) if figures else {}
        about = {"nodes": found.num_nodes, "rows": len(found.train.rows) if found.train else 0}
    size = write_page(made[0], out)
    files = save(made[1], Path(figures)) if figures else []
    made_files = {"tables": [str(file) for file in tables], "figures": [str(file) for file in files]}
    return {"run": run, "out": str(out), "bytes": size, **about, **made_files}


def run_page(data: MapData, methods: tuple[str, ...] = METHODS, tables: Sequence[Path] = ()) -> Page:
    """The page of a run; `tables` are files beside it that it links."""
    settings, summary = data.record.get("settings", {}), data.record.get("summary") or {}
    model = str(settings.get("train.model") or data.about.get("model") or data.config.variant)
    source = Path(str(settings.get("data.path", "unknown data"))).name
    page = Page(title=f"{model} on {source}", about=_about(data), footer="Made with somgrad; charts by plotly.js.")
    page.tiles = [("nodes", f"{data.num_nodes:,}")]
    for key, (name, text) in _TILES.items():
        if isinstance(summary.get(key), int | float):
            page.tiles.append((name, text.format(summary[key])))
    if "split" in summary:
        page.tiles.append(("scored on", f"{summary['split']} split"))
    rows, labelled = summary.get("scored_rows"), summary.get("scored_labelled_rows")
    if labelled is not None and labelled != rows:
        page.tiles.append(("of them with a class", f"{labelled:,} of {rows:,} rows"))
    if "labelled_fraction" in summary and data.num_classes:
        reads = data.predictor.state.num_classes > 0
        page.tiles.append(("labels read", labels_read(data) if reads else "none"))
    if "epochs" in summary:
        page.tiles.append(("epochs", str(summary["epochs"])))
    if "seconds" in summary:
        page.tiles.append(("training", f"{summary['seconds']:,.1f} s"))
    add_map(page, data)
    add_planes(page, data)
    add_growth(page, data)
    add_embeddings(page, data, methods)
    add_scores(page, data)
    add_nodes(page, data, [file.name for file in tables])
    page.tabs.append(("run", "Run", run_panel(data.directory, data.record, data.config.to_dict()), False))
    return page


def labels_read(data: MapData) -> str:
    """The share of the labels that the run read, and of how many rows, where counting them takes no time."""
    settings, fraction = data.record.get("settings", {}), float(data.record["summary"]["labelled_fraction"])
    share = f"{100 * fraction:.3g}%"
    if data.dataset is None or data.dataset.num_samples("train") > _COUNTED:
        return share
    seed, withheld = int(settings.get("train.seed", 0)), float(settings.get("train.validation_fraction", 0.0))
    kept, _ = kept_labels(data.dataset.labels("train").numpy(), fraction, withheld, seed)
    return f"{share} ({int((kept >= 0).sum()):,} rows)"


def _about(data: MapData) -> str:
    if data.train is None:
        why = "The data set is not where the run found it, or has changed"
        return f"{why}: what needs samples is left out (--data names its place)."
    whole = f"{data.train.total:,} training rows"
    if data.train.total > len(data.train.rows):
        whole = f"{len(data.train.rows):,} of {whole}, drawn at random"
    unit = " · ".join(str(part) for part in (data.predictor.spec.kind, "×".join(map(str, data.predictor.spec.shape))))
    noise = int((data.train.nodes < 0).sum())
    return f"{whole} ({unit})" + (f", {noise:,} of them outside every node" if noise else "") + "."


def run_panel(directory: Path, record: Mapping[str, Any], resolved: Mapping[str, Any]) -> str:
    """Parameters of a run, and how to do it again."""
    settings = dict(record.get("settings", {}))
    lines = Journal(directory).lines()
    tags: dict[str, Any] = next((line.get("tags", {}) for line in lines if line.get("kind") == "start"), {})
    summary = {k: v for k, v in (record.get("summary") or {}).items() if v is not None}
    identity = {k: record[k] for k in ("manifest_hash", "config_hash") if k in record}
    everything = {f"map.{k}": v for k, v in resolved.items()} | settings
    parts = ["<h2>Do it again</h2>", f"<pre>{escaped(command_of(settings))}</pre>"]
    if summary.get("map_digest") and summary.get("reduction") != "fast":
        parts.append(
            "<p>With the same data this gives the same map, for any number of workers: map_digest "
            f"<code>{escaped(summary['map_digest'])}</code></p>"
        )
    parts += ["<h2>What came out</h2>", table(["", ""], [[k, _text(v)] for k, v in summary.items()])]
    rows = [[key, _text(value)] for key, value in sorted(everything.items()) if value is not None]
    parts += ["<h2>Parameters</h2>", table(["key", "value"], rows)]
    made = [[key, value] for key, value in (identity | tags).items()]
    if made:
        parts += ["<h2>Made with</h2>", table(["", ""], made)]
    return "".join(parts)


def command_of(settings: Mapping[str, Any]) -> str:
    """The command line that trains with these settings: what is not a default."""
    words = ["python", "-m", "jobs.train"]
    sections = ((section, kind.model_fields) for section, kind in _SECTIONS.items())
    defaults = {f"{section}.{name}": field.default for section, fields in sections for name, field in fields.items()}
    rest = []
    for key, value in settings.items():
        if key in _OPTIONS and not (key == "train.reduction" and value == "exact"):
            short = isinstance(value, float) and float(f"{value:g}") == value
            words += [_OPTIONS[key], f"{value:g}" if short else str(value)]
        elif not key.startswith("tracking.") and (key not in defaults or defaults[key] != value):
            rest += ["--set", f"{key}={_word(value)}"]
    lines = [shlex.join(words), *(shlex.join(rest[i : i + 2]) for i in range(0, len(rest), 2)), "--out NEW_DIRECTORY"]
    return " \\\n  ".join(lines)


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
