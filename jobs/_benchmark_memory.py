"""`jobs.benchmark memory`: peak memory of Ray workers on a table larger than they may hold."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def memory(
    rows: Annotated[int | None, typer.Option(min=1, help="Of the table. [default: 10 million]")] = None,
    gigabytes: Annotated[float | None, typer.Option(min=0.01, help="Of the table, instead of --rows.")] = None,
    features: Annotated[int, typer.Option(min=1, help="float32 numbers of a row.")] = 32,
    workers: Annotated[int, typer.Option(min=1, help="Ray workers.")] = 2,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per round.")] = 262_144,
    scratch: Annotated[Path | None, typer.Option(help="Where the table lies meanwhile, twice.")] = None,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/elastic"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/elastic.md.")
    ] = None,
) -> dict[str, Any]:
    """Peak memory of each worker over one epoch; the table is made by the benchmark and removed after."""
    from pipeline.benchmarks import memory_use, shared

    count = int(gigabytes * 1e9 / 4 / features) if gigabytes else rows or 10_000_000
    result = memory_use.measure(count, features, workers, batch_size, scratch, say)
    text = memory_use.markdown(result, command_line("benchmark"))
    print(text)
    return shared.publish("memory", result, text, out, table_out)


app = job(example="python -m jobs.benchmark memory --rows 10000000")(memory)
