"""Tracked results as a table, CSV or JSON."""

from typing import Annotated, Any

import typer

from jobs._run import job, run
from jobs._shown import note, show, tell
from pipeline.errors import must

FORMATS = ("table", "csv", "json")
GROUPS = "data,model,labelled_fraction"


def results(
    experiment: Annotated[str, typer.Option(help="Name of the MLflow experiment.")] = "somgrad",
    metric: Annotated[str, typer.Option(help="What to compare, e.g. accuracy, nmi, quantization_error.")] = "accuracy",
    group_by: Annotated[
        str, typer.Option(help="Columns, comma-separated, e.g. data,seed; mean and spread over the runs of each group.")
    ] = GROUPS,
    format: Annotated[str, typer.Option(help="table, csv or json.")] = "table",
    best: Annotated[
        bool, typer.Option("--best", help="The best run on one data set, chosen on validation rows if any.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="Only runs on this data set: its name or path.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Only one sweep: its folder, name or run id.")] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two sweeps, each by folder, name or run id: paired tests of their choices."),
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store. [default: MLflow's own]")] = None,
) -> dict[str, Any]:
    """Pull results from MLflow: mean ± standard deviation of a metric by group, the best run, or two sweeps compared.

    Works on a local SQLite file and on a server alike. A line is of one data set unless --group-by leaves data out.
    """
    if format not in FORMATS:
        raise must("--format", "one of table, csv, json", format)
    if compare:
        given = {"--data": data, "--sweep": sweep, "--best": best or None}
        given["--group-by"] = None if group_by == GROUPS else group_by
        for option, value in given.items():
            if value is not None:
                raise must(option, "left out with --compare, which has a row for each data set and fraction", value)
        from pipeline.sweeps.comparison import compare_sweeps

        rows = compare_sweeps(compare, metric, experiment, tracking_uri, note)
        show(rows, format, f"{metric}: {compare[0]} (first) and {compare[1]} (second), paired")
        return {"metric": metric, "first": compare[0], "second": compare[1], "rows": rows}
    columns = [name.strip() for name in group_by.split(",")]
    if len(set(columns)) < len(columns):
        raise must("--group-by", "columns, each of them once", group_by)
    from pipeline.tracking.result_rows import SCORES, about_best, best_run, grouped, of_data, without
    from pipeline.tracking.results import kept_of, tracked_runs

    runs = tracked_runs(experiment, tracking_uri, sweep)
    runs = runs if data is None else of_data(runs, data)
    if best:
        row, chooser = best_run(runs, metric)
        kept = kept_of(row["run_id"], tracking_uri)
        about = about_best(row, metric, chooser, kept, tracking_uri)
        row = {"chosen_by": chooser, "model_uri": kept["model_uri"], **row}
        tell(about) if format == "table" else show([row], format)
        note(without(runs, metric)[1])
        note(without(runs.dropna(subset=[metric]), chooser)[1])
        if chooser == metric and metric in SCORES:
            note(f"No run has validation_{metric}: chosen by {metric} itself, which then looks better than it is.")
        return row
    rows = grouped(runs, metric, columns)
    shown = [_spread(row, metric) for row in rows] if format == "table" else rows
    show(shown, format, f"{experiment}: {metric}, mean ± sd")
    lacking, sentence = without(runs, metric)
    note(sentence)
    return {"metric": metric, "rows": rows, "runs_without": lacking}


def _spread(row: dict[str, Any], metric: str) -> dict[str, Any]:
    """Mean and deviation in one column, for people."""
    kept = {key: value for key, value in row.items() if key not in ("mean", "sd")}
    spread = "" if row["sd"] is None else f" ± {row['sd']:.4f}"
    runs, least, most = kept.pop("runs"), kept.pop("least"), kept.pop("most")
    return {**kept, metric: f"{row['mean']:.4f}{spread}", "runs": runs, "least": least, "most": most}


app = job(example="python -m jobs.results --experiment demo --group-by labelled_fraction")(results)

if __name__ == "__main__":
    run(app)
