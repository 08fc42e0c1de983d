"""Prepared data for training: any rows of a split, in any order, without holding the split in memory.

Axes: N rows of a split, n rows of a read, D features, C classes. Parquet is compressed and read by row groups, which
is too slow for rows in random order. So the first process that reads a split unpacks it once into a flat file (a
cache, see `pipeline.prepared.cache`), from which every row is one position away. Small splits are mapped into memory;
large ones are read row by row with `pread`, because the pages of a map count as resident memory of every worker, and
one touch of a map can make many megabytes resident (measured: over 256 MB for 512 rows of a 1.3 GB file).
"""

from __future__ import annotations

import copy
import mmap
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.places import Place
from pipeline.prepared.cache import cached_split
from pipeline.prepared.manifest import Manifest, Split, verify
from pipeline.prepared.scaling import Scaling

MAP_BYTES = 128 << 20
Indices = torch.Tensor | np.ndarray | Sequence[int] | slice


class Dataset:
    """A prepared data set, opened for reading. Cheap to send to another process: it is opened again there.

    Use `Dataset.open`.
    """

    def __init__(self, place: Place, manifest: Manifest) -> None:
        self.place = place
        self.manifest = manifest
        self.scaling = Scaling.of(manifest)
        self._order: list[int] | None = None  # of the columns; None = as stored
        self._open_splits: dict[str, _FlatSplit] = {}

    @classmethod
    def open(cls, directory: str | Path, hashes: bool = False) -> Dataset:
        """Open a data set and check its files.

        Args:
            directory: as given to `prepare`, or the URI of a copy on another filesystem, of which a local one is kept.
            hashes: also compare the sha256 of every file now; without it the content is compared when a split is
                unpacked, presence and sizes always.

        Raises:
            ManifestError: not a prepared data set, or its files are not those of the manifest.
        """
        place = Place.of(directory)
        manifest = Manifest.load(place)
        verify(place, manifest, hashes)
        return cls(place, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset.open, (self.place.name,), {"scaling": self.scaling, "_order": self._order}

    def seen_as(self, scaling: Scaling, order: Sequence[int]) -> Dataset:
        """The same rows of a table as `read` gives them to a model of other data.

        Args:
            scaling: of the data that the model was trained on.
            order: (D,) which of the columns here is first there, second, and so on.
        """
        other = copy.copy(self)
        other.scaling, other._order = scaling, list(order)
        return other

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold rows."""
        return tuple(name for name, split in self.manifest.splits.items() if split.num_samples)

    @property
    def num_features(self) -> int:
        """D."""
        return self.manifest.num_features

    @property
    def num_classes(self) -> int:
        """C; 0 if nothing is labelled."""
        return self.manifest.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their codes."""
        return self.manifest.class_names

    @cached_property
    def manifest_hash(self) -> str:
        """sha256 of what the data set holds; equal for equal data, wherever they lie."""
        return self.manifest.digest

    def num_samples(self, split: str) -> int:
        """N of a split; 0 for one that is not there."""
        return self.manifest.splits.get(split, Split()).num_samples

    def num_labelled(self, split: str) -> int:
        """Rows of a split that have a class."""
        return sum(self.manifest.splits.get(split, Split()).class_histogram)

    def labels(self, split: str) -> torch.Tensor:
        """All labels of a split: (N,) int64, -1 = unlabelled. Do not change it."""
        return self._flat(split).labels

    def read(self, split: str, indices: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and labels of any rows.

        Args:
            split: "train", "test" or "validation".
            indices: (n,) row numbers in [0, N), or a slice; repeats and any order are fine.

        Returns:
            Features (n, D) float32, scaled to [0, 1] (see `pipeline.prepared.scaling`), and labels (n,) int64. NaN
            stands only in data sets prepared with `--missing mask`.

        Raises:
            IndexError: a row number out of range.

        Example:
            >>> import tempfile; from pipeline.prepare import prepare; from pipeline.sources import open_source
            >>> with tempfile.TemporaryDirectory() as scratch:
            ...     _ = prepare(open_source("digits"), f"{scratch}/digits")
            ...     Dataset.open(f"{scratch}/digits").read("train", [3, 1])[0].shape
            torch.Size([2, 64])
        """
        rows = self._rows(split, indices)
        flat = self._flat(split)
        raw = flat.rows(rows)
        return self.scaling(raw if self._order is None else raw[:, self._order]), flat.labels[torch.from_numpy(rows)]

    def ahead(self, split: str, indices: Indices) -> None:
        """Says which rows are read next: a thread reads them meanwhile, and they are not waited for."""
        self._flat(split).ahead(self._rows(split, indices))

    def read_raw(self, split: str, indices: Indices) -> torch.Tensor:
        """Samples as stored: (n, C, H, W) uint8 images, (n, S) int16 recordings, (n, D) float32 tables."""
        return torch.from_numpy(self._flat(split).rows(self._rows(split, indices)))

    def row_in_words(self, row: int) -> str:
        """Where a row of the training split is from, for errors."""
        before = 0
        for shard in self.manifest.splits["train"].files:
            if row < before + shard.rows:
                return f"row {row} of the training split (row {row - before} of shard '{shard.path}')"
            before += shard.rows
        return f"row {row} of the training split"

    def _rows(self, split: str, indices: Indices) -> np.ndarray:
        count = self.num_samples(split)
        if isinstance(indices, slice):
            return np.arange(*indices.indices(count), dtype=np.int64)
        rows = np.asarray(indices, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= count):
            bad = int(rows.min() if rows.min() < 0 else rows.max())
            raise IndexError(f"Row of split '{split}' must be in [0, {count}). Got {bad}.")
        return rows

    def _flat(self, split: str) -> _FlatSplit:
        if split not in self._open_splits:
            self._open_splits[split] = _FlatSplit(self.place, self.manifest, split)
        return self._open_splits[split]


class _FlatSplit:
    """The unpacked rows of one split."""

    def __init__(self, place: Place, manifest: Manifest, split: str) -> None:
        self._dtype, self._shape = np.dtype(manifest.dtype), manifest.shape
        self._row_bytes = manifest.num_features * self._dtype.itemsize
        self._reader: ThreadPoolExecutor | None = None  # one thread, from the first rows on that are told ahead
        self._coming: list[tuple[np.ndarray, Future[np.ndarray]]] = []  # the last two that were told
        count = manifest.splits.get(split, Split()).num_samples
        self.labels = torch.empty(0, dtype=torch.int64)
        self._mapped: np.ndarray | None = np.empty((0, *self._shape), dtype=self._dtype)
        if count == 0:
            return
        path = cached_split(place, manifest, split)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the object
        # Labels are mapped, too: a copy would be private memory of every worker. "c": nobody can write the file.
        labels = np.memmap(path, dtype=np.int64, mode="c", offset=count * self._row_bytes, shape=(count,))
        self.labels = torch.from_numpy(labels)
        if count * self._row_bytes <= MAP_BYTES:
            whole = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
            values = np.frombuffer(whole, dtype=self._dtype, count=count * manifest.num_features)
            self._mapped = values.reshape(count, *self._shape)
        else:
            self._mapped = None

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """(n, *shape): a copy of the rows."""
        if self._mapped is not None:
            return self._mapped[rows]
        for told, future in self._coming:
            if np.array_equal(told, rows):
                self._coming = [other for other in self._coming if other[1] is not future]
                return future.result()
        return self._fetched(rows)

    def ahead(self, rows: np.ndarray) -> None:
        """Begins to read rows, for the next call of `rows` that asks for them."""
        if self._mapped is None:
            self._reader = self._reader or ThreadPoolExecutor(1, thread_name_prefix="reads-ahead")
            self._coming = [*self._coming[-1:], (rows, self._reader.submit(self._fetched, rows))]

    def _fetched(self, rows: np.ndarray) -> np.ndarray:
        """All wishes first: a disk that gets many of them at once is several times faster (0007)."""
        fd, size = self._file.fileno(), self._row_bytes
        runs = [(first * size, length * size) for first, length in _runs(rows)]
        for offset, length in runs if hasattr(os, "posix_fadvise") else ():  # macOS has none
            os.posix_fadvise(fd, offset, length, os.POSIX_FADV_WILLNEED)
        found, done = np.empty((len(rows), *self._shape), dtype=self._dtype), 0
        with found.reshape(-1).view(np.uint8).data as room:
            for offset, length in runs:
                end = done + length
                while done < end:  # one call reads at most 2 GiB
                    done += (read := os.preadv(fd, [room[done:end]], offset + length - (end - done)))
                    assert read, "the cache ends before its last row"
        return found


def _runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """First row and length of each run of consecutive rows: one read each."""
    breaks = np.flatnonzero(rows[1:] != rows[:-1] + 1) + 1
    starts = np.concatenate(([0], breaks))[: len(rows)]
    lengths = np.concatenate((breaks, [len(rows)]))[: len(rows)] - starts
    return zip(rows[starts].tolist(), lengths.tolist(), strict=True)
