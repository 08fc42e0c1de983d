"""The trials of a sweep: what each one trains, and its directory, which knows how far it came.

A trial is one training: a data set, a labelled fraction, a seed and a set of hyper-parameters. Its directory is
that of a run, with `trial.json` beside it. Nothing else says whether a trial is finished, so whatever ends the
sweep, what is on disk is what was done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import Collapsed, Diverged, MachineError, theirs_to_mend
from pipeline.places import locked, write_atomically
from pipeline.sweeps.folder import ENDED, FAILED, FINISHED, RUNNING, STOPPED, TRIAL
from pipeline.sweeps.selection import finite
from pipeline.tracking.journal import JOURNAL, Journal
from pipeline.tracking.sender import POSITION
from pipeline.training.rundir import CHECKPOINTS

LOCK = ".trial.lock"  # a run holds a lock of its own in there
ATTEMPTS = 2
_HELD_S = 60.0
_LASTING = tuple(f"{kind.__name__}: " for kind in (Collapsed, Diverged))

OnEpoch = Callable[[int, int, Mapping[str, float | None]], None]


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        key: its name, unique in the sweep.
        data: name of the data set.
        labelled_fraction: share of the labels.
        seed: of labels, order and start.
        index: number of the set.
        values: the set: what was drawn.
        settings: the run, as flat keys.
        fold: of the data set; empty where it has none.
        screened: whether compiled loops look at it, instead of somcore training it.
    """

    key: str
    data: str
    labelled_fraction: float
    seed: int
    index: int
    values: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    fold: str = ""
    screened: bool = False

    @property
    def choice(self) -> tuple[str, str, float]:
        """What a set is chosen for: data set, fold, labelled fraction."""
        return self.data, self.fold, self.labelled_fraction

    def to_dict(self, **changes: Any) -> dict[str, Any]:
        """Plain values, for other processes, with other settings."""
        return {**asdict(self), "settings": {**self.settings, **changes}}


