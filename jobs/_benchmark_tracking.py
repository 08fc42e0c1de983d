"""`jobs.benchmark tracking`: what a real MLflow server costs a training, and a sweep of many trials."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def tracking(
    epochs: Annotated[int, typer.Option(min=1, help="Of the training; about ten seconds.")] = 600,
    repeats: Annotated[int, typer.Option(min=1, help="Of each.")] = 3,
    trials: Annotated[int, typer.Option(min=1, help="Of each sweep that is timed.")] = 8,
    children: Annotated[int, typer.Option(min=1, help="Trials of a sweep that is only sent.")] = 1000,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/sweeps"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/sweeps.md.")
    ] = None,
) -> dict[str, Any]:
    """Seconds of a training with and without tracking; of a sweep likewise; seconds to send and find many trials."""
    from pipeline.benchmarks import shared, tracking_cost

    result = tracking_cost.measure(epochs, repeats, trials, children, say)
    text = tracking_cost.markdown(result, command_line("benchmark"))
    print(text)
    return shared.publish("tracking", result, text, out, table_out)


app = job(example="python -m jobs.benchmark tracking --repeats 3")(tracking)
