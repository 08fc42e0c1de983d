"""Features of a frozen extractor as a prepared data set."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job, run
from jobs._shown import say


def features(
    data: Annotated[str, typer.Option(help="Directory or URI of a prepared data set.")],
    out: Annotated[Path, typer.Option(help="Directory of the data set of features.")],
    model: Annotated[
        str | None, typer.Option("--run", help="Directory of a run with an encoder, or its id in MLflow.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Or a torchvision model: resnet18 (weights in its cache) or resnet18:FILE.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another data set at --out.")] = False,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store of an id. [default: MLflow's own]")] = None,
) -> dict[str, Any]:
    """Encode a data set with an extractor trained elsewhere, frozen: every model then trains on its features.

    The new data set is a table with the same splits, labels and order of rows; its manifest says what made it.
    """
    from jobs._progress import Progress
    from pipeline.serving.features import write_features

    with Progress("rows") as progress:
        manifest = write_features(
            data, out, run=model, weights=weights, overwrite=overwrite, uri=tracking_uri, progress=progress
        )
    rows = {name: split.num_samples for name, split in manifest.splits.items()}
    say(f"{out}: {manifest.num_features} features of {sum(rows.values())} rows")
    return {"out": out, "features": manifest.num_features, "rows": rows, "manifest_hash": manifest.digest}


app = job(example="python -m jobs.features --run runs/mnist --data data/fashion-mnist --out data/fashion-features")(
    features
)

if __name__ == "__main__":
    run(app)
