"""`jobs.benchmark batch`: the batch map beside other libraries, in one run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def batch(
    data: Annotated[Path | None, typer.Option(help="Folder of FashionMNIST/; default $SOMGRAD_DATA.")] = None,
    peers: Annotated[str, typer.Option(help="By comma.")] = "fastersom,xpysom,minisom,kmeans,floor",
    rows: Annotated[int | None, typer.Option(help="Use the first so many samples; default: all 60,000.")] = None,
    side: Annotated[int, typer.Option(min=1, help="Rows and columns of the map.")] = 20,
    epochs: Annotated[int, typer.Option(min=1, help="Passes.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of the fast ones.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each library.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the first prototypes, the same for all.")] = 0,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/speed"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/speed.md.")
    ] = None,
) -> dict[str, Any]:
    """Seconds and errors of the batch map beside fastersom, xpysom, minisom and k-means: same start and schedule."""
    from pipeline.benchmarks import batch_speed, shared

    names = batch_speed.chosen(peers)
    samples = batch_speed.pixels(data or shared.default_data(), rows)
    task = batch_speed.Task.of(samples, side, epochs, seed)
    result = batch_speed.measure(task, names, repeats, threads, say)
    text = batch_speed.markdown(result, command_line("benchmark"))
    print(text)
    return shared.publish("batch", result, text, out, table_out)


app = job(example="python -m jobs.benchmark batch --repeats 3")(batch)
