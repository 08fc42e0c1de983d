"""`jobs.benchmark fractions`: accuracy by labelled fraction, deep map beside the labels alone; table and figure."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job, numbers
from jobs._shown import command_line, say


def fractions(
    data: Annotated[Path, typer.Option(help="Directory of a prepared data set.")],
    config: Annotated[Path, typer.Option(help="A recipe (mnist) or a file of settings.")],
    out: Annotated[Path, typer.Option(help="Where finished cells are kept; the same folder resumes.")],
    fractions: Annotated[str, typer.Option(help="Labelled fractions, by comma.")] = "0.01,0.05,0.1,0.25,0.5,0.75,1",
    seeds: Annotated[str, typer.Option(help="Seeds, by comma.")] = "0,1,2",
    methods: Annotated[
        str, typer.Option(help="deep, supervised, supervised-strong: some, by comma.")
    ] = "deep,supervised",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting.")] = None,
    sweep: Annotated[Path | None, typer.Option(help="A sweep of the recipe: its trials are the deep runs.")] = None,
    workers: Annotated[int, typer.Option(help="Ray actors of the deep runs; 0 = in this process.")] = 0,
    time_budget: Annotated[float | None, typer.Option(help="Start nothing new after so many minutes.")] = None,
) -> dict[str, Any]:
    """Accuracy by labelled fraction of the deep map and of the same encoder trained on the labels alone."""
    from pipeline.benchmarks import deep_curve
    from pipeline.config import parse_setting, read_file

    flat = read_file(config) | dict(parse_setting(text) for text in settings or [])
    flat |= {"data.path": str(data), "train.model": "deep", "cluster.workers": workers}
    flat.setdefault("tracking.uri", "none")
    curve = deep_curve.Curve(
        settings=flat,
        fractions=numbers("--fractions", fractions, float),
        seeds=numbers("--seeds", seeds, int),
        methods=methods.split(","),
        out=out,
        command=command_line("benchmark"),
        sweep=sweep,
    )
    cells = deep_curve.compute(curve, time_budget, say)
    name = config.stem
    table = out / f"{name}.md"
    table.write_text(deep_curve.markdown(curve, cells, name), encoding="utf-8")
    picture = deep_curve.figure(curve, cells, name, out / f"{name}.png")
    print(table.read_text(encoding="utf-8"))
    return {"cells": cells, "table": table, "figure": picture}


app = job(example="python -m jobs.benchmark fractions --data data/mnist --config mnist --out runs/mnist")(fractions)
