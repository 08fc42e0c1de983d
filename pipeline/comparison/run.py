"""A comparison from settings to files: cells, tables, page, the record in MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.comparison.cells import Comparison, Say, compute
from pipeline.comparison.contestants import contestants
from pipeline.comparison.page import Page
from pipeline.errors import must
from pipeline.places import alone_in, write_atomically
from pipeline.prepared.shards import Dataset
from pipeline.tracking.stores import URI, bare
from pipeline.tracking.tracker import Tracker
from pipeline.training.checkpoint import refuse_shared

NAME = "comparison"


@dataclass(frozen=True)
class Wish:
    """What the user asked for.

    Attributes:
        models: names, see `contestants.NAMES`.
        unlabelled: common flat keys of trainings without labels; None = those of the others.
        own: settings of single models, NAME:key=value.
        fractions: labelled fractions in (0, 1].
        seeds: of labels, order and start.
        rows: at most so many for probes and label spreading.
        reference: against whom differences are tested; None = the first model.
        minutes: nothing new is begun afterwards; None = to the end.
        concurrent: cells at a time.
        command: that makes the table.
    """

    models: Sequence[str]
    unlabelled: Mapping[str, Any] | None
    own: Sequence[str]
    fractions: Sequence[float]
    seeds: Sequence[int]
    rows: int
    reference: str | None
    minutes: float | None
    concurrent: int
    command: str


def name_of(data: str | Path) -> str:
    """The last part of a directory or URI.

    Example:
        >>> name_of("s3://bucket/data/digits?region=eu-west-1")
        'digits'
    """
    return Path(str(data).partition("?")[0]).name


def compare(data: str | Path, out: str | Path, settings: Mapping[str, Any], wish: Wish, say: Say) -> dict[str, Any]:
    """Compare on one data set; finished cells in `out` are kept, so the same command goes on.

    Args:
        data: directory or URI of a prepared data set with classes, and labels in training and test split.
        out: directory of the comparison.
        settings: common flat keys of `RunConfig`; those of trainings without labels may be others, see `Wish`.
        wish: see `Wish`.
        say: told what is being done.

    Returns:
        table (mean by contestant and column), missing (cells), markdown and page (paths).

    Raises:
        UserError: a name or number that cannot be; cells of other settings; data without classes or without labelled
            training or test rows; another comparison that runs there.
    """
    out = Path(out)
    for fraction in wish.fractions:
        if not 0 < fraction <= 1:
            raise must("--fractions", "shares in (0, 1]", fraction)
    found = contestants(wish.models, wish.own, settings)
    if wish.reference is not None and wish.reference not in wish.models:
        raise must("--reference", f"one of --models ({', '.join(wish.models)})", wish.reference)
    for flat in (settings, wish.unlabelled or {}, *(one.changes for one in found)):
        refuse_shared(flat)
    _check_labels(data)
    given = (settings, settings if wish.unlabelled is None else wish.unlabelled)
    common, unlabelled = ({"cluster.workers": 0, **_kept(flat), "data.path": str(data)} for flat in given)
    asked = Comparison(common, unlabelled, found, wish.fractions, wish.seeds, wish.rows, out, wish.command)
    with alone_in(out, "a comparison"):
        cells, missing = compute(asked, wish.minutes, wish.concurrent, say)
        page = Page(asked, cells, missing, name_of(data), wish.reference)
        files = {"markdown": out / f"{NAME}.md", "page": out / f"{NAME}.html"}
        for path, text in zip(files.values(), (page.markdown(), page.html()), strict=True):
            write_atomically(path, text.encode())
        _record(out, common, page, list(files.values()), say)
    means = {name: {column: entry.mean for column, entry in row.items()} for name, row in page.table.items()}
    return {"data": str(data), "table": means, "missing": missing, **files}


def _check_labels(data: str | Path) -> None:
    """What every contestant needs: the classifiers on frozen features too."""
    dataset = Dataset.open(data)
    counts = {split: dataset.num_samples(split) for split in ("train", "test") if not dataset.num_labelled(split)}
    lacking = [f"none of {count} {split} rows has a class" for split, count in counts.items()]
    if dataset.num_classes < 2:
        lacking = [f"classes: {', '.join(dataset.class_names) or 'none'}"]
    if lacking:
        needed = "a data set with two or more classes and labelled rows in its training and its test split"
        raise must("--data", needed, f"{data} ({lacking[0]})")


def _kept(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Cells keep their settings on disk: a login in the store's URI goes to their processes by the environment."""
    uri = settings.get("tracking.uri")
    if not uri or bare(uri) == uri:
        return settings
    os.environ[URI] = uri
    return {**settings, "tracking.uri": bare(uri)}


def _record(out: Path, settings: Mapping[str, Any], page: Page, files: Sequence[Path], say: Say) -> None:
    """One run in MLflow for the tables, beside those of the trainings."""
    uri, experiment = settings.get("tracking.uri"), str(settings.get("tracking.experiment", "somgrad"))
    tracker = Tracker(out, uri, experiment, say)
    tracker.start(f"compare-{page.name}", {**settings, "seeds": str(list(page.asked.seeds))}, {"kind": "comparison"})
    for name, row in page.table.items():
        columns = {column.replace("@", "_at_"): entry.mean for column, entry in row.items()}
        tracker.metrics({f"{name}.{column}": value for column, value in columns.items()}, 0)
    for path in files:
        tracker.artifact(path)
    tracker.finish("FINISHED")
