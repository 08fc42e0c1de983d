"""One training: a prepared data set in, a trained map out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._epochs import Epochs, Passes, sentence
from jobs._given import check_model_store
from jobs._run import job, run
from jobs._shown import say
from pipeline.errors import UserError, must

KEYS = (
    "model", "data", "labelled_fraction", "seed", "workers", "reduction", "epochs", "rounds", "nodes",
    "split", "accuracy", "balanced_accuracy", "validation_accuracy", "clustering_accuracy", "nmi",
    "quantization_error", "map_digest", "seconds", "samples_per_second", "scored_rows", "scored_labelled_rows",
    "rounds_at_capacity", "run_id", "out",
)  # fmt: skip


def train(
    out: Annotated[Path, typer.Option(help="Directory of this run; must not hold another one.")],
    data: Annotated[str | None, typer.Option(help="A prepared data set. [required without --resume]")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="kohonen, dssom, larfdssom, sssom, altsssom, deep or a rival. [default: that of --config]"),
    ] = None,
    labelled_fraction: Annotated[
        float | None, typer.Option(help="Share of the labels the map may read, in [0, 1]. [default: 1]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of labels, order and start. [default: 0]")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Ray actors; 0 = in this process, without Ray. [default: 2]")
    ] = None,
    epochs: Passes = None,
    config: Annotated[Path | None, typer.Option(help="File of settings (yaml, toml, json) or a recipe.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. map.capacity=100.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster. [default: one of its own]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    reduction: Annotated[
        str | None, typer.Option(help="exact (the same bits for any workers) or fast. [default: exact]")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; none = record nothing. [default: MLflow's own]")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment. [default: somgrad]")] = None,
    log_model: Annotated[bool, typer.Option("--log-model", help="Log the result as an MLflow model.")] = False,
    register: Annotated[str | None, typer.Option(help="The same, as a new version of this registered model.")] = None,
) -> dict[str, Any]:
    """Train one map on a prepared data set, in this process or on Ray workers, with the same result.

    Stop it with Ctrl-C, SIGTERM or by closing its terminal: the state is saved, and --resume goes on, also with other
    workers.
    """
    from pipeline.training import trainer

    given = {
        "data.path": data,
        "train.model": model,
        "train.labelled_fraction": labelled_fraction,
        "train.seed": seed,
        "train.reduction": reduction,
        "map.epochs": epochs,
        "cluster.workers": workers,
        "cluster.address": address,
        "tracking.uri": tracking_uri,
        "tracking.experiment": experiment,
    }
    flat = _flat(given, config, settings or [], resume)
    if log_model or register:
        before = _store_before(out) if resume else None
        check_model_store("--register" if register else "--log-model", flat.get("tracking.uri"), before)
    with Epochs() as on_epoch:
        summary = trainer.train(flat, out, resume=resume, say=say, on_epoch=on_epoch)
    say(sentence(summary))
    if log_model or register:
        from pipeline.serving import model as models
        from pipeline.tracking.tracker import store_of

        uri = store_of(out, flat.get("tracking.uri")) or flat.get("tracking.uri")
        logged = models.log_model(out, summary["run_id"], uri, register)
        say(f"Model logged: {logged['model_uri']}")
    return {key: summary.get(key) for key in KEYS}


def _store_before(out: Path) -> str | None:
    from pipeline.training.rundir import RunDirectory

    store: str | None = RunDirectory(out).record.get("settings", {}).get("tracking.uri")
    return store


def _flat(given: dict[str, Any], config: Path | None, settings: list[str], resume: bool) -> dict[str, Any]:
    """What was typed as flat keys: options over the file, `--set` over both."""
    from pipeline.config import parse_setting, read_file

    flat = read_file(config) if config else {}
    flat |= {key: value for key, value in given.items() if value is not None}
    flat |= dict(parse_setting(text) for text in settings)
    for option, key, how in (("--data", "data.path", ""), ("--model", "train.model", ", by itself or by --config")):
        if key not in flat and not resume:
            raise UserError(f"{option} must be given{how}, unless --resume goes on with a run.")
    if (address := given["cluster.address"]) and flat.get("cluster.workers") == 0:
        raise must("--address", "left out with --workers 0, which needs no cluster", address)
    return flat


app = job(example="python -m jobs.train --data data/digits --model sssom --out runs/first")(train)

if __name__ == "__main__":
    run(app)
