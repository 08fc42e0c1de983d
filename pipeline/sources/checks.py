"""Whether a source keeps its word: its description, and every batch before it is written.

Axes: n rows of a batch, C classes. All of it is a few comparisons of whole arrays, little beside reading them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import DataError, must
from pipeline.sources.base import Batch, SourceSpec, Undecoded
from pipeline.sources.readers import TableFile
from somcore.config import UNLABELLED

SPLITS = ("train", "validation", "test")
_SHAPES = {"image": "(C, H, W)", "table": "(D,)", "audio": "(samples,)"}
_DTYPES = ("uint8", "float32", "int16")
_KEYS_LOOKED_AT = 100_000


def check_spec(spec: SourceSpec, name: str) -> None:
    """Raise where a description cannot be that of samples.

    Args:
        spec: of a source.
        name: of that source.

    Raises:
        UserError: a field is not what `SourceSpec` says.
    """
    where = f"Source '{name}'"
    if spec.kind not in _SHAPES:
        raise must("kind", "image, table or audio", spec.kind, where=where)
    shape, wanted = spec.shape, _SHAPES[spec.kind]
    fits = isinstance(shape, tuple) and len(shape) == wanted.count(",") + (spec.kind == "image")
    if not fits or not all(isinstance(extent, int) and extent > 0 for extent in shape):
        raise must("shape", f"{wanted} with integers >= 1, as of one {spec.kind} sample", shape, where=where)
    if spec.dtype not in _DTYPES:
        raise must("dtype", ", ".join(_DTYPES[:-1]) + f" or {_DTYPES[-1]}", spec.dtype, where=where)
    _check_names("class_names", spec.class_names, where)
    if spec.kind == "table" and spec.feature_names is not None:
        _check_names("feature_names", spec.feature_names, where)
        if len(spec.feature_names) != shape[0]:
            raise must("feature_names", f"{shape[0]} names, as shape says", len(spec.feature_names), where=where)
    if spec.kind != "table" and not _is_range(spec.value_range):
        wanted = f"two finite numbers, the least and the largest value of {spec.kind} samples"
        raise must("value_range", wanted, spec.value_range, where=where)
    _check_details(spec, where)


def _check_names(field: str, names: Sequence[str], where: str) -> None:
    if not all(isinstance(text, str) for text in names):
        raise must(field, "strings", names, where=where)
    twice = next((text for text, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise must(field, "names of which no two are alike", twice, where=where)


def _is_range(given: Any) -> bool:
    if not isinstance(given, tuple | list) or not all(isinstance(value, int | float) for value in given):
        return False
    return len(given) == 2 and all(map(math.isfinite, given)) and given[0] < given[1]


def _check_details(spec: SourceSpec, where: str) -> None:
    try:
        json.dumps(spec.details)
    except (TypeError, ValueError) as error:
        raise must("details", f"values that JSON can hold ({error})", spec.details, where=where) from None
    rate = spec.details.get("sample_rate")
    if spec.kind == "audio" and not (isinstance(rate, int) and rate > 0):
        raise must("details['sample_rate']", "samples per second of the recordings, an integer", rate, where=where)


def check_columns(files: Sequence[TableFile]) -> None:
    """Raise where a table of many files has not the same columns in all of them."""
    first = files[0]
    for file in files[1:]:
        if file.columns.keys() != first.columns.keys():
            odd = sorted(file.columns.keys() ^ first.columns.keys())[0]
            raise DataError(f"{file.path.name} must have the columns of {first.path.name}. '{odd}' differs.")


def check_batch(batch: Any, spec: SourceSpec, number: int) -> None:
    """Raise where a batch is not what `Batch` and its source say.

    Args:
        batch: what a source yielded.
        spec: of the source.
        number: how many it had yielded before.

    Raises:
        UserError: a field is missing or another one; it names the batch, and the row where there is one.
    """
    if not isinstance(batch, Batch):
        what = f"objects of class {Batch.__name__} or {Undecoded.__name__}"
        raise must("What batches() yields", what, type(batch).__name__, where=f"Batch {number}")
    where = place_of(batch, number)
    if batch.split not in SPLITS:
        raise must("split", "train, validation or test", batch.split, where=where)
    if _type(batch.features) != spec.dtype or batch.features.shape[1:] != spec.shape:
        wanted = f"{spec.dtype} of shape ({', '.join(['n', *map(str, spec.shape)])}), as the source says"
        raise must("features", wanted, _outline(batch.features), where=where)
    for name in ("labels", "keys", "rows"):
        values = getattr(batch, name)
        if _type(values) is None or values.shape != (len(batch.features),):
            wanted = f"an array of one for each of the {len(batch.features)} samples"
            raise must(name, wanted, _outline(values), where=where)
    for name in ("labels", "rows"):
        if not _whole(getattr(batch, name)):
            raise must(name, "integers", str(getattr(batch, name).dtype), where=where)
    _check_values(batch, spec, where)
    _check_labels(batch, len(spec.class_names), where)
    _check_keys(batch, where)


def place_of(batch: Batch, number: int) -> str:
    """Which batch it is, for messages."""
    return f"Batch {number} ({batch.place})"


def _check_values(batch: Batch, spec: SourceSpec, where: str) -> None:
    """NaN and infinite values are the writer's to judge."""
    if spec.kind == "table" or spec.value_range is None:
        return
    low, high = spec.value_range
    outside = ((batch.features < low) | (batch.features > high)) & np.isfinite(batch.features)
    if outside.any():
        row = int(np.argmax(outside.reshape(len(outside), -1).any(axis=1)))
        value = batch.features[row][outside[row]].flat[0].item()
        wanted = f"in [{low:g}, {high:g}], the value_range of the source"
        raise must("features", wanted, value, where=f"{where}: row {batch.rows[row]}")


