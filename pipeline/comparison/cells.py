"""The cells of a comparison: each is computed in a process of its own, kept in a file when done, and not repeated.

A cell is a contestant, a labelled fraction and a seed. Contestants that labels cannot change are trained once per seed;
their accuracy at a fraction is that of a linear classifier on their frozen features.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from pipeline.comparison.contestants import Contestant
from pipeline.places import write_atomically
from pipeline.signals import children_outlive_terminal

Say = Callable[[str], None]
Cell = dict[str, Any]
Place = tuple[Contestant, float, int]
"""Who, labelled fraction, seed."""
_AT_ONCE_S = 10.0  # signals


@dataclass(frozen=True)
class Comparison:
    """What is asked.

    Attributes:
        settings: common flat keys, `data.path` included; each contestant takes what it reads.
        unlabelled: the same for trainings without labels.
        contestants: the rows of the table.
        fractions: labelled fractions.
        seeds: of labels, order and start.
        rows: at most so many for probes and label spreading.
        out: where runs and results are kept.
        command: that makes the table.
    """

    settings: dict[str, Any]
    unlabelled: dict[str, Any]
    contestants: Sequence[Contestant]
    fractions: Sequence[float]
    seeds: Sequence[int]
    rows: int
    out: Path
    command: str

    def cells(self) -> Iterator[Place]:
        """All cells; fraction 0 is the training without labels."""
        for seed in self.seeds:
            for one in self.contestants:
                if one.learns_without_labels:
                    yield one, 0.0, seed
                if one.learns_from_labels:
                    for fraction in self.fractions:
                        yield one, fraction, seed

    def settings_of(self, one: Contestant, fraction: float, seed: int) -> dict[str, Any]:
        """Flat settings of a cell."""
        common = self.settings if fraction else self.unlabelled
        return one.settings({**common, "train.labelled_fraction": fraction, "train.seed": seed})

    def path(self, name: str, fraction: float, seed: int) -> Path:
        """Where a cell is kept."""
        return self.out / "cells" / f"{name}-{fraction:g}-{seed}.json"


def compute(asked: Comparison, minutes: float | None, concurrent: int, say: Say) -> tuple[list[Cell], list[str]]:
    """The cells that are done, and the names of those that are not; computes missing ones while there is time.

    Args:
        asked: the comparison.
        minutes: nothing new is begun afterwards; None = to the end.
        concurrent: cells at a time.
        say: told what is being done.

    Raises:
        UserError: cells in `out` are of other settings.
        Exception: that of a cell; those that run beside it are finished and kept first.
    """
    from pipeline.prepared.shards import Dataset

    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    data = Dataset.open(asked.settings["data.path"]).manifest_hash
    places = list(asked.cells())
    for place in places:  # cells of other settings are refused before anything is computed
        _kept(asked, place, data)

    over = threading.Event()  # an error, or an interruption: nothing new is begun

    def completed(number: int, place: Place) -> Cell | None:
        cell = _kept(asked, place, data)
        if not _lacks(cell, place, asked) or time.monotonic() > end or over.is_set():
            return cell
        one, fraction, seed = place
        say(f"{number} of {len(places)}: {one.name}, {fraction:g} of the labels, seed {seed}")
        try:
            made = _in_its_own_process(asked, place)
        except BaseException:
            over.set()
            raise
        cell = _joined(cell, {**made, "settings": _settings(asked, place, data)})
        path = asked.path(one.name, fraction, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(cell, indent=1).encode())
        return cell

    with children_outlive_terminal():
        resource_tracker.ensure_running()  # of all processes; it would be begun in a thread, where SIGHUP is not ours
    with ThreadPoolExecutor(concurrent) as threads:
        try:
            found = list(threads.map(completed, range(1, len(places) + 1), places))
        except KeyboardInterrupt:
            over.set()
            for child in multiprocessing.active_children():
                child.terminate()
            raise KeyboardInterrupt("Finished cells are kept; the same command goes on.") from None
    missing = [
        asked.path(place[0].name, *place[1:]).stem
        for place, cell in zip(places, found, strict=True)
        if _lacks(cell, place, asked)
    ]
    return [cell for cell in found if cell is not None], missing


def _settings(asked: Comparison, place: Place, data: str) -> dict[str, Any]:
    """What a cell depends on, as it is kept beside its values."""
    plain = json.loads(json.dumps(asked.settings_of(*place), default=str))
    return {**plain, "rows": asked.rows, "manifest_hash": data}


def _kept(asked: Comparison, place: Place, data: str) -> Cell | None:
    """The cell that an earlier command left.

    Raises:
        UserError: it is of other settings.
    """
    from pipeline.errors import must

    one, fraction, seed = place
    path, now = asked.path(one.name, fraction, seed), _settings(asked, place, data)
    if not path.exists():
        return None
    cell: Cell = json.loads(path.read_text(encoding="utf-8"))
    for key in sorted(now.keys() | cell["settings"].keys()):
        before, given = cell["settings"].get(key), now.get(key)
        known = before is not None or key != "manifest_hash"  # cells of earlier versions have none
        if known and before != given and not key.startswith(("cluster.", "tracking.")):
            raise must(key, f"{before!r} to go on with {path}", given, remedy="Give another --out to start anew.")
    return cell


def _lacks(cell: Cell | None, place: Place, asked: Comparison) -> bool:
    """Whether there is no cell, or one whose classifier on frozen features was not asked about all fractions."""
    if cell is None or place[0].learns_from_labels:
        return cell is None
    return not {f"{share:g}" for share in asked.fractions} <= cell["accuracy"].keys()


def _joined(before: Cell | None, cell: Cell) -> Cell:
    """The cell with what is known already: cost, which is that of the training, and other fractions."""
    if before is None:
        return cell
    cost = {name: before[name] for name in ("seconds", "memory_bytes")}
    return {**cell, **cost, "accuracy": {**before["accuracy"], **cell["accuracy"]}}


def _in_its_own_process(asked: Comparison, place: Place) -> Cell:
    """So that the peak of its memory is its own; whoever stops this process stops that one too."""
    one, fraction, seed = place
    folder = asked.out / "runs" / f"{one.name}-{fraction:g}-{seed}"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        task = one, asked.settings_of(*place), folder, asked.fractions, asked.rows
        cell = pool.submit(_measured, os.getpid(), *task)
        return {"contestant": one.name, "fraction": fraction, "seed": seed, **cell.result()}


def _measured(parent: int, *arguments: Any) -> dict[str, Any]:
    """`measure` in a process of its own, which saves its state when it is told to end, or its parent is gone."""
    _hear_signals()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        return measure(*arguments)
    except KeyboardInterrupt:
        if os.getppid() != parent:
            os._exit(1)  # nobody waits for the answer
        raise


def _hear_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP interrupt; one that follows another at once does not interrupt what that one does.

    A terminal that is closed, or Ctrl-C in it, tells this process and its parent, which passes it on.
    """
    heard = -math.inf

    def interrupt(number: int, frame: object) -> None:
        nonlocal heard
        if time.monotonic() - heard > _AT_ONCE_S:
            heard = time.monotonic()
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, interrupt)


