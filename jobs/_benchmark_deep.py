"""`jobs.benchmark deep`: what the map costs a network, what exactness costs, what a second worker brings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job


def deep(
    data: Annotated[Path, typer.Option(help="Directory of a prepared data set.")],
    config: Annotated[Path, typer.Option(help="A recipe (mnist) or a file of settings.")] = Path("mnist"),
    turns: Annotated[int, typer.Option(help="Measured rounds; 40 hold one refresh.")] = 40,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting.")] = None,
    workers: Annotated[bool, typer.Option(help="Also whole runs on 1 and 2 Ray workers.")] = False,
    out: Annotated[Path, typer.Option(help="Where the runs on workers are kept.")] = Path("runs/benchmark-deep"),
) -> dict[str, Any]:
    """Deep training beside plain cross-entropy with the same encoder; exact beside fast reduction; two workers."""
    from pipeline.benchmarks import deep_cost
    from pipeline.config import parse_setting, read_file

    flat = read_file(config) | dict(parse_setting(text) for text in settings or [])
    flat |= {"data.path": str(data), "tracking.uri": "none"}
    deep_cost.one_thread()
    result: dict[str, Any] = deep_cost.measure(flat, turns)
    if workers:
        result |= deep_cost.workers(flat, out)
    print("| | |\n|---|---|")
    for name, value in result.items():
        print(f"| {name} | {value:,.3f} |")
    return result


app = job(example="python -m jobs.benchmark deep --data data/mnist --config mnist")(deep)
