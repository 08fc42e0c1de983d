"""Batches to parquet shards, row group by row group, with the tallies of the manifest.

Axes: N rows, D features, C classes. The files depend on the rows and their order only, not on how the source cut
them into batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, must
from pipeline.prepared.manifest import Manifest, ShardFile, Split, sha256_file
from pipeline.sources.base import Batch, SourceSpec, Undecoded
from pipeline.sources.checks import SPLITS
from somcore.config import UNLABELLED

SHARD_BYTES = 16 << 20
_GROUP_BYTES = 1 << 20
_GROUP_ROWS = 64  # at least, unless these are more than a shard
_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How a data set is written.

    Args:
        overwrite: replace another prepared data set at the same place.
        drop_invalid: leave out rows with NaN or infinite values, and what cannot be decoded, instead of failing.
        missing: "error", or "mask" to keep NaN as missing values.
        rows_per_shard: None = shards of about 16 MB before compression.
    """

    overwrite: bool = False
    drop_invalid: bool = False
    missing: str = "error"
    rows_per_shard: int | None = None

    def __post_init__(self) -> None:
        if self.missing not in ("error", "mask"):
            raise must("--missing", "error or mask", self.missing)
        if self.rows_per_shard is not None and self.rows_per_shard < 1:
            raise must("--rows-per-shard", ">= 1", self.rows_per_shard)


