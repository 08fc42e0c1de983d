"""Every model side by side on a data set: tables, figures, significance."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job, numbers, run
from jobs._shown import command_line, say

MODELS = "deep,sssom,kmeans,autoencoder-kmeans,dec,deepcluster,vqvae,supervised,fixmatch,label-spreading"


def compare(
    data: Annotated[
        list[str], typer.Option(help="Directory or URI of a prepared data set; may be given several times.")
    ],
    out: Annotated[Path, typer.Option(help="Where cells, tables and pages are kept; the same folder resumes.")],
    models: Annotated[
        str, typer.Option(help="By comma: models of jobs.train, deep-no-relevance, -no-push, -lattice, -kmeans.")
    ] = MODELS,
    fractions: Annotated[str, typer.Option(help="Labelled fractions, by comma.")] = "0.01,0.1,1",
    seeds: Annotated[str, typer.Option(help="Seeds, by comma; three at least for a test.")] = "0,1,2",
    config: Annotated[Path | None, typer.Option(help="Settings of all: a recipe or a file.")] = None,
    unlabelled_config: Annotated[
        Path | None, typer.Option(help="Settings of trainings without labels. [default: those of --config]")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of all models that read it.")
    ] = None,
    own: Annotated[
        list[str] | None, typer.Option(metavar="NAME:KEY=VALUE", help="A setting of one model, e.g. dec:map.epochs=20.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="At most so many rows for probes and label spreading.")] = 5000,
    reference: Annotated[str | None, typer.Option(help="Whom to test against. [default: the first model]")] = None,
    time_budget: Annotated[float | None, typer.Option(help="Start nothing new after so many minutes.")] = None,
    concurrent: Annotated[int, typer.Option(min=1, help="Cells at a time; seconds then compare roughly.")] = 1,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; none = record nothing. [default: MLflow's own]")
    ] = None,
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "comparison",
) -> dict[str, Any]:
    """Train and measure every model at every labelled fraction and seed, and tell them apart.

    One table per data set: clusters (ACC, NMI, ARI), linear probe, nearest neighbours, accuracy by labels, seconds,
    parameters, memory; mean and spread over seeds, paired tests, figures. Stop it at any time; it goes on where it was.
    """
    from pipeline.comparison.run import Wish, compare, name_of
    from pipeline.config import parse_setting, read_file

    over = dict(parse_setting(text) for text in settings or [])
    over |= {"tracking.uri": tracking_uri} if tracking_uri else {}
    over["tracking.experiment"] = experiment
    flat = (read_file(config) if config else {}) | over
    wish = Wish(
        models=models.split(","),
        unlabelled=read_file(unlabelled_config) | over if unlabelled_config else None,
        own=own or [],
        fractions=numbers("--fractions", fractions, float),
        seeds=numbers("--seeds", seeds, int),
        rows=rows,
        reference=reference,
        minutes=time_budget,
        concurrent=concurrent,
        command=command_line("compare"),
    )
    results = []
    for path in data:
        place = out / name_of(path) if len(data) > 1 else out
        found = compare(path, place, flat, wish, say)
        print(found["markdown"].read_text(encoding="utf-8"))
        say(f"Page: {found['page']}")
        results.append(found)
    return {"comparisons": results}


app = job(
    example="python -m jobs.compare --data data/digits --config digits --out runs/compare --models deep,kmeans,dec"
)(compare)

if __name__ == "__main__":
    run(app)