class TrialDirectory:
    """The directory of a trial.

    Args:
        path: of the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> dict[str, Any]:
        """What `trial.json` holds; empty if the trial has not begun."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.path / TRIAL).read_text(encoding="utf-8")))
        return {}

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.record.get("status") in ENDED

    def write(self, **content: Any) -> dict[str, Any]:
        """Adds to `trial.json`, atomically; returns all of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        record = {**self.record, **content}
        write_atomically(self.path / TRIAL, (json.dumps(record, default=str) + "\n").encode())
        return record

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """One process at a time: a trial may outlive its sweep for a moment, and be begun again meanwhile."""
        self.path.mkdir(parents=True, exist_ok=True)
        busy = MachineError(f"Another process has held '{self.path}' for {_HELD_S:g} s.")
        with locked(self.path / LOCK, _HELD_S, busy):
            yield

    def clear(self) -> None:
        """Removes what a failed attempt left, but not what is known of the trial, nor a record that has been sent."""
        sent = (JOURNAL, POSITION) if (self.path / POSITION).exists() else ()
        for path in self.path.iterdir():
            if path.name not in (TRIAL, LOCK, *sent):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def sets_begun(folder: Path) -> dict[int, dict[str, Any]]:
    """The sets of which a trial has begun, by their number.

    Args:
        folder: of all trials.
    """
    records = [TrialDirectory(path).record for path in sorted(folder.glob("*"))]
    return {record["index"]: record["values"] for record in records if "index" in record}


def settled(record: Mapping[str, Any], sitting: str | None = None) -> bool:
    """Whether there is nothing left to do for a trial.

    What failed is tried again in another sitting, because its reason may have passed (data that were away, a full
    disk), but not a training that has collapsed or diverged: the same settings would end the same way.

    Args:
        record: of the trial.
        sitting: the present one, if it has begun.

    Example:
        >>> [settled({"status": "failed", "error": error}) for error in ("OSError: it is full", "Collapsed: ...")]
        [False, True]
    """
    if record.get("status") == FAILED:
        same = sitting is not None and record.get("sitting") == sitting
        return same or str(record.get("error")).startswith(_LASTING)
    return record.get("status") in ENDED


def run_trial(trial: Trial, folder: Path, sitting: str, on_epoch: OnEpoch = lambda *_: None) -> dict[str, Any]:
    """Trains a trial, or goes on with it; once more where it fails. What is settled is not repeated.

    Args:
        trial: what to train.
        folder: of all trials.
        sitting: name of this call of the sweep. A process that ended in an earlier one was no fault of the trial.
        on_epoch: as in `train`.

    Returns:
        The record of the trial: status, attempts, summary or error.
    """
    directory = TrialDirectory(folder / trial.key)
    with directory.held():
        record = directory.record
        if settled(record, sitting):
            return record
        attempts = int(record.get("attempts", 0)) if record.get("sitting") == sitting else 0
        error, fixable = "its process ended", False
        while attempts < ATTEMPTS:
            attempts += 1
            about = {"trial": trial.key, "index": trial.index, "values": trial.values}
            directory.write(**about, status=RUNNING, attempts=attempts, sitting=sitting, error=None)
            try:
                summary = _train(trial, directory.path, on_epoch)
            except Exception as fault:  # whatever it is, the other trials go on
                error, fixable = _in_one_line(fault), theirs_to_mend(fault)
                if isinstance(fault, ValueError):
                    break  # it would say the same again
                directory.clear()
                continue
            shutil.rmtree(directory.path / CHECKPOINTS, ignore_errors=True)
            return directory.write(status=FINISHED, summary=summary, screened=trial.screened, error=None)
        _end_journal(trial, directory.path, "FAILED", {"error": error})
        return directory.write(status=FAILED, error=error, fixable=fixable, attempts=attempts)


def confirm_trial(trial: Trial, folder: Path, sitting: str) -> dict[str, Any]:
    """Trains a trial by somcore that was only screened: its figures, and a map. The old ones stay until then.

    Args:
        trial: what to train.
        folder: of all trials.
        sitting: as in `run_trial`.

    Returns:
        The record of the trial; `not_confirmed` says why it is still that of the screening.
    """
    directory = TrialDirectory(folder / trial.key)
    with directory.held():
        record = directory.record
        last, attempts = record.get("confirming") or ("", 0)
        attempts, given_up = (attempts, record.get("not_confirmed")) if last == sitting else (0, None)
        if record.get("status") != FINISHED or not record.get("screened") or given_up:
            return record
        error = "its process ended"
        while attempts < ATTEMPTS:
            attempts += 1
            directory.write(confirming=(sitting, attempts), not_confirmed=None)
            try:
                summary = _train(dataclasses.replace(trial, screened=False), directory.path, lambda *_: None)
            except Exception as fault:  # whatever it is, the other trials go on
                error = _in_one_line(fault)
                continue
            shutil.rmtree(directory.path / CHECKPOINTS, ignore_errors=True)
            Journal(directory.path).write("tags", tags={"screened": "false"})
            return directory.write(summary=summary, screened=False, screening=record["summary"])
        Journal(directory.path).write("end", status="FINISHED", tags={})  # as it was before
        return directory.write(not_confirmed=error)


def stop_trial(trial: Trial, folder: Path, last: Mapping[str, Any]) -> dict[str, Any]:
    """Notes that a scheduler has stopped a trial early, with its last scores."""
    directory = TrialDirectory(folder / trial.key)
    with directory.held():  # until its process has gone
        if directory.ended:
            return directory.record
        _end_journal(trial, directory.path, "KILLED", {"stopped_early": "true"})
        shutil.rmtree(directory.path / CHECKPOINTS, ignore_errors=True)
        return directory.write(status=STOPPED, summary=dict(last))


def row_of(trial: Trial, record: Mapping[str, Any]) -> dict[str, Any]:
    """A trial as a row of results: parameters and metrics."""
    summary = dict(record.get("summary") or {})
    row = {
        "trial": trial.key,
        "status": record.get("status"),
        "data": trial.data,
        **({"fold": trial.fold} if trial.fold else {}),
        "model": trial.settings["train.model"],
        "labelled_fraction": trial.labelled_fraction,
        "seed": trial.seed,
        "set": trial.index,
        **trial.values,
    }
    row |= {key: value for key, value in summary.items() if key not in row}
    about = {"screened": True} if record.get("screened") else {}
    return {**row, **about, "attempts": record.get("attempts"), "error": record.get("error")}


def told_of(row: Mapping[str, Any]) -> list[str]:
    """A trial that has ended in a few words, for a line of progress."""
    named = {"nodes": "{:.0f} nodes", "quantization_error": "error {:.4g}", "accuracy": "accuracy {:.3f}",
             "samples_per_second": "{:,.0f} samples/s"}  # fmt: skip
    values = [text.format(row[key]) for key, text in named.items() if finite(row.get(key))]
    return [f"last: {values[0]}", *values[1:]] if values else []


def _train(trial: Trial, path: Path, on_epoch: OnEpoch) -> dict[str, Any]:
    if trial.screened:
        from pipeline.sweeps.screened_trial import train_screened

        return train_screened(trial.settings, path, trial.key)
    from pipeline.training.trainer import train

    return train(trial.settings, path, resume=True, on_epoch=on_epoch)


def _in_one_line(fault: Exception) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())}"[:500]


def _end_journal(trial: Trial, path: Path, status: str, tags: Mapping[str, str]) -> None:
    """Ends the record of a trial that could not end it itself; begins it where that was too late as well."""
    journal = Journal(path)
    kinds = [line["kind"] for line in journal.lines()]
    if "start" not in kinds:
        journal.write("start", name=trial.key, params=trial.settings, tags={})
    journal.write("end", status=status, tags=dict(tags))
