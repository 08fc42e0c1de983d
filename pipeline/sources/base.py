"""What a source is: a description of its samples and a stream of batches, each small enough to hold in memory.

Axes: N rows, D features, C classes. A source never holds all its features at once. Labels arrive as codes in
[0, C), -1 = unlabelled; the names of the classes are found in a first pass over the label column alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.errors import DataError, UnreadableSample, UserError, must
from pipeline.prepared.labels import stratified_rows

DEFAULT_TEST_FRACTION = 0.2
BATCH_BYTES = 4 << 20
BELOW = "in subfolders"  # which files were not read, in a line for people
SPLIT_NAMES = {  # in any case, of a value, a folder or a file
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "validation": "validation",
}


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Options of all sources; a source names those it understands, any other one is an error.

    Args:
        label_column: column of the labels.
        unlabelled_value: label that means unlabelled; None = "-1", "none" = only missing values.
        split_column: column that says train, test or validation.
        test_fraction: stratified share for the test split; None = 0.2 where the data have no split of their own.
        seed: of that split.
        where: equality filters, "column=value,column=value".
        feature_columns, exclude_columns: names or patterns (x*), separated by commas.
        key_column: column of the row keys; None = row number.
        labelled_column: truth column; training rows where it is false become unlabelled.
        delimiter: of a csv file; None = found from its first line.
        header: whether a csv file starts with the names of its columns.
        image_column: column of encoded images.
        size: (height, width) to which images are resized; None = all must be equal.
        channels: 1 or 3; None = as the first image.
        duration_s: length of a recording; longer ones are cut, shorter ones end in silence.
        sample_rate: in Hz; recordings of another rate are resampled; None = all must be equal.
    """

    label_column: str | None = None
    unlabelled_value: str | None = None
    split_column: str | None = None
    test_fraction: float | None = None
    seed: int = 0
    where: str | None = None
    feature_columns: str | None = None
    exclude_columns: str | None = None
    key_column: str | None = None
    labelled_column: str | None = None
    delimiter: str | None = None
    header: bool = True
    image_column: str | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    duration_s: float = 1.0
    sample_rate: int | None = None

    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return {f.name: v for f in dataclasses.fields(self) if (v := getattr(self, f.name)) != f.default}

    def only(self, source: str, *understood: str) -> None:
        """Raise a UserError if an option was given that the source does not understand."""
        for name in self.changed():
            if name not in understood:
                option = "--" + name.removesuffix("_s").replace("_", "-")
                known = ", ".join("--" + n.removesuffix("_s").replace("_", "-") for n in understood) or "none"
                raise UserError(f"{option} does not apply to the source '{source}'. It understands: {known}.")


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """What the samples of a source are.

    Args:
        kind: "image", "table" or "audio".
        shape: of one sample: (C, H, W), (D,) or (samples,).
        dtype: "uint8", "float32" or "int16".
        class_names: names of the classes, in the order of their codes.
        value_range: smallest and largest possible value; None for tables, which are scaled by their columns.
        feature_names: names of the columns of a table.
        files: the raw files, for provenance.
        details: facts worth keeping, such as the sample rate.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    class_names: tuple[str, ...]
    value_range: tuple[float, float] | None = None
    feature_names: tuple[str, ...] | None = None
    files: tuple[Path, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def rows_per_batch(self) -> int:
        """Rows that make about 4 MB."""
        row_bytes = int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        return int(np.clip(BATCH_BYTES // max(row_bytes, 1), 1, 16_384))


def image_spec(shape: tuple[int, ...], names: Iterable[str], files: Iterable[Path], white: float = 255.0) -> SourceSpec:
    """Of images of 8 bits, (C, H, W)."""
    return SourceSpec(
        kind="image",
        shape=shape,
        dtype="uint8",
        class_names=tuple(names),
        value_range=(0.0, white),
        files=tuple(files),
    )


def required_root(root: Path | None, source: str) -> Path:
    """The root, which must be given and exist."""
    if root is None:
        raise DataError(f"--root must be given for the source '{source}': the folder or file with its raw data.")
    if not root.exists():
        raise DataError(f"--root must be an existing file or folder. Got {root}.")
    return root


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive samples of one split.

    Args:
        features: (n, *shape), of the dtype of the source.
        labels: (n,) int64 codes, -1 = unlabelled.
        keys: (n,) row keys, all integers or all strings.
        rows: (n,) row numbers in the raw file, for messages.
        split: "train", "test" or "validation".
        place: the raw file, for messages: "Shard 3 (part-00003.parquet)".
    """

    features: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    rows: np.ndarray
    split: str
    place: str

    def pick(self, chosen: np.ndarray, split: str | None = None) -> Batch:
        """The chosen rows (mask or indices) as a batch of their own."""
        parts = {name: getattr(self, name)[chosen] for name in ("features", "labels", "keys", "rows")}
        return Batch(split=split or self.split, place=self.place, **parts)


@dataclass(frozen=True, kw_only=True)
class Undecoded:
    """A sample that cannot be decoded, in its place among the batches.

    Args:
        name: its file below the root, or its row.
        error: to be raised where such samples are not left out.
    """

    name: str
    error: UnreadableSample


def unreadable(fault: str, what: str) -> UnreadableSample:
    """The error of a sample that cannot be decoded, with what to do about such images, or files."""
    return UnreadableSample(f"{fault} Clean it, or pass --drop-invalid to leave such {what} out.", fault=fault)


class Source(Protocol):
    """Raw data as a stream."""

    name: str
    options: SourceOptions
    spec: SourceSpec

    def batches(self) -> Iterator[Batch | Undecoded]:
        """All samples, batch by batch, in the order of the raw files."""
        ...


def split_name(value: object, where: str) -> str:
    """The canonical name of a split."""
    text = value.decode() if isinstance(value, bytes) else str(value)
    if text.strip().lower() not in SPLIT_NAMES:
        remedy = "Pass --test-fraction for a seeded split."
        raise must("split", "train, test or validation", text, where=where, remedy=remedy)
    return SPLIT_NAMES[text.strip().lower()]


def rows_for_test(labels: np.ndarray, options: SourceOptions) -> np.ndarray:
    """(N,) bool: rows of the seeded, stratified test split of data without a split of their own."""
    share = DEFAULT_TEST_FRACTION if options.test_fraction is None else options.test_fraction
    return stratified_rows(labels, share, options.seed, "test")


def by_split(batch: Batch, splits: np.ndarray) -> Iterator[Batch]:
    """The batch cut by split; `splits` holds one name per row."""
    for name in dict.fromkeys(splits.tolist()):
        yield batch.pick(splits == name, name)
