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
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store. [default: MLflow's own]")] = None,
) -> dict[str, Any]:
    """Pull results from MLflow: mean and standard deviation of a metric by group, or the best run."""
    if format not in FORMATS:
        raise must("--format", "one of table, csv, json", format)
    from pipeline.results import best_run, grouped, tracked_runs

    runs = tracked_runs(experiment, tracking_uri)
    if best:
        row, chooser = best_run(runs, metric)
        row = {"chosen_by": chooser, **row}
        listed = [{"name": key, "value": value} for key, value in row.items() if value is not None]
        _show(listed if format == "table" else [row], ["name", "value"] if format == "table" else list(row), format)
        return row
    rows = grouped(runs, metric, [name.strip() for name in group_by.split(",")])
    _show(rows, list(rows[0]), format)
    return {"metric": metric, "rows": rows}


def _show(rows: list[dict[str, Any]], columns: list[str], format: str) -> None:
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
        from rich.console import Console
        from rich.table import Table

        table = Table(*columns)
        for row in rows:
            table.add_row(*(_text(row.get(name)) for name in columns))
        Console().print(table)


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


app = job(example="python -m jobs.results --experiment demo --group-by labelled_fraction")(results)

if __name__ == "__main__":
    run(app)