class DataSetWriter:
    """Batches to shards, with the tallies of the manifest.

    Args:
        directory: an empty directory.
        spec: of the source.
        options: see `PrepareOptions`.
    """

    def __init__(self, directory: Path, spec: SourceSpec, options: PrepareOptions) -> None:
        self._spec, self._options, self._directory = spec, options, directory
        row_bytes = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        least = max(1, min(_GROUP_ROWS, SHARD_BYTES // row_bytes))
        self._group = int(np.clip(_GROUP_BYTES // row_bytes, least, 16_384))
        whole_groups = max(1, SHARD_BYTES // (row_bytes * self._group))
        self._rows_per_shard = options.rows_per_shard or self._group * whole_groups
        self._group = min(self._group, self._rows_per_shard)
        self._splits: dict[str, _SplitWriter] = {}
        self._low = np.full(spec.shape, np.inf, dtype=np.float64)
        self._high = np.full(spec.shape, -np.inf, dtype=np.float64)
        self._dropped = 0
        self._left_out: list[str] = []

    def add(self, batch: Batch) -> None:
        """Write a batch.

        Raises:
            DataError: a value is NaN or infinite, and options do not allow it.
        """
        if batch.features.dtype.kind == "f":
            batch = self._valid(batch)
        if len(batch.labels) == 0:
            return
        if self._spec.kind == "table" and batch.split == "train":
            self._low = np.fmin(self._low, np.fmin.reduce(batch.features, axis=0))
            self._high = np.fmax(self._high, np.fmax.reduce(batch.features, axis=0))
        if batch.split not in self._splits:
            self._splits[batch.split] = _SplitWriter(
                self._directory, batch.split, self._spec, self._rows_per_shard, self._group
            )
        self._splits[batch.split].add(batch)

    def _valid(self, batch: Batch) -> Batch:
        """Without invalid rows, or an error that names the first of them."""
        features = batch.features.reshape(len(batch.features), math.prod(self._spec.shape))
        bad = np.isinf(features) if self._options.missing == "mask" else ~np.isfinite(features)
        if not bad.any():
            return batch
        rows = bad.any(axis=1)
        if self._options.drop_invalid:
            self._dropped += int(rows.sum())
            return batch.pick(~rows)
        row = int(np.argmax(rows))
        column = int(np.argmax(bad[row]))
        names = self._spec.feature_names or tuple(f"x{i}" for i in range(bad.shape[1]))
        missing = bool(np.isnan(features[row, column]))
        value, remedy = ("NaN", ", or --missing mask") if missing else ("infinite", "")
        raise DataError(
            f"{batch.place}: row {batch.rows[row]} of column '{names[column]}' is {value}. "
            f"Clean it or pass --drop-invalid{remedy}.",
            row=int(batch.rows[row]),
            column=names[column],
        )

    def leave_out(self, sample: Undecoded) -> None:
        """Count a sample that cannot be decoded.

        Raises:
            UnreadableSample: options do not allow it.
        """
        if not self._options.drop_invalid:
            raise sample.error
        self._dropped += 1
        if len(self._left_out) < _NAMED:
            self._left_out.append(sample.name)

    def finish(self, identity: dict[str, Any], provenance: dict[str, Any]) -> Manifest:
        """Close the files and describe them.

        Raises:
            DataError: no training row is left.
        """
        spec, classes = self._spec, len(self._spec.class_names)
        splits = {name: writer.finish() for name, writer in self._splits.items()}
        if "train" not in splits:
            got = "every row was invalid and dropped" if self._dropped else f"only {', '.join(splits) or 'nothing'}"
            raise DataError(f"The train split must hold at least one row. Got {got}.")
        splits.setdefault("test", Split(class_histogram=(0,) * classes))
        statistics: dict[str, Any] = {}
        if spec.kind == "table":
            never_seen = ~np.isfinite(self._low)  # a column of missing values only
            low, high = np.where(never_seen, 0.0, self._low), np.where(never_seen, 0.0, self._high)
            names = spec.feature_names or tuple(f"x{i}" for i in range(len(low)))
            statistics = {
                "feature_names": names,
                "feature_min": tuple(low.tolist()),
                "feature_max": tuple(high.tolist()),
                "constant_features": tuple(names[i] for i in np.flatnonzero(low == high)),
            }
        return Manifest(
            source=identity,
            kind=spec.kind,
            shape=spec.shape,
            dtype=spec.dtype,
            class_names=spec.class_names,
            splits={name: splits[name] for name in sorted(splits, key=SPLITS.index)},
            missing=self._options.missing,
            value_range=spec.value_range,
            dropped_count=self._dropped,
            row_group_size=self._group,
            details=spec.details,
            provenance={**provenance, **({"left_out": self._left_out} if self._left_out else {})},
            **statistics,
        )


@dataclass
class _SplitWriter:
    """One split: rows to row groups to files."""

    directory: Path
    split: str
    spec: SourceSpec
    rows_per_shard: int
    group: int

    def __post_init__(self) -> None:
        self.files: list[ShardFile] = []
        self.histogram = np.zeros(len(self.spec.class_names), dtype=np.int64)
        self.unlabelled = 0
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._rows = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, batch: Batch) -> None:
        """Take the samples of a batch, and write the row groups that are full."""
        labelled = batch.labels[batch.labels != UNLABELLED]
        self.histogram += np.bincount(labelled, minlength=len(self.histogram))
        self.unlabelled += len(batch.labels) - len(labelled)
        self._waiting.append((batch.features, batch.labels, batch.keys))
        self._flush(final=False)

    def finish(self) -> Split:
        """Write what is left and describe the split."""
        self._flush(final=True)
        self._close()
        return Split(
            num_samples=sum(file.rows for file in self.files),
            class_histogram=tuple(self.histogram.tolist()),
            unlabelled_count=self.unlabelled,
            files=tuple(self.files),
        )

    def _flush(self, final: bool) -> None:
        """Write full row groups, at the end also a shorter one: independent of the cut into batches."""
        count = sum(len(labels) for _, labels, _ in self._waiting)
        if count == 0 or (count < self._next_group() and not final):
            return
        parts = [np.concatenate(column) for column in zip(*self._waiting, strict=True)]
        start = 0
        while start < count and (final or count - start >= self._next_group()):
            stop = min(start + self._next_group(), count)
            self._write(*(part[start:stop] for part in parts))
            start = stop
        features, labels, keys = (part[start:].copy() for part in parts)
        self._waiting = [(features, labels, keys)]

    def _next_group(self) -> int:
        return min(self.group, self.rows_per_shard - self._rows)

    def _write(self, features: np.ndarray, labels: np.ndarray, keys: np.ndarray) -> None:
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(features))
        key_type = pa.int64() if keys.dtype.kind in "iu" else pa.string()
        arrays = [tensors, pa.array(labels, pa.int64()), pa.array(keys, key_type)]
        table = pa.table(arrays, names=["features", "label", "key"])
        if self._writer is None:
            path = self.directory / self.split / f"part-{len(self.files):05d}.parquet"
            path.parent.mkdir(exist_ok=True)
            self._writer = pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=False)
        self._writer.write_table(table, row_group_size=self.group)
        self._rows += len(labels)
        if self._rows >= self.rows_per_shard:
            self._close()

    def _close(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        path = self.directory / self.split / f"part-{len(self.files):05d}.parquet"
        name = path.relative_to(self.directory).as_posix()
        self.files.append(ShardFile(name, self._rows, path.stat().st_size, sha256_file(path)))
        self._writer, self._rows = None, 0
