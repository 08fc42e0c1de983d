"""`jobs.benchmark kills`: a sweep that is killed at random moments and resumed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def kills(
    kills: Annotated[int, typer.Option(min=1, help="How often.")] = 10,
    samples: Annotated[int, typer.Option(min=1, help="Sets of hyper-parameters, at two fractions each.")] = 40,
    epochs: Annotated[int, typer.Option(min=1, help="Of each trial.")] = 80,
    seed: Annotated[int, typer.Option(help="Of the moments and signals.")] = 0,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster. [default: one of its own]")] = None,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/sweeps"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/sweeps.md.")
    ] = None,
) -> dict[str, Any]:
    """Whether a sweep that is killed and resumed ends as an undisturbed one: same trials, same scores, none twice."""
    from pipeline.benchmarks import kills as killing
    from pipeline.benchmarks import shared

    result = killing.measure(kills, samples, epochs, seed, address, say)
    text = killing.markdown(result, command_line("benchmark"))
    print(text)
    return shared.publish("kills", result, text, out, table_out)


app = job(example="python -m jobs.benchmark kills --kills 10")(kills)
