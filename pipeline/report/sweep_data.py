"""A sweep as it was done: its trials, what was chosen, and what others reach with the same labels.

One row per trial, as in its table `trials.csv`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.baselines import baseline_accuracies
from pipeline.errors import OutputError, UserError
from pipeline.sweeps.folder import SWEEP, TABLE, TRIALS
from pipeline.sweeps.selection import metrics_of, selected
from pipeline.tracking.result_rows import read_trials
from pipeline.training.rundir import RunDirectory

_SECTIONS = ("map.", "deep.", "loss.", "encoder.", "train.")


def is_sweep(directory: Path) -> bool:
    """Whether this is the folder of a sweep."""
    return (directory / SWEEP).is_file()


def read_sweep(directory: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was asked of a sweep, and a row for each of its trials.

    Raises:
        OutputError: it has no table yet, or it cannot be read.
    """
    try:
        definition = dict(json.loads((directory / SWEEP).read_text(encoding="utf-8"))["definition"])
        return definition, read_trials(directory / TABLE)
    except FileNotFoundError as error:
        raise OutputError(f"'{directory}' must hold a sweep that has ended once ({TABLE}). {error.strerror}.") from None
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"'{directory}' holds a sweep that cannot be read: {error}.") from None


def _over_folds(found: list[dict[str, dict[float, list[float]]]]) -> dict[str, dict[float, list[float]]]:
    """Of several folds one number each, the mean over its seeds, as for maps; of what all folds have."""
    over: dict[str, dict[float, list[float]]] = {}
    for name, values in found[0].items():
        for fraction in values:
            if all(fraction in fold.get(name, {}) for fold in found):
                means = [float(np.mean(fold[name][fraction])) for fold in found]
                over.setdefault(name, {})[fraction] = means
    return over


class SweepData:
    """A sweep, ready to be drawn.

    Args:
        directory: its folder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.definition, self.rows = read_sweep(directory)
        self.metric = self._metric()
        self.finished = [row for row in self.rows if row["status"] == "finished" and row.get(self.metric) is not None]
        if not self.finished:
            wanted = f"a finished trial with {self.metric} to be looked at"
            raise UserError(f"The sweep in '{directory}' must have {wanted}. It has none.")
        self.tables = sorted({str(row["data"]) for row in self.finished})
        self.chosen = selected(self.rows, self.metric)
        self.baselines = {name: self._baselines(name) for name in self.tables}

    def _metric(self) -> str:
        if asked := self.definition.get("metric"):
            return str(asked)
        model = str(self.rows[0]["model"]) if self.rows else ""
        classes = any(row.get("clustering_accuracy") is not None for row in self.rows)
        return metrics_of(model, 1 if classes else 0)[0]

    def _baselines(self, name: str) -> dict[str, dict[float, list[float]]]:
        if self.metric != "accuracy":
            return {}
        draws: dict[str, set[tuple[float, float, int]]] = {}  # of each fold
        try:
            for row in self.finished:
                if row["data"] == name and (settings := self._settings(row)):
                    draw = (float(row["labelled_fraction"]), settings["train.validation_fraction"], int(row["seed"]))
                    draws.setdefault(settings["data.path"], set()).add(draw)
            found = [baseline_accuracies(path, sorted(draws[path]), len(draws)) for path in sorted(draws)]
        except (UserError, OSError):  # data or record are not here any more: the sweep is shown without them
            return {}
        return _over_folds(found) if len(found) > 1 else next(iter(found), {})

    def _settings(self, row: dict[str, Any]) -> dict[str, Any]:
        """Of the run of a trial; none of one that was screened."""
        return dict(RunDirectory(self.directory / TRIALS / str(row["trial"])).record.get("settings", {}))

    @property
    def parameters(self) -> list[str]:
        """Hyper-parameters that differ between trials."""
        definition = self.definition.get("space") or {}
        columns = [str(column[0]) for column in definition.get("columns", [])] if isinstance(definition, dict) else []
        keys = [key for key in self.rows[0] if key in columns or key.startswith(_SECTIONS)]
        return [key for key in keys if len({str(row.get(key)) for row in self.finished}) > 1]

    @property
    def meaning(self) -> str:
        """Which trials the means are over."""
        choice = (
            "the set that validation rows chose, over its seeds or folds, at the fractions where they could choose one"
        )
        if self.chosen and all(row["score"] is None for row in self.chosen):
            choice = "the only set, over its seeds or folds, at the fractions where all of them are done"
        return choice if self.chosen else "all trials of a fraction"

    @property
    def choosers(self) -> str:
        """The scores that chose among the sets; nothing where there was no choice."""
        names = dict.fromkeys(row["chosen_by"] for row in self.chosen if row["score"] is not None and row["of"] > 1)
        return ", ".join(names) or "nothing"

    def by_fraction(self, name: str) -> list[tuple[float, float, float | None, int]]:
        """Fraction, mean, standard deviation (n − 1) and n, seeds or folds: of the chosen; of all without a choice."""
        chosen = [row for row in self.chosen if row["data"] == name and row["mean"] is not None]
        if self.chosen:
            return sorted((float(r["labelled_fraction"]), r["mean"], r["sd"], len(r["tests"])) for r in chosen)
        here = [row for row in self.finished if row["data"] == name]
        found = []
        for fraction in sorted({float(row["labelled_fraction"]) for row in here}):
            values = [float(row[self.metric]) for row in here if float(row["labelled_fraction"]) == fraction]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found.append((fraction, float(np.mean(values)), spread, len(values)))
        return found
