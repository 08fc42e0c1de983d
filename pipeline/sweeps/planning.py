"""From what a user asks to a plan: checked as a whole, kept in the folder of the sweep, gone on with by a later call.

sweep.json          what was asked, and the name of the sweep
trials/KEY/         a run directory per trial, with trial.json
tracking.jsonl      what was recorded of the sweep itself
tune/               Ray Tune's own records of each sitting
trials.csv          one row per trial, written at the end of each sitting
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import MODELS, RunConfig
from pipeline.errors import OutputError, must
from pipeline.places import absolute, write_atomically
from pipeline.sweeps.data_sets import TrialData, open_data_sets
from pipeline.sweeps.folder import SWEEP, TRIALS
from pipeline.sweeps.plan import FREE, SweepOptions, SweepPlan
from pipeline.sweeps.screened_trial import FEWEST_TRIALS, screenable
from pipeline.sweeps.selection import chooser_of, metrics_of, score_of
from pipeline.sweeps.spaces import PUBLISHED, Space, difference, open_space
from pipeline.sweeps.trials import TrialDirectory
from pipeline.training.checkpoint import refuse_shared
from pipeline.training.rundir import RUN, lasting

VERSION = 1
SEARCHES = ("random", "lhs", "optuna", "grid")
SCHEDULERS = ("none", "asha")
SCREENING = ("auto", "on", "off")
_SAMPLES = 10
_OF_RUNS = ("tracking.report", "tracking.moments")
_OF_SWEEP = ("data.path", "train.model", "train.seed", "train.labelled_fraction", "train.validation_fraction")


def make_plan(
    options: SweepOptions,
    folder: Path,
    resume: bool,
    workers: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> SweepPlan:
    """Checks what was asked, and whose folder it is; writes `sweep.json` of a new sweep.

    Args:
        options: what was asked.
        folder: of the sweep.
        resume: go on with the sweep that is there.
        workers: of each trial; None = as before, else 0.
        say: told what is not searched though the space has it.

    Raises:
        UserError: an option is wrong, or the folder holds something else.
    """
    share = options.validation_fraction
    if share is not None and not 0 <= share < 1:  # also not a number, which equals nothing
        raise must("--validation-fraction", "a share in [0, 1)", share)
    known = _known(folder, resume)
    workers = known.get("workers", 0) if workers is None else workers
    asked_before = known.get("definition", {})
    model, data = options.model or asked_before.get("model"), options.data or known.get("data", [])
    if resume and not data:
        raise OutputError(f"'{folder}' holds no sweep to go on with. Give the --out of one, or --data to begin.")
    if not known and len({*map(absolute, data)}) < len(data):  # a sweep that began so goes on
        raise must("--data", "different data sets", ", ".join(data))
    data_sets = open_data_sets(data)
    options = dataclasses.replace(options, model=model)
    definition, space = _definition(options, data_sets, asked_before, say)
    for key, value in definition.items():
        before = asked_before.get(key, value)
        fewer = key == "samples" and value < before and definition["search"] != "grid"
        parts = [lasting({**part, "train.model": model}) if key == "settings" else part for part in (before, value)]
        if fewer or (key not in FREE and parts[0] != parts[1]):
            was, got = _in_words(key, before), _in_words(key, value)
            got += f" with other {difference(before, value)}" if key == "space" and got == was else ""
            wanted = f"at least {was}" if fewer else f"{was} as it was" if key in ("space", "data") else was
            same = "the same data under the same names by --data, or " if key == "data" else ""
            raise OutputError(
                f"{key} must be {wanted} to go on with the sweep in '{folder}'. Got {got}. "
                f"Give {same}another --out to start anew."
            )
    name = known.get("name") or uuid.uuid4().hex[:12]
    plan = SweepPlan(name, folder.absolute(), data_sets, space, definition, workers=workers)
    plan = dataclasses.replace(plan, screened=_check(plan))
    before = asked_before.get("metric", metrics_of(plan.model, plan.num_classes)[0])  # as sweeps without one chose
    if definition["metric"] != before:
        _refuse_unscored(folder / TRIALS, before, definition["metric"])
    content = {**known, "version": VERSION, "name": name, "data": [*map(absolute, data)], "definition": definition}
    content["workers"] = workers
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SWEEP, (json.dumps(content, indent=1) + "\n").encode())
    return plan


def _known(folder: Path, resume: bool) -> dict[str, Any]:
    if (folder / RUN).exists():
        raise OutputError(f"'{folder}' already holds a run. Give another --out.")
    try:
        known = dict(json.loads((folder / SWEEP).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder / SWEEP} cannot be read: {error}.") from None
    if known.get("version") != VERSION:
        raise OutputError(f"'{folder}' was written by another version ({known.get('version')}). Give another --out.")
    if not resume:
        what = f"a sweep ({known['definition']['model']})"
        raise OutputError(f"'{folder}' already holds {what}. Give another --out, or --resume to go on with it.")
    return known


def _definition(
    options: SweepOptions, data_sets: Sequence[TrialData], before: dict[str, Any], say: Callable[[str], None]
) -> tuple[dict[str, Any], Space]:
    """What a sweep is, in plain values: as asked, else as before, else the default."""
    if before and options.space is None:
        space = Space.of(before["space"])
    else:
        asked = options.space
        if asked is None and options.samples is not None and options.model in PUBLISHED:
            asked = options.model
        space = open_space(asked)
    settings = {**before.get("settings", {}), **options.settings}
    if decided := space.given(settings):
        say(f"Given for all sets, so not searched: {', '.join(decided)}.")
    space = space.without(settings)
    if before and space.continues(known := Space.of(before["space"])):
        space = known
    defaults: dict[str, Any] = {"fractions": [1.0], "seeds": [0], "samples": _SAMPLES if space.columns else 1}
    defaults |= {"search": "lhs", "scheduler": "none", "validation_fraction": 0.2, "screening": "auto"}
    defaults["metric"] = metrics_of(str(options.model), min(data.num_classes for data in data_sets))[0]
    asked_for = {key: getattr(options, key) for key in defaults}
    given = {k: list(v) if isinstance(v, Sequence) and not isinstance(v, str) else v for k, v in asked_for.items()}
    chosen = {k: v if v is not None else before.get(k, defaults[k]) for k, v in given.items()}
    if chosen["search"] == before.get("search", chosen["search"]) == "grid":
        chosen["samples"] = len(space.grid())
        if options.samples not in (None, chosen["samples"]):
            requirement = f"left out with --search grid, which takes all {chosen['samples']} sets"
            raise must("--samples", requirement, options.samples)
    manifests = {data.key: data.manifest_hash for data in data_sets}
    return {"model": options.model, "data": manifests, **chosen, "settings": settings, "space": space.describe()}, space


def _check(plan: SweepPlan) -> bool:
    """Every set on every data set, and every fraction and seed: before anything is started; whether to screen."""
    asked = plan.definition
    if plan.model not in MODELS:
        raise must("--model", f"one of {', '.join(MODELS)}", asked["model"])
    if not isinstance(plan.workers, int) or plan.workers < 0:
        raise must("--workers", "an integer >= 0 (0: in one process)", plan.workers)
    for name, choices in (("search", SEARCHES), ("scheduler", SCHEDULERS), ("screening", SCREENING)):
        if asked[name] not in choices:
            raise must(f"--{name}", f"one of {', '.join(choices)}", asked[name])
    if asked["metric"] not in (able := metrics_of(plan.model, plan.num_classes)):
        raise must("--metric", f"one of {', '.join(able)}, which {plan.model} has on these data", asked["metric"])
    if not isinstance(asked["samples"], int) or asked["samples"] < 1:
        raise must("--samples", "an integer >= 1", asked["samples"])
    if asked["samples"] > 1 and not plan.space.columns:
        raise must("--samples", "1 where there is no --space, or nothing in it left to search", asked["samples"])
    if not asked["seeds"] or len(set(asked["seeds"])) < len(asked["seeds"]):
        raise must("--seeds", "different integers", asked["seeds"])
    if not asked["fractions"] or not all(0 <= share <= 1 for share in asked["fractions"]):
        raise must("--fractions", "shares in [0, 1], such as 0.05 for 5 %", asked["fractions"])
    if len({f"{share:g}" for share in asked["fractions"]}) < len(asked["fractions"]):
        raise must("--fractions", "different in their first six digits", asked["fractions"])
    refuse_shared(asked["settings"])
    for key, value in asked["settings"].items():
        if key == "train.model" and value == plan.model:  # as the recipes of a model say
            continue
        if key in _OF_SWEEP or key.startswith(("tracking.", "cluster.address", "cluster.workers")):
            remedy = f"Leave out --model {plan.model}, or the other model's settings." if key == "train.model" else ""
            whose = "left out of a sweep, whose trials record nothing themselves" if key in _OF_RUNS else None
            raise must(key, whose or "given to the sweep by its own option", f"{key}={value}", remedy=remedy)
    wanted = asked["screening"] == "on" or (asked["screening"] == "auto" and plan.num_trials >= FEWEST_TRIALS)
    possible = wanted and plan.workers == 0 and not plan.stops_early
    sets = plan.space.extremes() if plan.learns else plan.sets()
    for index, values in enumerate(sets):
        trials = plan.trials_of(index, values)
        for data, trial in zip(plan.data_sets, trials[:: max(1, len(trials) // len(plan.data_sets))], strict=True):
            RunConfig.build(trial.settings)
            sizes = (data.num_samples, data.num_features, data.dense)
            possible = possible and screenable(trial.settings, *sizes)
        for trial in trials if index == 0 else ():
            RunConfig.build(trial.settings)
    if asked["screening"] == "on" and not possible:
        got = f"{plan.model}, --workers {plan.workers}, --scheduler {asked['scheduler']}"
        requirement = "auto or off except for growing maps on small tables without missing values, a C compiler at hand"
        raise must("--screening", requirement, f"on ({got})")
    return possible


def _refuse_unscored(trials: Path, before: str, metric: str) -> None:
    """Another metric cannot choose among trials that were scored before there was such a score."""
    for path in sorted(trials.glob("*")):
        record = TrialDirectory(path).record
        scores = record.get("summary") or {}
        if score_of(scores, before) is not None and score_of(scores, metric) is None:
            able = f"{before}, or another score that all trials have on their validation rows"
            raise must("--metric", able, metric, remedy=f"Trial {path.name} has no {chooser_of(metric, scores)}.")


def _in_words(key: str, value: Any) -> str:
    """A part of the definition for a line; of data their names, and their manifests in short."""
    if key == "data":
        return ", ".join(f"'{name}' (manifest {digest[:8]})" for name, digest in value.items())
    return repr(value["name"] if key == "space" else value)
