"""`jobs.benchmark anchors` and `collapse`: many short deep trainings, as tables."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job
from jobs._shown import command_line, say

Data = Annotated[Path, typer.Option(help="Directory of a prepared data set.")]
Out = Annotated[Path, typer.Option(help="Where finished trials are kept; the same folder resumes.")]
Config = Annotated[Path, typer.Option(help="A recipe (mnist) or a file of settings.")]
Epochs = Annotated[int, typer.Option(help="Passes over the data of each trial.")]
Fraction = Annotated[float, typer.Option(help="Labelled fraction, where a trial does not say otherwise.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting.")]
Minutes = Annotated[float | None, typer.Option(help="Start nothing new after so many minutes.")]


def anchors(
    data: Data, out: Out, config: Config = Path("mnist"), epochs: Epochs = 2, labelled_fraction: Fraction = 0.01,
    settings: Settings = None, time_budget: Minutes = None,
) -> dict[str, Any]:  # fmt: skip
    """What each anchor does against collapse: decoder, variance floor, labels, consistency, alone and together."""
    from pipeline.benchmarks.deep_trials import anchor_trials

    flat = _settings(data, config, epochs, labelled_fraction, settings) | {"deep.on_collapse": "go_on"}
    return _table(anchor_trials(), flat, out, time_budget, "Anchors against collapse")


def collapse(
    data: Data, out: Out, config: Config = Path("mnist"), epochs: Epochs = 1, labelled_fraction: Fraction = 0.01,
    samples: Annotated[int, typer.Option(help="Random parameter sets.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the sets.")] = 0,
    settings: Settings = None, time_budget: Minutes = None,
) -> dict[str, Any]:  # fmt: skip
    """How many random parameter sets end in one cluster; the alarm is on."""
    from pipeline.benchmarks.deep_trials import random_trials

    flat = _settings(data, config, epochs, labelled_fraction, settings)
    return _table(random_trials(samples, seed), flat, out, time_budget, "Random parameter sets")


def _settings(data: Path, config: Path, epochs: int, fraction: float, settings: list[str] | None) -> dict[str, Any]:
    from pipeline.benchmarks.deep_trials import SHORT
    from pipeline.config import parse_setting, read_file

    flat = read_file(config) | SHORT | dict(parse_setting(text) for text in settings or [])
    own = {"data.path": str(data), "map.epochs": epochs, "train.labelled_fraction": fraction}
    return flat | own | {"cluster.workers": 0, "tracking.uri": "none"}


def _table(trials: Any, flat: dict[str, Any], out: Path, minutes: float | None, title: str) -> dict[str, Any]:
    from pipeline.benchmarks.deep_trials import markdown, run_trials

    results = run_trials(trials, flat, out, minutes, say)
    command = command_line("benchmark")
    text = markdown(results, title, command)
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return {"trials": results, "table": out / "table.md"}


anchors_app = job(example="python -m jobs.benchmark anchors --data data/mnist --out runs/anchors")(anchors)
collapse_app = job(example="python -m jobs.benchmark collapse --data data/mnist --out runs/collapse")(collapse)
