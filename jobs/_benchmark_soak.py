"""`jobs.benchmark soak`: randomly timed kills of workers and drivers, and the digest that must not notice."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def soak(
    models: Annotated[str, typer.Option(help="Models, separated by commas.")] = "sssom,deep",
    kills: Annotated[int, typer.Option(min=1, help="Kills per model that meet their target.")] = 20,
    per_run: Annotated[int, typer.Option(min=1, help="Kills that one run has to survive.")] = 5,
    workers: Annotated[int, typer.Option(min=1, help="Ray workers of each run.")] = 3,
    seed: Annotated[int, typer.Option(help="Of who is killed, and when.")] = 0,
    scratch: Annotated[Path | None, typer.Option(help="Where runs lie meanwhile.")] = None,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/elastic"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/elastic.md.")
    ] = None,
) -> dict[str, Any]:
    """Kill one worker, all workers or the driver of real runs, again and again, and compare how they end."""
    from pipeline.benchmarks import shared
    from pipeline.benchmarks import soak as kill

    command = command_line("benchmark")
    results = {}
    for model in models.split(","):  # each is kept when it is done
        result = kill.measure([model], kills, per_run, workers, seed, scratch, say)
        text = kill.markdown(result, command)
        print(text)
        results[model] = shared.publish(f"soak-{model}", result, text, out, table_out)
    return results


app = job(example="python -m jobs.benchmark soak --kills 20")(soak)
