"""A trained model as an ONNX file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job, run
from jobs._shown import say


def export(
    model: Annotated[
        str, typer.Option("--run", help="Directory of a run, its id in MLflow, or models:/NAME/VERSION (or @ALIAS).")
    ],
    out: Annotated[Path, typer.Option(help="The file, ending in .onnx.")],
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store of an id or name.")] = None,
) -> dict[str, Any]:
    """Write a trained model as one ONNX graph: raw samples in; node, class, activation and novelty out.

    The file is compared with the model before it is written. It needs neither torch nor somgrad to run.
    """
    from pipeline.serving.model import model_directory
    from pipeline.serving.onnx_export import export_model
    from pipeline.tracking.results import run_directory

    named = ":/" in model
    place = model_directory(model, tracking_uri, "--run") if named else run_directory(model, tracking_uri)
    result = export_model(place, out)
    compared = f"equal to the model on {result['checked']} samples" if result["checked"] else "not compared"
    say(f"{result['out']}: {result['model']}, {result['bytes']:,} bytes, {compared}.")
    return result


app = job(example="python -m jobs.export --run runs/first --out first.onnx")(export)

if __name__ == "__main__":
    run(app)
