"""Labels as they stand in raw data to the codes of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, UserError, must, some
from pipeline.sources.readers import NULLS
from somcore.config import UNLABELLED

_MAX_CLASSES = 65_536
_SHOWN = 20


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
        self._saw_unlabelled = self._saw_missing = False
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

    @property
    def lacks_unlabelled(self) -> bool:
        """Whether a value was said to mean unlabelled, and no label read so far is it."""
        missing = self._unlabelled in NULLS and self._saw_missing  # readers take such a word for a missing value
        return self._explicit and self._unlabelled is not None and not self._saw_unlabelled and not missing

    def look(self, values: np.ndarray | pa.Array) -> None:
        """Other labels, whose classes do not count: is the one that means unlabelled among them?"""
        self._distinct(values)

    def refuse_absent(self) -> None:
        """After the first pass.

        Raises:
            UserError: the value that was said to mean unlabelled is no label.
        """
        if self.lacks_unlabelled:
            raise absent_value(self._unlabelled, "a label that is there", self.names, self._where)

    def _distinct(self, values: np.ndarray | pa.Array) -> tuple[list[str | None], np.ndarray]:
        """Distinct labels as text (None = unlabelled) and the place of each row among them (last = missing)."""
        try:
            array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
            if isinstance(array, pa.ChunkedArray):
                array = array.combine_chunks()
            if pa.types.is_float16(array.type):
                array = array.cast(pa.float32())  # Arrow has no dictionary of the narrow ones
            if not pa.types.is_dictionary(array.type):
                array = pc.dictionary_encode(array)
        except pa.ArrowException as error:
            got = values.dtype if isinstance(values, np.ndarray) else values.type
            raise DataError(f"{self._where} must hold integers or names of classes. Got {got}.") from error
        raw = array.dictionary.to_pylist()
        self._saw_missing |= bool(array.indices.null_count)
        inverse = pc.fill_null(array.indices, len(raw)).to_numpy(zero_copy_only=False).astype(np.int64)
        texts: list[str | None] = []
        for value in raw:
            text = _canonical(value)
            if text is not None and text == self._unlabelled:
                self._saw_unlabelled = True
                text = None
            elif text is None:
                self._saw_missing = True
            texts.append(text)
        return texts, inverse


def absent_value(value: object, what: str, names: Sequence[str], where: str = "") -> UserError:
    """--unlabelled-value occurs nowhere; `names` are there."""
    listed = some(names, _SHOWN)
    return must("--unlabelled-value", f"{what} ({listed or 'there is none'})", value, where=where)


def _canonical(value: object) -> str | None:
    """A label as text; None for a missing one. 1, 1.0, "1" and "1.0" are the same label."""
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value).strip().strip("'\"").strip()
    if re.fullmatch(r"-?\d+\.0*", text):
        text = text.split(".")[0]
    return {"": None, "?": None, "-0": "0"}.get(text, text)


def _number(text: str) -> float | None:
    """The text as a finite number, if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
