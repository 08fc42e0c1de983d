"""A table that stacks the folds of a cross-validation, prepared as one data set per fold in one directory.

    OUT/folds.json       the names of all
    OUT/rep1-fold1/      a prepared data set: the rows where rep = 1 and fold = 1, with their own split
    OUT/rep1-fold2/      ...

`jobs.sweep --data OUT` takes the directory as one data set with folds.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError, OutputError, must
from pipeline.places import write_atomically
from pipeline.prepare import PrepareOptions, prepare
from pipeline.prepared.manifest import MANIFEST, Manifest
from pipeline.sources import SourceOptions, open_source
from pipeline.sources.base import required_root
from pipeline.sources.columns import as_filter, as_text, filters, named, passing
from pipeline.sources.readers import open_table, table_files

MOST_FOLDS = 1000
FOLDS = "folds.json"


def prepare_folds(
    source: str,
    root: Path | None,
    options: SourceOptions,
    columns: str,
    out: Path,
    writing: PrepareOptions,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Manifest]:
    """Writes a prepared data set for every combination of values of the fold columns.

    Args:
        source: only "table" has columns.
        root: a csv, arff or parquet file, or a folder of such files.
        options: of each fold; a split column says which of its rows are for testing. Folds without a row that passes
            `where` are left out.
        columns: names, separated by commas.
        out: directory of the folds.
        writing: see `PrepareOptions`.
        progress: called with the number of rows read so far.

    Returns:
        Manifests by name of the fold, in order.

    Raises:
        UserError: no such column, too many folds, or what `prepare` refuses.
    """
    names = [name.strip() for name in columns.split(",") if name.strip()]
    if source != "table" or not names:
        raise must("--folds", "names of columns of a table, separated by commas", f"{columns} for {source}")
    if (out / MANIFEST).exists():
        raise OutputError(f"--out must be new, or a folder of folds. '{out}' is a prepared data set. Choose another.")
    manifests: dict[str, Manifest] = {}
    done = 0

    def told(rows: int) -> None:
        if progress:
            progress(done + rows)

    called: dict[str, tuple[str, ...]] = {}
    for values in _combinations(required_root(root, source), names, options):
        fold = "-".join(f"{n}{re.sub(r'[^A-Za-z0-9._]+', '_', v)}" for n, v in zip(names, values, strict=True))
        if fold in called:
            both = f"{', '.join(called[fold])} and {', '.join(values)}"
            raise DataError(f"Values of {', '.join(names)} must differ in letters and digits. Got {both}.")
        called[fold] = values
    asked = {name: value for name, value in filters(options.where).items() if name not in names}
    for fold, values in called.items():
        where = asked | dict(zip(names, values, strict=True))
        one = dataclasses.replace(options, where=",".join(as_filter(*pair) for pair in where.items()))
        opened = open_source(source, root, one)
        if not manifests:
            _claim(out, list(called))
        manifests[fold] = prepare(opened, out / fold, writing, told)
        done += sum(split.num_samples for split in manifests[fold].splits.values())
    return manifests


def _claim(out: Path, names: list[str]) -> None:
    """Writes down which folds there will be, so that a part of them, or of others, is not taken for all."""
    known = folds_in(out) or names
    if known != names and (there := [name for name in known if (out / name).exists()]):
        raise OutputError(f"--out must be new, or a folder of the same folds. '{out}' holds {', '.join(there)}.")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / FOLDS, json.dumps(names).encode())


def folds_in(place: Path) -> list[str] | None:
    """Names of the folds that a folder is to hold; None if nothing says so.

    Raises:
        DataError: the list cannot be read.
    """
    try:
        return [str(name) for name in json.loads((place / FOLDS).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"'{place / FOLDS}' must list the folds. It cannot be read: {error}.") from None


def _combinations(root: Path, names: list[str], options: SourceOptions) -> list[tuple[str, ...]]:
    """Values of the fold columns that occur together in rows that pass --where, in the order of numbers if they are."""
    found: set[tuple[str, ...]] = set()
    where = filters(options.where)
    for path in table_files(root):
        file = open_table(path, options.delimiter, options.header)
        column = {name: named(file.columns, name) for name in (*names, *where)}
        for name in column:
            if column[name] not in file.columns:
                known = ", ".join(list(file.columns)[:20])
                raise must("--folds" if name in names else "--where", f"columns of {path.name} ({known})", name)
        for batch in file.batches(list(dict.fromkeys(column.values()))):
            if where:
                batch = batch.filter(pa.array(passing(batch, {column[name]: value for name, value in where.items()})))
            columns = [[_named(value) for value in batch[column[name]].to_pylist()] for name in names]
            found |= set(zip(*columns, strict=True))
            if len(found) > MOST_FOLDS:
                raise must("--folds", f"columns of at most {MOST_FOLDS} folds", f"more ({', '.join(names)})")
    if not found:
        left = f" where {options.where}" if where else ""
        raise DataError(f"'{root}' must hold at least one row{left}. It holds none.")
    if any(not value for values in found for value in values):
        raise DataError(f"Columns {', '.join(names)} must name a fold in every row. Got a missing value.")
    return sorted(found, key=lambda values: [_order(value) for value in values])


def _named(value: Any) -> str:
    return "" if value is None or value != value else as_text(value)


def _order(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value
