"""What a source is: a description of its samples and a stream of batches, each small enough to hold in memory.

Axes: N rows, D features, C classes. A source never holds all its features at once. Labels arrive as codes in
[0, C), -1 = unlabelled; the names of the classes are found in a first pass over the label column alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, UserError, must
from pipeline.labels import UNLABELLED, stratified_rows

DEFAULT_TEST_FRACTION = 0.2
BATCH_BYTES = 4 << 20
_MAX_CLASSES = 65_536
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


class Source(Protocol):
    """Raw data as a stream."""

    name: str
    options: SourceOptions
    spec: SourceSpec

    def batches(self) -> Iterator[Batch]:
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


class ClassIndex:
    """Raw labels to codes 0..C-1: integers in numeric order, anything else in the order of the text.

    Args:
        unlabelled_value: the label that means unlabelled; None = "-1", "none" = only missing values.
        where: what the labels are, for messages ("label column 'y'").
        names: the classes, if they are known: then integer labels are codes and must be in range.
    """

    def __init__(self, unlabelled_value: str | None, where: str, names: Sequence[str] | None = None) -> None:
        self._explicit = unlabelled_value is not None
        value = "-1" if unlabelled_value is None else unlabelled_value
        self._unlabelled = None if value.lower() == "none" else _canonical(value)
        self._where = where
        self._seen: dict[str, int] = {}
        self._saw_unlabelled = False
        self.names: tuple[str, ...] = tuple(names or ())
        self._codes: dict[str, int] | None = None
        if names is not None:
            self._codes = {str(code): code for code in range(len(names))}

    def add(self, values: np.ndarray | pa.Array) -> np.ndarray:
        """First pass: note the labels; returns provisional codes for `finish`."""
        texts, inverse = self._distinct(values)
        codes = [UNLABELLED if t is None else self._seen.setdefault(t, len(self._seen)) for t in texts]
        if len(self._seen) > _MAX_CLASSES:
            raise DataError(f"{self._where} must hold classes. Got more than {_MAX_CLASSES} different values.")
        return np.array([*codes, UNLABELLED], dtype=np.int32)[inverse]

    def finish(self) -> np.ndarray:
        """End of the first pass: fixes the names; returns the table from provisional to final codes."""
        seen = list(self._seen)
        numbers = [_number(text) for text in seen]
        if seen and all(number is not None for number in numbers):
            odd = next((t for t, n in zip(seen, numbers, strict=True) if n != int(n or 0)), None)
            if odd is not None:
                raise DataError(f"{self._where} must hold integers or names of classes. Got {odd}.")
            order = sorted(seen, key=lambda text: (float(text), text))
        else:
            order = sorted(seen)
        if self._saw_unlabelled and not self._explicit and order == ["1"]:
            raise DataError(
                f"{self._where} holds only -1 and 1: is -1 a class or unlabelled? "
                "Pass --unlabelled-value none (a class) or --unlabelled-value -1 (unlabelled)."
            )
        self.names = tuple(order)
        self._codes = {name: code for code, name in enumerate(order)}
        return np.array([*(self._codes[text] for text in seen), UNLABELLED], dtype=np.int64)

    def encode(self, values: np.ndarray | pa.Array, place: str = "") -> np.ndarray:
        """Second pass: (n,) int64 codes."""
        assert self._codes is not None, "encode before finish"
        texts, inverse = self._distinct(values)
        codes = []
        for text in texts:
            if text is not None and text not in self._codes:
                front = f"{place}: " if place else ""
                raise DataError(f"{front}{self._where} must be in 0..{len(self.names) - 1} or unlabelled. Got {text}.")
            codes.append(UNLABELLED if text is None else self._codes[text])
        return np.array([*codes, UNLABELLED], dtype=np.int64)[inverse]

    def _distinct(self, values: np.ndarray | pa.Array) -> tuple[list[str | None], np.ndarray]:
        """Distinct labels as text (None = unlabelled) and the place of each row among them (last = missing)."""
        try:
            array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        except pa.ArrowException as error:
            raise DataError(f"{self._where} must hold integers or names of classes. Got {values.dtype}.") from error
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if not pa.types.is_dictionary(array.type):
            array = pc.dictionary_encode(array)
        raw = array.dictionary.to_pylist()
        inverse = pc.fill_null(array.indices, len(raw)).to_numpy(zero_copy_only=False).astype(np.int64)
        texts: list[str | None] = []
        for value in raw:
            text = _canonical(value)
            if text is not None and text == self._unlabelled:
                self._saw_unlabelled = True
                text = None
            texts.append(text)
        return texts, inverse


def _canonical(value: object) -> str | None:
    """A label as text; None for a missing one. 1, 1.0, "1" and "1.0" are the same label."""
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value).strip().strip("'\"").strip()
    if re.fullmatch(r"-?\d+\.0*", text):
        text = text.split(".")[0]
    return None if text in ("", "?") else text


def _number(text: str) -> float | None:
    """The text as a finite number, if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
