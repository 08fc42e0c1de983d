"""`jobs.benchmark predict`: batch prediction beside the plain loop."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job, numbers
from jobs._shown import command_line, say


def predict(
    model: Annotated[Path, typer.Option(help="Directory of a run.")],
    input: Annotated[Path, typer.Option(help="Parquet file or folder: raw samples.")],
    actors: Annotated[str, typer.Option(help="Sizes of pools of Ray actors, by comma; empty = none.")] = "1,2",
    repeats: Annotated[int, typer.Option(min=1, help="Of each.")] = 3,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster. [default: one of its own]")] = None,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/sweeps"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/sweeps.md.")
    ] = None,
) -> dict[str, Any]:
    """Rows per second of jobs.predict, beside the model asked batch by batch on one core."""
    from pipeline.benchmarks import predict_speed, shared

    sizes = numbers("--actors", actors, int) if actors else []
    result = predict_speed.measure(model, input, sizes, repeats, address, say)
    text = predict_speed.markdown(result, command_line("benchmark"))
    print(text)
    return shared.publish("predict", result, text, out, table_out)


app = job(example="python -m jobs.benchmark predict --model runs/mnist --input data/mnist/test")(predict)
