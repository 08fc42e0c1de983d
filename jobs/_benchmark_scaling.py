"""`jobs.benchmark scaling`: what a round costs on several workers, and a model of many."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def scaling(
    workers: Annotated[int, typer.Option(min=2, help="The most Ray workers.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each measurement.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Of weak scaling.")] = 5,
    tile_size: Annotated[int, typer.Option(min=1, help="Rows of a tile; a table has 64 of them.")] = 1024,
    scratch: Annotated[Path | None, typer.Option(help="Where tables lie meanwhile; 500 MB.")] = None,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/elastic"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/elastic.md.")
    ] = None,
) -> dict[str, Any]:
    """Rounds per second, bytes, and the share of the exact reduction, by K, D, C and workers."""
    from pipeline.benchmarks import scaling as scale
    from pipeline.benchmarks import scaling_model, shared

    result = scale.measure(workers, rounds, repeats, tile_size, scratch, say)
    text = scaling_model.markdown(result, command_line("benchmark"))
    print(text)
    return shared.publish("scaling", result, text, out, table_out)


app = job(example="python -m jobs.benchmark scaling --rounds 10")(scaling)
