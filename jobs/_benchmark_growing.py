"""`jobs.benchmark growing`: one SS-SOM training, and what exactness costs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say


def growing(
    data: Annotated[Path | None, typer.Option(help="Folder of the tables; default $SOMGRAD_DATA/uci.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of the organisation phase.")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="Of each training.")] = 5,
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("runs/speed"),
    table_out: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the section; default OUT/speed.md.")
    ] = None,
) -> dict[str, Any]:
    """Seconds of one SS-SOM training on pendigits, all labels, one thread; exact beside float reduction."""
    from pipeline.benchmarks import growing_speed, shared

    result = growing_speed.measure(data or shared.default_data() / "uci", epochs, repeats, say)
    text = growing_speed.markdown(result, command_line("benchmark"))
    print(text)
    return shared.publish("growing", result, text, out, table_out)


app = job(example="python -m jobs.benchmark growing --repeats 5")(growing)
