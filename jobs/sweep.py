"""A sweep: labelled fractions, seeds and hyper-parameters on Ray Tune."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._epochs import Passes, counted
from jobs._given import check_model_store
from jobs._run import job, numbers, run
from jobs._shown import say


def sweep(
    out: Annotated[Path, typer.Option(help="Folder of this sweep; must not hold another one.")],
    data: Annotated[list[str] | None, typer.Option(help="Prepared data set, or folder of folds; repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="As of jobs.train. [default: that of --config]")] = None,
    fractions: Annotated[str | None, typer.Option(help="Labelled fractions, by comma. [default: 1]")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, by comma. [default: 0]")] = None,
    samples: Annotated[int | None, typer.Option(help="Sets of hyper-parameters. [default: 10 with --space]")] = None,
    search: Annotated[str | None, typer.Option(help="random, lhs, optuna or grid. [default: lhs]")] = None,
    scheduler: Annotated[str | None, typer.Option(help="none or asha (ends weak trials). [default: none]")] = None,
    space: Annotated[str | None, typer.Option(help="yaml file, or one published: sssom, altsssom, larfdssom.")] = None,
    workers: Annotated[int | None, typer.Option(help="Actors of each trial; 0 = one process. [default: 0]")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Trials at the same time. [default: as CPUs allow]")] = None,
    time_budget: Annotated[float | None, typer.Option(help="Minutes; what is left then waits for --resume.")] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Share of the labels that chooses the best set. [default: 0.2]")
    ] = None,
    screening: Annotated[
        str | None,
        typer.Option(help="Look by compiled loops, train what is chosen: auto, on, off. [default: auto]"),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What chooses, on validation rows. [default: by model]")] = None,
    config: Annotated[Path | None, typer.Option(help="yaml, toml or json file of settings, or a recipe.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of all trials.")] = None,
    epochs: Passes = None,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster. [default: one of its own]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in --out.")] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; none = record nothing. [default: MLflow's own]")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment. [default: somgrad]")] = None,
    register: Annotated[
        str | None, typer.Option(help="Log the best trial's model, as a new version of this registered model.")
    ] = None,
) -> dict[str, Any]:
    """Train one model at several labelled fractions, seeds and hyper-parameters, and choose the best by validation.

    Stop it whenever you like: finished trials are kept, and --resume does the rest; with it --out is enough.
    """
    from jobs._progress import Progress
    from pipeline.config import parse_setting, read_file
    from pipeline.sweeps.outcome import in_one_line
    from pipeline.sweeps.plan import SweepOptions
    from pipeline.sweeps.record import kept_store
    from pipeline.sweeps.sweep import sweep as sweep_maps

    if register:
        check_model_store("--register", tracking_uri, kept_store(out) if resume else None)
    flat = (read_file(config) if config else {}) | ({} if epochs is None else {"map.epochs": epochs})
    flat |= dict(parse_setting(text) for text in settings or [])
    options = SweepOptions(
        data=data or (),
        model=model or flat.get("train.model"),
        fractions=None if fractions is None else numbers("--fractions", fractions, float),
        seeds=None if seeds is None else numbers("--seeds", seeds, int),
        samples=samples,
        search=search,
        scheduler=scheduler,
        space=space,
        settings=flat,
        validation_fraction=validation_fraction,
        screening=screening,
        metric=metric,
    )
    with Progress("trials") as progress:
        result = sweep_maps(
            options,
            out,
            resume=resume,
            workers=workers,
            concurrent=concurrent,
            time_budget_s=None if time_budget is None else 60 * time_budget,
            address=address,
            tracking_uri=tracking_uri,
            experiment=experiment,
            say=say,
            on_trials=lambda done, total, note: progress(done, note, total),
        )
    say(in_one_line(result))
    _show(result)
    if register and not result["best"]:
        say(f"No finished trial has a score that chooses, so no model is registered as {register}.")
    elif register:
        from pipeline.serving.model import log_model
        from pipeline.tracking.tracker import store_of

        best, store = result["best"], store_of(out, tracking_uri) or tracking_uri
        result["model"] = log_model(Path(best["out"]), best["run_id"], store, register)
        say(f"Model of {best['trial']} registered: {result['model']['model_uri']}")
    return result


def _show(result: dict[str, Any]) -> None:
    for row in result["selected"]:
        test = "unknown" if row["mean"] is None else f"{row['mean']:.4f}"
        spread = "" if row["sd"] is None else f" ± {row['sd']:.4f}"
        how = "the only set" if row["score"] is None else f"of {row['of']} by {row['chosen_by']} {row['score']:.4f}"
        basis = counted(row["folds"], "fold") if row["folds"] > 1 else counted(row["seeds"], "seed")
        chosen = "each fold its own set" if row["set"] is None else f"set {row['set']}"
        rows = " of training rows" if row["split"] == "train" else ""
        what = f"{row['data']} {row['labelled_fraction']:g}: {chosen}, {row['metric']} {test}{spread}{rows}"
        say(f"{what} ({basis}; {how})")


app = job(example="python -m jobs.sweep --data data/digits --model sssom --samples 10 --out sweeps/first")(sweep)

if __name__ == "__main__":
    run(app)