def _check_labels(batch: Batch, num_classes: int, where: str) -> None:
    labels = batch.labels
    if len(labels) == 0 or (labels.min() >= UNLABELLED and labels.max() < num_classes):
        return
    row = int(np.argmax((labels < UNLABELLED) | (labels >= num_classes)))
    classes = f"a code in 0..{num_classes - 1}, or -1 for unlabelled" if num_classes else "-1, as there are no classes"
    raise must("label", classes, int(labels[row]), where=f"{where}: row {batch.rows[row]}")


def _check_keys(batch: Batch, where: str) -> None:
    keys = batch.keys
    if _whole(keys) or keys.dtype.kind == "U":
        return
    if keys.dtype.kind != "O":
        raise must("keys", "all integers or all strings", str(keys.dtype), where=where)
    if set(map(type, keys)) <= {str}:
        return
    row = next(row for row, key in enumerate(keys) if type(key) is not str)
    what = "a string, as it is in an array of objects"
    raise must("key", what, keys[row], where=f"{where}: row {batch.rows[row]}")


class Keys:
    """Looks for a key that stands twice, among the first of them: a set of all would grow with the rows.

    Args:
        of_a_column: they are the values of a column that the user named, where the first that repeats is only noted;
            what a source made itself must differ within a split, and be of one type.

    Attributes:
        repeated: the first that was noted.
    """

    def __init__(self, of_a_column: bool) -> None:
        self._of_a_column = of_a_column
        self._seen: dict[str, set[Any]] = {}
        self._types: dict[str, bool] = {}
        self.repeated: str | None = None

    def add(self, batch: Batch, where: str) -> None:
        """Look at the keys of a batch.

        Raises:
            UserError: they are of another type than those before, or one repeats that must not.
        """
        whole = _whole(batch.keys)
        if len(batch.keys) and self._types.setdefault(batch.split, whole) != whole:
            raise must("keys", "all integers or all strings", f"both in the {batch.split} split", where=where)
        if self.repeated is not None:
            return
        seen = self._seen.setdefault("" if self._of_a_column else batch.split, set())
        room = _KEYS_LOOKED_AT - sum(map(len, self._seen.values()))
        for row, key in enumerate(batch.keys[:room].tolist()):
            if key in seen:
                self.repeated = str(key)
                if not self._of_a_column:
                    place = f"{where}: row {batch.rows[row]}"
                    raise must("key", "another one for each row of a split", key, place, "An earlier row has it.")
                return
            seen.add(key)


def _type(values: object) -> str | None:
    return str(values.dtype) if isinstance(values, np.ndarray) else None


def _whole(values: np.ndarray) -> bool:
    """Whether they are integers that int64 can hold."""
    return values.dtype.kind in "iu" and np.can_cast(values.dtype, np.int64)


def _outline(values: object) -> str:
    if not isinstance(values, np.ndarray):
        return f"an object of class {type(values).__name__}"
    return f"{values.dtype} of shape {values.shape}"
