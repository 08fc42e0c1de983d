"""`jobs.benchmark uci`: the published results of the classical family, every cell, resumable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from jobs._run import job
from jobs._shown import command_line, say

ALL_MODELS = (
    "altsssom,sssom,sssom-auto,label-propagation,label-spreading,"
    "majority,nearest-neighbour,logistic-regression,larfdssom"
)


def uci(
    out: Annotated[Path, typer.Option(help="Where finished work is kept; the same folder resumes.")] = Path("runs/uci"),
    data: Annotated[Path | None, typer.Option(help="Folder of the tables; default $SOMGRAD_DATA/uci.")] = None,
    models: Annotated[str, typer.Option(help="Methods, by comma.")] = ALL_MODELS,
    tables: Annotated[str, typer.Option(help="Tables, by comma. [default: all that are present]")] = "",
    fractions: Annotated[str, typer.Option(help="Per cent of labelled rows, by comma.")] = "1,5,10,25,50,75,100",
    samples: Annotated[int, typer.Option(help="P: parameter sets for oracle, lofo (H2) and clustering.")] = 100,
    inner_samples: Annotated[int, typer.Option(help="P of the honest protocol (H1).")] = 20,
    protocols: Annotated[str, typer.Option(help="Protocols, by comma.")] = "defaults,oracle,lofo,honest,clustering",
    max_epochs: Annotated[int, typer.Option(help="Where the ranges of epochs and pruning epochs are cut.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of draws, maps and inner splits.")] = 0,
    processes: Annotated[int | None, typer.Option(help="Worker processes; 0 = this one. [default: cores]")] = None,
    time_budget: Annotated[float | None, typer.Option(help="Start nothing new after so many minutes.")] = None,
    screening: Annotated[bool, typer.Option(help="Screen sets by compiled loops, train winners again.")] = True,
    search: Annotated[bool, typer.Option(help="Look at further sets; without it, judge what is there.")] = True,
    confirm: Annotated[bool, typer.Option(help="Train the sets that screening chose again by somcore.")] = True,
    table_out: Annotated[Path | None, typer.Option(help="Markdown file to write; default OUT/uci.md.")] = None,
) -> dict[str, object]:
    """Published results on the UCI tables: oracle, leave-one-fold-out, honest selection, clustering, baselines.

    Finished work is kept in --out and never done twice; a killed run loses nothing that was finished.
    """
    from pipeline.benchmarks.uci.command import Options, benchmark

    options = Options(
        data=data,
        out=out,
        models=models,
        tables=tables,
        fractions=fractions,
        samples=samples,
        inner_samples=inner_samples,
        protocols=protocols,
        max_epochs=max_epochs,
        seed=seed,
        screening=screening,
        search=search,
        confirm=confirm,
        command=command_line("benchmark"),
    )
    workers = (os.cpu_count() or 1) if processes is None else processes
    result = benchmark(options, workers, time_budget, say)
    target = table_out or out / "uci.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(result.pop("markdown"), encoding="utf-8")
    print(f"Table: {target}. Missing: {result['missing']} pieces of work. Missed bars: {result['missed']}.")
    return {**result, "table": target}


app = job(example="python -m jobs.benchmark uci --samples 100 --time-budget 60")(uci)
