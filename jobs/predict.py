"""Batch prediction: parquet in, parquet out."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._epochs import counted
from jobs._run import job, run
from jobs._shown import say


def predict(
    model: Annotated[
        str, typer.Option(help="Directory of a run, its id in MLflow, or models:/NAME/VERSION (or @ALIAS).")
    ],
    input: Annotated[Path, typer.Option(help="Parquet file or folder: raw samples, unscaled.")],
    output: Annotated[Path, typer.Option(help="Directory of the answers; the same command goes on with it.")],
    key_column: Annotated[
        str | None, typer.Option(help="Column copied to the answers. [default: key if there is one, else row numbers]")
    ] = None,
    actors: Annotated[int | None, typer.Option(help="Processes; 0 = this one, without Ray. [default: cores]")] = None,
    rows_per_file: Annotated[int, typer.Option(min=1, help="Rows of an output file, roughly.")] = 100_000,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster. [default: one of its own]")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store of an id or name.")] = None,
) -> dict[str, Any]:
    """Class, confidence, node, activation and novelty of every row, in order, on a pool of Ray actors.

    Rows that cannot be scored are listed in OUTPUT/_errors.csv. Finished output files are not made again.
    """
    from jobs._progress import Progress
    from pipeline.predictor import BEYOND
    from pipeline.serving.model import model_directory
    from pipeline.serving.predict import predict as score

    place = model_directory(model, tracking_uri)
    with Progress("rows") as progress:
        result = score(
            place,
            input,
            output,
            key_column=key_column,
            actors=(os.cpu_count() or 1) if actors is None else actors,
            address=address,
            piece_rows=rows_per_file,
            on_piece=lambda done, total: progress(done, total=total),
        )
    bad = f", {result['errors']} set aside in _errors.csv" if result["errors"] else ""
    known = "compare with the training rows, docs/operations.md"
    far = f", {result['beyond']} of them beyond the map (novelty > {BEYOND}: {known})" if result["beyond"] else ""
    say(f"{counted(result['scored'], 'row')} scored{far}{bad}; {counted(result['files'], 'file')} in {result['out']}.")
    return result


app = job(example="python -m jobs.predict --model runs/first --input data/digits/test --output answers")(predict)

if __name__ == "__main__":
    run(app)
