"""Images: folders per class, parquet with encoded images, npz arrays. One image is decoded at a time.

Axes: N images, C channels, H height, W width. Samples are (C, H, W) uint8. The first image sets the size and the
number of channels unless --size and --channels do; an image of another size is an error, never a silent crop, and so
is one whose values 8 bits of gray or RGB do not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError, UnreadableSample, must
from pipeline.sources.base import (
    BELOW,
    Batch,
    SourceOptions,
    Undecoded,
    by_split,
    image_spec,
    rows_for_test,
    split_name,
    unreadable,
)
from pipeline.sources.checks import check_columns
from pipeline.sources.classes import ClassIndex
from pipeline.sources.columns import refuse_missing_keys
from pipeline.sources.decoding import Decoder
from pipeline.sources.folders import FolderListing, splits_in_names
from pipeline.sources.npz import Npz
from pipeline.sources.readers import TableFile, open_table
from somcore.config import UNLABELLED

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
_IMAGE_COLUMNS = ("image", "img", "bytes", "jpeg", "png")
_COMMON = ("test_fraction", "seed", "unlabelled_value")
_ENCODED_ROWS = 32  # encoded images in memory at once: a photo is a few MB, whatever --size makes of it


class ImageFolder:
    """ROOT/class/image, or ROOT/train/class/image with ROOT/test/class/image."""

    name = "images"

    def __init__(self, root: Path, options: SourceOptions) -> None:
        options.only("images in folders", *_COMMON, "size", "channels")
        self.options = options
        self._listing = FolderListing(root, _SUFFIXES, options)
        self.not_read = self._listing.not_read
        shape = self._listing.first(lambda path: Decoder(options)(path, str(path))).shape
        self.spec = image_spec(shape, self._listing.names, self._listing.files)

    def batches(self) -> Iterator[Batch | Undecoded]:
        """All images, in the order of their paths."""
        decode = Decoder(self.options, self.spec.shape)
        yield from self._listing.batches(lambda path: decode(path, str(path)), self.spec.rows_per_batch, "Images")


class ImageParquet:
    """Parquet with encoded images (bytes, or {bytes, path} as Hugging Face writes them) and a label column.

    Args:
        files: the parquet files; without a split column, files named train... and test... are these splits.
        name: of the source.
        options: see `SourceOptions`.
        folder: that was given for the files.

    Attributes:
        not_read: pictures and parquet files in its subfolders (`which_not_read`), by ending.
    """

    which_not_read = BELOW

    def __init__(
        self, files: list[Path], options: SourceOptions, name: str = "images", folder: Path | None = None
    ) -> None:
        self.name, self.options = name, options
        self.not_read = Counter() if folder is None else _below(folder)
        options.only(name, *_COMMON, "label_column", "split_column", "key_column", "image_column", "size", "channels")
        self._tables = [open_table(file) for file in files]
        check_columns(self._tables)
        columns = self._tables[0].columns
        self._image = self._column("--image-column", options.image_column, _IMAGE_COLUMNS)
        self._label = options.label_column or next((c for c in ("label", "labels", "fine_label") if c in columns), None)
        self._split = options.split_column
        if self._split is None and options.test_fraction is None and "split" in columns:
            self._split = "split"
        for option, column in (
            ("--label-column", self._label),
            ("--split-column", self._split),
            ("--key-column", options.key_column),
        ):
            if column is not None:
                self._column(option, column, ())
        by_names = self._split is None and options.test_fraction is None
        self._split_of = splits_in_names(files) if by_names else {}
        names = _names_in_metadata(self._tables[0])
        self._classes = ClassIndex(options.unlabelled_value, f"Label column '{self._label}'", names)
        self._is_test: np.ndarray | None = None
        self._first_pass(known=names is not None)
        self.spec = image_spec(self._first_shape(), self._classes.names, files)

    def batches(self) -> Iterator[Batch | Undecoded]:
        """All images, in the order of the files."""
        decode, seen = Decoder(self.options, self.spec.shape), 0
        columns = list(dict.fromkeys(filter(None, [self._image, self._label, self._split, self.options.key_column])))
        size = min(_ENCODED_ROWS, self.spec.rows_per_batch)
        for shard, table in enumerate(self._tables):
            place, start = f"Shard {shard} ({table.path.name})", 0
            for part in table.batches(columns, rows=size):
                rows = np.arange(start, start + part.num_rows, dtype=np.int64)
                start += part.num_rows
                labels = np.full(len(rows), UNLABELLED, dtype=np.int64)
                if self._label:
                    labels = self._classes.encode(part[self._label], place)
                features = np.empty((len(rows), *self.spec.shape), dtype=np.uint8)
                good = np.ones(len(rows), dtype=bool)
                for index, raw in enumerate(part[self._image]):
                    where = f"{place}: row {rows[index]}"
                    try:
                        features[index] = decode(_bytes(raw, where), where)
                    except UnreadableSample as error:
                        good[index] = False
                        yield Undecoded(name=where, error=error)
                keys = rows + seen
                if self.options.key_column:
                    refuse_missing_keys(part[self.options.key_column], self.options.key_column, place)
                    keys = np.array([str(v) for v in part[self.options.key_column].to_pylist()], dtype=object)
                batch = Batch(features=features, labels=labels, keys=keys, rows=rows, split="train", place=place)
                yield from by_split(batch.pick(good), self._splits(part, table, seen + rows)[good])
            seen += start

    def _splits(self, part: pa.RecordBatch, table: TableFile, rows: np.ndarray) -> np.ndarray:
        if self._split:
            where = f"Split column '{self._split}'"
            return np.array([split_name(v, where) for v in part[self._split].to_pylist()], dtype=object)
        if self._split_of:
            return np.full(len(rows), self._split_of[table.path], dtype=object)
        assert self._is_test is not None
        return np.where(self._is_test[rows], "test", "train").astype(object)

    def _first_pass(self, known: bool) -> None:
        codes: list[np.ndarray] = []
        for table in self._tables:
            for part in table.batches([self._label or self._image], rows=1 << 14 if self._label else _ENCODED_ROWS):
                if self._label is None:
                    codes.append(np.full(part.num_rows, UNLABELLED, dtype=np.int64))
                else:
                    codes.append((self._classes.encode if known else self._classes.add)(part[self._label]))
        labels = np.concatenate([np.empty(0, np.int64), *codes])
        if len(labels) == 0:
            names = ", ".join(table.path.name for table in self._tables[:3])
            raise DataError(f"{names} must hold at least one image. It is empty.")
        if not known:
            labels = self._classes.finish()[labels.astype(np.int64)]
        self._classes.refuse_absent()
        if not self._split and not self._split_of:
            self._is_test = rows_for_test(labels, self.options)

    def _first_shape(self) -> tuple[int, ...]:
        """Of the first image that can be decoded."""
        faults = []
        for table in self._tables:
            for row, part in enumerate(table.batches([self._image], rows=1)):
                place = f"{table.path.name}: row {row}"
                try:
                    return Decoder(self.options)(_bytes(part[self._image][0], place), place).shape
                except UnreadableSample as error:
                    faults.append(error.fault)
        raise DataError(f"Column '{self._image}' must hold an image that can be decoded. {faults[0]}")

    def _column(self, option: str, wanted: str | None, usual: tuple[str, ...]) -> str:
        columns = self._tables[0].columns
        found = wanted or next((name for name in usual if name in columns), None)
        if found is None or found not in columns:
            listed = ", ".join(list(columns)[:20])
            raise must(option, f"a column of {self._tables[0].path.name} ({listed})", wanted)
        return found


class ImageNpz:
    """An npz with `images` (N, H, W[, C]) uint8, `labels` (N,) and, if it has one, `split` (N,)."""

    name = "images"

    def __init__(self, path: Path, options: SourceOptions) -> None:
        options.only("images in an npz", *_COMMON)
        self.options = options
        self._npz = Npz(path)
        shape, dtype = self._npz.shape("images"), self._npz.dtype("images")
        if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] not in (1, 3)):
            raise must("images", "(N, H, W) or (N, H, W, 1 or 3) uint8, N >= 1", f"{shape} {dtype}", where=path.name)
        names, self._labels, self._splits = self._npz.labelled(shape[0], options)
        channels = shape[3] if len(shape) == 4 else 1
        self.spec = image_spec((channels, shape[1], shape[2]), names, [path])

    def batches(self) -> Iterator[Batch]:
        """All images, in the order of the array."""
        start = 0
        for pixels in self._npz.rows("images", self.spec.rows_per_batch):
            rows = np.arange(start, start + len(pixels), dtype=np.int64)
            start += len(pixels)
            features = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, 3, 1)
            batch = Batch(
                features=np.ascontiguousarray(features),
                labels=self._labels[rows],
                keys=rows,
                rows=rows,
                split="train",
                place=self._npz.path.name,
            )
            yield from by_split(batch, self._splits[rows])


def _bytes(raw: Any, place: str) -> bytes:
    value = raw.as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if value is None:
        raise unreadable(f"{place}: the image is missing.", "images")
    if not isinstance(value, bytes):
        raise must("image", "the bytes of an encoded image", type(value).__name__, where=place)
    return value


def _below(folder: Path) -> Counter[str]:
    """Pictures and parquet files in the subfolders of a folder, by ending; what is hidden does not count."""
    paths = (path for path in folder.glob("*/**/*") if path.suffix.lower() in {*_SUFFIXES, ".parquet"})
    seen = (path for path in paths if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts))
    return Counter(path.suffix.lower() for path in seen if path.is_file())


def _names_in_metadata(table: TableFile) -> list[str] | None:
    """Names of the classes, if the file brings them: separated by commas, or one letter each."""
    text = table.metadata.get("classes")
    if not text:
        return None
    return [name.strip() for name in text.split(",")] if "," in text else list(text)
