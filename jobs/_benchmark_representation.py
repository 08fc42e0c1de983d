"""`jobs.benchmark representation`: what the features of a deep run are worth."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def representation(
    model: Annotated[Path, typer.Option("--run", help="Directory of a deep run.")],
    rows: Annotated[int, typer.Option(help="At most so many rows of each split.")] = 5000,
    supervised: Annotated[bool, typer.Option(help="Also train the encoder on the labels alone.")] = True,
) -> dict[str, Any]:
    """Probes, clusters and faithfulness of the features, beside raw samples and the encoder of the labels alone."""
    from pipeline.benchmarks.representation import as_plain, markdown, study

    results = study(model, rows, supervised, say)
    print(markdown(results, model.name, command_line("benchmark")))
    return as_plain(results)


app = job(example="python -m jobs.benchmark representation --run runs/mnist-1")(representation)
