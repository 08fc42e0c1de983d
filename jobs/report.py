"""The map report: one HTML page, and figures for papers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job, run
from jobs._shown import say


def report(
    model: Annotated[str, typer.Option("--run", help="Directory of a run or of a sweep, or its id in MLflow.")],
    out: Annotated[Path, typer.Option(help="The HTML file.")],
    data: Annotated[
        str | None, typer.Option(help="The prepared data set. [default: where the run found it, if it is still there]")
    ] = None,
    rows: Annotated[int, typer.Option(help="Most rows of a split that the map looks at; 0 = all.")] = 60_000,
    figures: Annotated[
        Path | None, typer.Option(help="Also write every view as PNG and SVG into this directory.")
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store of an id. [default: MLflow's own]")] = None,
) -> dict[str, Any]:
    """Write a page to look at a run: the map, what is in its nodes, how it grew, how good it is, how to do it again.

    The page holds everything it needs: it opens from disk, without a network. Beside PAGE.html are the nodes as tables:
    PAGE-nodes.csv and, of tables and deep maps, PAGE-relevances.csv. Of a sweep: accuracy by labelled fraction with
    spread and baselines.
    """
    from pipeline.report.make import report_of

    made = report_of(model, out, data=data, rows=rows, figures=figures, uri=tracking_uri, say=say)
    print(f"{made['out']} ({made['bytes'] / 1e6:.1f} MB)")
    for table in made["tables"]:
        print(table)
    if figures:
        print(f"{figures} ({len(made['figures'])} figures)")
    return made


app = job(example="python -m jobs.report --run runs/first --out report.html")(report)

if __name__ == "__main__":
    run(app)
