"""The main job on a data set that ships in a package: sssom at several label fractions on two Ray workers."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job, numbers, run
from jobs._shown import say
from pipeline.errors import must

COLUMNS = {
    "labels": "{labelled_fraction:.0%}",
    "labelled rows": "{labelled_rows}",
    "accuracy": "{accuracy:.3f}",
    "majority class": "{majority:.3f}",
    "label spreading": "{label_spreading:.3f}",
    "nodes": "{nodes}",
    "seconds": "{seconds:.1f}",
    "map_digest": "{map_digest:.12}",
}


def demo(
    out: Annotated[Path, typer.Option(help="Directory of the data set, the runs and their record.")] = Path("demo"),
    model: Annotated[str, typer.Option(help="sssom.")] = "sssom",
    seed: Annotated[int, typer.Option(help="Of labels and order.")] = 0,
    workers: Annotated[int, typer.Option(help="Ray actors; 0 = in this process.")] = 2,
    fractions: Annotated[str, typer.Option(help="Labelled fractions, by comma.")] = "0.01,0.05,0.1,0.25,0.5,0.75,1",
) -> dict[str, Any]:
    """Prepare the digits, train with some and all of the labels, print the table, tell where MLflow shows it.

    Run again it shows the same table without training again.
    """
    from rich.console import Console
    from rich.table import Table

    from pipeline.comparison.fractions import train_fractions
    from pipeline.prepare import prepare
    from pipeline.sources import open_source
    from pipeline.tracking.stores import sqlite

    shares = numbers("--fractions", fractions, float)
    for share in shares:
        if not 0 < share <= 1:  # with no label there is no commonest class to compare with
            raise must("--fractions", "in (0, 1]", share)
    say("== preparing digits: 1,797 images of 8 x 8 pixels that ship with scikit-learn")
    prepare(open_source("digits"), out / "data")
    settings = {
        "data.path": str(out / "data"),
        "train.model": model,
        "train.seed": seed,
        "cluster.workers": workers,
        "tracking.uri": sqlite((out / "mlflow.db").resolve()),
        "tracking.experiment": "demo",
        # chosen on rows held out of the training part, for images of few pixels: softer relevances, more nodes
        "map.relevance_slope": 0.3,
        "map.threshold_quantile": 0.01,
    }
    runs = out / f"{model}-{seed}"
    say(f"== training {model} at {len(shares)} label fractions, workers: {workers}")
    rows = []
    for summary in train_fractions(settings, runs, shares, say):
        rows.append(summary)
        say("   " + " · ".join(f"{name} {text.format(**summary)}" for name, text in list(COLUMNS.items())[:3]))
    table = Table(*COLUMNS, title=f"{model} on digits: test accuracy by share of labels")
    for row in rows:
        table.add_row(*(text.format(**row) for text in COLUMNS.values()))
    Console(width=120).print(table)
    mlflow = Path(sys.executable).parent / "mlflow"
    print(f"The same map_digest comes out for any number of workers: python -m jobs.demo --workers 0 --out {out}-alone")
    print(f"The runs in MLflow: {mlflow} ui --backend-store-uri {settings['tracking.uri']}")
    print("then open http://127.0.0.1:5000 and choose the experiment 'demo'.")
    return {"rows": rows}


app = job(example="python -m jobs.demo --workers 2")(demo)

if __name__ == "__main__":
    run(app)
