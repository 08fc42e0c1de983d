"""Metrics of a trained model on a split."""

from typing import Annotated, Any

import typer

from jobs._run import job, run
from jobs._shown import say


def evaluate(
    model: Annotated[str, typer.Option("--run", help="Directory of a run, or its id in MLflow.")],
    data: Annotated[str | None, typer.Option(help="A prepared data set. [default: the one it was trained on]")] = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test. [default: test where it has rows, else train]")
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store of an id. [default: MLflow's own]")] = None,
) -> dict[str, Any]:
    """Score a trained model on a split of a prepared data set.

    Rows without a predicted class, and rows left out as noise, are errors; rows whose class is not known are not
    counted: labelled_rows says how many have one, where not all do. A score that does not apply is left out (null in
    --json).
    """
    from pipeline.serving.trained import evaluate_run

    scores = evaluate_run(model, data, split, tracking_uri, say)
    all_known = scores["labelled_rows"] == scores["rows"]
    for name, value in scores.items():
        if value is not None and not (name == "labelled_rows" and all_known):
            print(f"{name:<20} {value:.4f}" if isinstance(value, float) else f"{name:<20} {value}")
    return scores


app = job(example="python -m jobs.evaluate --run runs/first --data data/digits --split test")(evaluate)

if __name__ == "__main__":
    run(app)