def _end_with(parent: int) -> None:
    """Ends this process when its parent was killed: again and again, for what is saved is not to be hurried."""
    while os.getppid() == parent:
        time.sleep(1)
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3 * _AT_ONCE_S)


def measure(
    one: Contestant, settings: dict[str, Any], place: Path, fractions: Sequence[float], rows: int
) -> dict[str, Any]:
    """One cell: trains (or goes on, or finds it done) and measures.

    Returns:
        accuracy (by fraction: of the trained model, or of a linear classifier on frozen features), the measures of
        clusters and features for trainings without labels, seconds, memory_bytes, parameters, nodes.
    """
    import torch

    from pipeline.comparison import measures as of
    from pipeline.deep.user_encoder import allow
    from pipeline.prepared.shards import Dataset
    from pipeline.serving.trained import Trained
    from pipeline.training.rundir import RunDirectory
    from pipeline.training.trainer import train

    torch.set_num_threads(1)
    allow(settings.get("encoder.name", ""))  # of a cell that is trained already, too
    dataset = Dataset.open(settings["data.path"])
    fraction, seed = settings["train.labelled_fraction"], settings["train.seed"]
    withheld = settings.get("train.validation_fraction", 0.0)
    if not one.model:
        began = time.monotonic()
        found = of.spreading(dataset, of.kept(dataset, fraction, withheld, seed), seed, rows)
        spent = {"seconds": time.monotonic() - began, "memory_bytes": of.peak_memory_bytes()}
        return of.rounded({"accuracy": {f"{fraction:g}": round(found, 6)}, **spent})
    record = RunDirectory(place).record
    summary = record.get("summary") or train(settings, place, resume=bool(record))
    values: dict[str, Any] = {"seconds": summary["seconds"], "memory_bytes": of.peak_memory_bytes()}
    values |= {"parameters": of.num_parameters(place), "nodes": summary["nodes"], "digest": summary["map_digest"]}
    trained = Trained.load(place)
    if fraction:
        values["accuracy"] = {f"{fraction:g}": summary["accuracy"]}
        return of.rounded(values)
    values |= of.cluster_measures(trained, dataset) | of.feature_measures(trained, dataset, seed, rows)
    if not one.learns_from_labels:
        kept = {share: of.kept(dataset, share, withheld, seed) for share in fractions}
        few = {f"{share:g}": of.linear_on_few(trained, dataset, kept[share], seed, rows) for share in fractions}
        values["accuracy"] = {share: round(value, 6) for share, value in few.items()}
    return of.rounded(values)
