"""Tracked results as a table, CSV or JSON."""

from typing import Annotated, Any

import typer

from jobs._run import job, run
from pipeline.errors import must

FORMATS = ("table", "csv", "json")


def results(
    experiment: Annotated[str, typer.Option(help="Name of the MLflow experiment.")] = "somgrad",
    metric: Annotated[str, typer.Option(help="What to compare, e.g. accuracy, nmi, quantization_error.")] = "accuracy",
    group_by: Annotated[
        str, typer.Option(help="Columns, comma-separated; mean and spread over the runs of each group.")
    ] = "model,labelled_fraction",
    format: Annotated[str, typer.Option(help="table, csv or json.")] = "table",
    best: Annotated[bool, typer.Option("--best", help="The best run, chosen on validation rows if any.")] = False,
    sweep: Annotated[str | None, typer.Option(help="Only one sweep: its folder, name or run id.")] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two sweeps, each by folder, name or run id: paired tests of their choices."),
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store. [default: MLflow's own]")] = None,
) -> dict[str, Any]:
    """Pull results from MLflow: mean ± standard deviation of a metric by group, the best run, or two sweeps compared.

    Works on a local SQLite file and on a server alike.
    """
    if format not in FORMATS:
        raise must("--format", "one of table, csv, json", format)
    if compare:
        from pipeline.sweep_comparison import compare_sweeps

        rows = compare_sweeps(compare, metric, experiment, tracking_uri)
        _show(rows, format, f"{metric}: {compare[0]} (first) and {compare[1]} (second), paired")
        return {"metric": metric, "first": compare[0], "second": compare[1], "rows": rows}
    columns = [name.strip() for name in group_by.split(",")]
    if len(set(columns)) < len(columns):
        raise must("--group-by", "columns, each of them once", group_by)
    from pipeline.results import best_run, grouped, model_uri, tracked_runs

    runs = tracked_runs(experiment, tracking_uri, sweep)
    if best:
        row, chooser = best_run(runs, metric)
        row = {"chosen_by": chooser, "model_uri": model_uri(row["run_id"], tracking_uri), **row}
        listed = [{"name": key, "value": value} for key, value in row.items() if value is not None]
        _show(listed if format == "table" else [row], format)
        return row
    rows = grouped(runs, metric, columns)
    shown = [_spread(row, metric) for row in rows] if format == "table" else rows
    _show(shown, format, f"{experiment}: {metric}, mean ± sd")
    return {"metric": metric, "rows": rows}


def _spread(row: dict[str, Any], metric: str) -> dict[str, Any]:
    """Mean and deviation in one column, for people."""
    kept = {key: value for key, value in row.items() if key not in ("mean", "sd")}
    spread = "" if row["sd"] is None else f" ± {row['sd']:.4f}"
    runs, least, most = kept.pop("runs"), kept.pop("least"), kept.pop("most")
    return {**kept, metric: f"{row['mean']:.4f}{spread}", "runs": runs, "least": least, "most": most}


def _show(rows: list[dict[str, Any]], format: str, title: str | None = None) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if format == "json":
        import json

        print(json.dumps(rows, default=str, indent=1))
    elif format == "csv":
        import csv
        import sys

        writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    else:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        for name in columns:
            numbers = all(isinstance(row.get(name), int | float | None) for row in rows)
            table.add_column(name, justify="right" if numbers else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(_text(row.get(name)) for name in columns))
        console = Console()
        console.width = max(console.width, 20 * len(columns))  # a wide table is better than cut numbers
        console.print(table)


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


app = job(example="python -m jobs.results --experiment demo --group-by labelled_fraction")(results)

if __name__ == "__main__":
    run(app)
