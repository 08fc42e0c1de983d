"""Tables of numbers: csv, arff and parquet, in one file or many, with labels and a split.

Axes: N rows, D features, C classes. Two passes: the first reads the label, split and filter columns (the classes,
and which rows are test rows), the second all of them. In memory are one batch and four bytes per row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, UserError, must, some
from pipeline.sources.base import (
    BELOW,
    Batch,
    SourceOptions,
    SourceSpec,
    by_split,
    required_root,
    rows_for_test,
    split_name,
)
from pipeline.sources.checks import check_columns
from pipeline.sources.classes import ClassIndex
from pipeline.sources.columns import distinct, filters, matching, named, passing, plain, refuse_missing_keys, truths
from pipeline.sources.folders import splits_in_names
from pipeline.sources.precision import Precision
from pipeline.sources.readers import TableFile, open_table, table_files, tables_below
from somcore.config import UNLABELLED

_INDEX = ("", "Unnamed: 0", "__index_level_0__")  # what pandas writes for the index of a table
_ROLES = ("label_column", "split_column", "key_column", "labelled_column")
_OPTIONS = (
    "label_column",
    "unlabelled_value",
    "split_column",
    "test_fraction",
    "seed",
    "where",
    "feature_columns",
    "exclude_columns",
    "key_column",
    "labelled_column",
    "delimiter",
    "header",
)


class Table:
    """A table whose rows are samples.

    Args:
        root: a csv, arff or parquet file, or a folder of such files: without a split column, those named train... and
            test... are these splits.
        options: see `SourceOptions`.

    Attributes:
        not_read: tables in subfolders (`which_not_read`), by ending.

    Raises:
        UserError: an option or the data cannot be used; the message says which and why.
    """

    name, which_not_read = "table", BELOW

    def __init__(self, root: Path | None, options: SourceOptions) -> None:
        options.only(self.name, *_OPTIONS)
        if options.split_column and options.test_fraction is not None:
            raise UserError("--split-column and --test-fraction exclude each other. Pass one of them.")
        if options.unlabelled_value is not None and options.label_column is None:
            raise UserError("--unlabelled-value must come with --label-column. Name the column of the labels too.")
        root = required_root(root, self.name)
        paths, self.not_read = table_files(root), tables_below(root)
        self._files = [open_table(path, options.delimiter, options.header) for path in paths]
        self._columns = self._files[0].columns
        check_columns(self._files)
        self._where = {named(self._columns, column): value for column, value in filters(options.where).items()}
        given = {option: getattr(options, option) for option in _ROLES}
        roles: dict[str, Any] = {option: named(self._columns, v) for option, v in given.items() if v is not None}
        self.options = options = dataclasses.replace(options, **roles)
        for option, column in roles.items():
            self._require("--" + option.replace("_", "-"), column)
        for column in self._where:
            self._require("--where", column)
        self._features = self._choose_features()
        self.precision = Precision(self._features)
        self._classes = ClassIndex(options.unlabelled_value, f"Label column '{options.label_column}'")
        self._is_test: np.ndarray | None = None
        by_names = options.split_column is None and options.test_fraction is None
        self._split_of = splits_in_names(paths) if by_names and len(paths) > 1 else {}
        if len(set(self._split_of.values())) == 1:
            self._split_of = {}  # the parts of a table that has no split
        self._first_pass()
        self.spec = SourceSpec(
            kind="table",
            shape=(len(self._features),),
            dtype="float32",
            class_names=self._classes.names,
            feature_names=tuple(self._features),
            files=tuple(paths),
        )

    def batches(self) -> Iterator[Batch]:
        """All rows that pass --where, in the order of the files."""
        options, seen = self.options, 0
        text = [options.label_column, options.split_column, options.key_column, options.labelled_column]
        columns = list(dict.fromkeys([*self._features, *(name for name in text if name is not None), *self._where]))
        for shard, file in enumerate(self._files):
            place = f"Shard {shard} ({file.path.name})"
            for part, rows in self._filtered(file, columns, self._features, self.spec.rows_per_batch):
                labels = np.full(len(rows), UNLABELLED, dtype=np.int64)
                if options.label_column:
                    labels = self._classes.encode(part[options.label_column], place)
                splits = self._splits(part, file, seen)
                if options.labelled_column:
                    labelled = truths(part[options.labelled_column], "--labelled-column", place)
                    labels[~labelled & (splits == "train")] = UNLABELLED
                batch = Batch(
                    features=self._matrix(part, splits == "train"),
                    labels=labels,
                    keys=self._keys(part, rows, place, seen),
                    rows=rows,
                    split="train",
                    place=place,
                )
                seen += len(rows)
                yield from by_split(batch, splits)

    def _first_pass(self) -> None:
        """Classes; which filtered rows are test rows; whether any row is left."""
        options, seen = self.options, 0
        columns = list(dict.fromkeys([*filter(None, [options.label_column]), *self._where]))
        seeded = options.split_column is None and options.test_fraction != 0 and not self._split_of
        provisional: list[np.ndarray] = []
        for file in self._files:
            for part, rows in self._filtered(file, columns or self._features[:1], (), 1 << 16):
                seen += len(rows)
                if options.label_column:
                    codes = self._classes.add(part[options.label_column])
                    provisional.extend([codes] if seeded else [])
        if seen == 0:
            raise DataError(self._nothing_left())
        final = self._classes.finish()
        if self._classes.lacks_unlabelled and self._where:  # rows of other folds may have it
            for file in self._files:
                for batch in file.batches([str(options.label_column)]):
                    self._classes.look(batch[str(options.label_column)])
        self._classes.refuse_absent()
        if seeded:
            if options.label_column:
                labels = final[np.concatenate(provisional)]
            else:
                labels = np.full(seen, UNLABELLED, dtype=np.int64)
            self._is_test = rows_for_test(labels, options)

    def _filtered(
        self, file: TableFile, columns: list[str], numbers: Any, size: int
    ) -> Iterator[tuple[dict[str, pa.Array], np.ndarray]]:
        """Columns by name and row numbers in the file, of the rows that pass --where."""
        start = 0
        for batch in file.batches(columns, numbers, size):
            rows = np.arange(start, start + batch.num_rows, dtype=np.int64)
            start += batch.num_rows
            if self._where:
                mask = passing(batch, self._where)
                batch, rows = batch.filter(pa.array(mask)), rows[mask]
            if len(rows):
                yield {name: batch[name] for name in batch.schema.names}, rows

    def _splits(self, part: dict[str, pa.Array], file: TableFile, seen: int) -> np.ndarray:
        count = len(next(iter(part.values())))
        if self.options.split_column:
            encoded = pc.dictionary_encode(plain(part[self.options.split_column]))
            where = f"Split column '{self.options.split_column}'"
            names = np.array([split_name(v, where) for v in encoded.dictionary.to_pylist()], dtype=object)
            if encoded.indices.null_count:
                raise DataError(f"{where} must name a split in every row. Got a missing value.")
            return names[encoded.indices.to_numpy(zero_copy_only=False)]
        if self._is_test is None:
            return np.full(count, self._split_of.get(file.path, "train"), dtype=object)
        return np.where(self._is_test[seen : seen + count], "test", "train").astype(object)

    def _matrix(self, part: dict[str, pa.Array], training: np.ndarray) -> np.ndarray:
        """(n, D) float32; a missing value is NaN, a number too large for float32 is infinite."""
        matrix = np.empty((len(part[self._features[0]]), len(self._features)), dtype=np.float32)
        with np.errstate(over="ignore"):
            for index, name in enumerate(self._features):
                column = part[name]
                if not pa.types.is_floating(column.type):
                    column = pc.cast(column, pa.float64(), safe=False)
                exact = column.to_numpy(zero_copy_only=False)
                matrix[:, index] = exact
                self.precision.add(index, exact, matrix[:, index], training)
        return matrix

    def _keys(self, part: dict[str, pa.Array], rows: np.ndarray, place: str, seen: int) -> np.ndarray:
        if self.options.key_column is None:
            return rows if len(self._files) == 1 else np.arange(seen, seen + len(rows), dtype=np.int64)
        column = part[self.options.key_column]
        refuse_missing_keys(column, self.options.key_column, place)
        if pa.types.is_integer(column.type):
            keys = column.to_numpy(zero_copy_only=False)
            if int(keys.max()) > np.iinfo(np.int64).max:
                raise must("key", "below 2^63", int(keys.max()), where=place, remedy="Make text of the column.")
            return keys.astype(np.int64)
        return np.array([str(value) for value in column.to_pylist()], dtype=object)

    def _choose_features(self) -> list[str]:
        options = self.options
        roles = {options.label_column, options.split_column, options.key_column, options.labelled_column}
        wanted = matching(self._columns, options.feature_columns, "--feature-columns")
        left_out = matching(self._columns, options.exclude_columns, "--exclude-columns")
        chosen = [
            name
            for name in self._columns
            if name not in roles
            and name not in left_out
            and (name in wanted if wanted else name not in self._where and name not in _INDEX)
        ]
        odd = [(name, f) for name in chosen for f in self._files if f.columns[name] not in ("number", "truth")]
        if odd:
            name, file = odd[0]
            others = [repr(other) for other in dict(odd) if other != name]
            raise DataError(
                f"Column '{name}' must hold numbers to be a feature. It holds {file.held_by(name)}. "
                + (f"The same goes for {some(others, 20)}. " if others else "")
                + f"{self._roles_left()} it out with --exclude-columns, or make numbers of it (docs/data.md, Values)."
            )
        if not chosen:
            raise DataError("At least one column must be a feature. None is left by the given options.")
        return chosen

    def _roles_left(self) -> str:
        roles = {"--label-column": self.options.label_column, "--key-column": self.options.key_column}
        left = " or ".join(option for option, column in roles.items() if column is None)
        return f"Name it {left}, leave" if left else "Leave"

    def _require(self, option: str, column: str | None) -> None:
        if column is not None and column not in self._columns:
            raise UserError(
                f"{option} must be a column of the table. Got '{column}'. "
                f"The columns are: {', '.join(list(self._columns)[:20])}."
                + " Pass --delimiter if these are several."
                * (len(self._columns) == 1)
            )

    def _nothing_left(self) -> str:
        names = ", ".join(file.path.name for file in self._files[:3])
        if not self._where:
            return f"{names} is empty. It must hold at least one row."
        seen: dict[str, list[str]] = {}
        for column in self._where:
            values: set[str] = set()
            for file in self._files:
                for batch in file.batches([column]):
                    values |= set(distinct(batch[column]))
            seen[column] = sorted(values)[:10]
        found = "; ".join(f"{column} has {', '.join(values) or 'no values'}" for column, values in seen.items())
        return f"--where must leave at least one row of {names}. {self.options.where!r} leaves none: {found}."
