"""`jobs.benchmark overhead`: help texts, and a Ray run before its first round."""

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def overhead(
    workers: Annotated[int, typer.Option(min=0, help="Of the run; 0 = in its own process.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Of each command.")] = 3,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/speed"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/speed.md.")
    ] = None,
) -> dict[str, Any]:
    """Seconds until each job shows its help, and until a run on Ray workers begins its first round."""
    from jobs.cli import JOBS
    from pipeline.benchmarks import overhead as waiting
    from pipeline.benchmarks import shared

    present = [f"jobs.{name}" for name in JOBS if importlib.util.find_spec(f"jobs.{name}")]
    result = waiting.measure(present, workers, repeats, say)
    text = waiting.markdown(result, command_line("benchmark"))
    print(text)
    return shared.publish("overhead", result, text, out, table_out)


app = job(example="python -m jobs.benchmark overhead --repeats 3")(overhead)
