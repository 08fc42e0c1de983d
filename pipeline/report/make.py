"""The report of a run: collects, draws, writes.

Axes: N rows looked at.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import ClusterConfig, TrackingConfig, TrainConfig
from pipeline.journal import Journal
from pipeline.report.collect import EMBEDDED, ROWS, collect
from pipeline.report.data import MapData
from pipeline.report.page import Page, escaped, table, write_page
from pipeline.report.views import add_embeddings, add_growth, add_map, add_planes, add_scores

METHODS = ("pca", "tsne", "umap")
_TILES = {
    "accuracy": ("accuracy", "{:.1%}"),
    "clustering_accuracy": ("clustering accuracy", "{:.1%}"),
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
_SECTIONS = {"train": TrainConfig, "cluster": ClusterConfig, "tracking": TrackingConfig}


def make_report(
    directory: Path,
    out: Path,
    *,
    rows: int = ROWS,
    embedded: int = EMBEDDED,
    methods: tuple[str, ...] = METHODS,
    data: str | None = None,
) -> dict[str, Any]:
    """Writes the report of a run.

    Args:
        directory: of the run.
        out: the HTML file.
        rows: at most so many rows of a split are looked at; 0 = all.
        embedded: samples of the embedding.
        methods: of the embedding, of "pca", "tsne" and "umap".
        data: the prepared data set, where it is not any more where the run found it.

    Returns:
        out, bytes, nodes, rows.

    Raises:
        UserError: there is no map, the data are others, or the file cannot be written.
    """
    found = collect(directory, rows, embedded, data)
    page = run_page(found, methods)
    size = write_page(page, out)
    looked = len(found.train.rows) if found.train else 0
    return {"out": str(out), "bytes": size, "nodes": found.num_nodes, "rows": looked}


def run_page(data: MapData, methods: tuple[str, ...] = METHODS) -> Page:
    """The page of a run."""
    settings, summary = data.record.get("settings", {}), data.record.get("summary") or {}
    model = str(settings.get("train.model") or data.about.get("model") or data.config.variant)
    source = Path(str(settings.get("data.path", "unknown data"))).name
    page = Page(title=f"{model} on {source}", about=_about(data), footer="Made with somgrad; charts by plotly.js.")
    page.tiles = [("nodes", f"{data.num_nodes:,}")]
    for key, (name, text) in _TILES.items():
        if isinstance(summary.get(key), int | float):
            page.tiles.append((name, text.format(summary[key])))
    if "labelled_fraction" in summary and data.num_classes:
        reads = data.predictor.state.num_classes > 0
        page.tiles.append(("labels read", f"{summary['labelled_fraction']:.3g}" if reads else "none"))
    if "epochs" in summary:
        page.tiles.append(("epochs", str(summary["epochs"])))
    if "seconds" in summary:
        page.tiles.append(("training", f"{summary['seconds']:,.1f} s"))
    add_map(page, data)
    add_planes(page, data)
    add_growth(page, data)
    add_embeddings(page, data, methods)
    add_scores(page, data)
    page.tabs.append(("run", "Run", run_panel(data.directory, data.record, data.config.to_dict()), False))
    return page


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
            words += [_OPTIONS[key], f"{value:g}" if isinstance(value, float) else str(value)]
        elif not key.startswith("tracking.") and (key not in defaults or defaults[key] != value):
            rest += ["--set", f"{key}={_word(value)}"]
    lines = [shlex.join(words), *(shlex.join(rest[i : i + 2]) for i in range(0, len(rest), 2)), "--out NEW_DIRECTORY"]
    return " \\\n  ".join(lines)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
