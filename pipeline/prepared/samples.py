"""What samples a model takes, in the units of the source, and how they are read from tables and arrays.

Axes: n samples, D features.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.errors import DataError, must, some
from pipeline.prepared.manifest import Manifest
from pipeline.prepared.scaling import Scaling
from pipeline.prepared.shards import Dataset

TENSOR_COLUMN = "features"
WRONG_VALUE = "a value is missing, infinite or beyond float32"
_NUMBERS = ("decimal", "integer", "floating", "mixed-integer-float", "empty")  # what pandas may keep as objects
ABSENT = "Add what is missing; a category that does not occur is a column of 0."


@dataclass(frozen=True)
class InputSpec:
    """What a model takes: the samples of the data set it was trained on, unscaled.

    Attributes:
        kind: table, image or audio.
        shape: of a sample.
        dtype: as the source has it.
        low, high: what is scaled to 0 and 1; per feature or for all.
        columns: of tables.
        missing: "error" or "mask": whether NaN may stand in a sample.
        sample_rate: of recordings, in Hz; 0 = not known.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    columns: tuple[str, ...] | None
    missing: str
    sample_rate: int = 0

    @classmethod
    def of(cls, manifest: Manifest) -> InputSpec:
        """Of a prepared data set."""
        scaling, names = Scaling.of(manifest), manifest.feature_names
        about = (manifest.kind, tuple(manifest.shape), manifest.dtype, scaling.low, scaling.high)
        rate = int(manifest.details.get("sample_rate", 0))
        return cls(*about, tuple(names) if names else None, manifest.missing, rate)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> InputSpec:
        """From plain values."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    def read(self, samples: Any) -> np.ndarray:
        """Samples as an array (n, *shape).

        Args:
            samples: of tables a table of pandas, polars or pyarrow with the columns of the source, in any order; else
                an array or tensor, or a table with one column `features`. Integers of any type may stand for those
                of the source.

        Raises:
            UserError: a column is missing, twice there or has no numbers, or the shape or type is another one.
        """
        if hasattr(samples, "to_pandas"):
            samples = samples.to_pandas()
        if _is_table(samples) and self.by_name(samples.columns):
            return self._columns(samples)
        values = self._whole(samples) if _is_table(samples) else _array(samples)
        if values.ndim and not len(values):
            return np.empty((0, *self.shape), self.dtype)
        if values.dtype == object and self.kind == "table":
            values = _nan_for_none(values)
        if values.ndim == 0 or (values.shape[1:] != self.shape and not self._folds(values.shape)):
            raise must("Samples", f"of shape (n, {', '.join(map(str, self.shape))})", values.shape)
        values = values.reshape(len(values), *self.shape)
        if values.dtype.kind not in "iufb":
            raise must("Samples", "numbers", str(values.dtype))
        return narrowed(values, self.dtype) if self.kind == "table" else self._typed(values)

    def by_name(self, names: Collection[str]) -> bool:
        """Whether each feature has its column, by its name; else one column holds whole samples.

        Args:
            names: of the columns that are there.
        """
        return self.columns is not None and (TENSOR_COLUMN not in names or set(self.columns) <= set(names))

    def seen_by_model(self, dataset: Dataset) -> Dataset:
        """A prepared data set as the model takes it: tables in the scaling and order of columns of its training data.

        Raises:
            UserError: samples of another kind, shape or sample rate, or without one of the columns.
        """
        given = InputSpec.of(dataset.manifest)
        if (given.kind, given.shape) != (self.kind, self.shape):
            wanted = f"{self.kind} samples of shape {self.shape}, as the model was trained on"
            remedy = self.how_long if given.kind == "audio" else ""
            raise must("--data", f"a data set of {wanted}", f"{given.kind} {given.shape}", remedy=remedy)
        self.refuse_other_rate(given, "--data")
        if self.kind != "table":
            return dataset
        columns, named = self.columns or (), given.columns or ()
        missing = [name for name in columns if name not in named]
        if missing and named:
            wanted = f"a table with the columns of the model, {some(map(repr, missing), 5)} too"
            raise must("--data", wanted, ", ".join(named[:8]), remedy=ABSENT)
        order = [named.index(name) for name in columns] if columns and named else range(self.shape[0])
        return dataset.seen_as(Scaling(self.low, self.high), order)

    @property
    def how_long(self) -> str:
        """How recordings of another length are prepared for this model; empty where it takes none."""
        if self.kind != "audio" or not self.sample_rate:
            return ""
        return f"Prepare it with --duration {self.shape[0] / self.sample_rate:.12g} --sample-rate {self.sample_rate}."

    def refuse_other_rate(self, given: InputSpec, option: str) -> None:
        """Recordings at another rate sound otherwise, though they may be as long in samples.

        Args:
            given: what a prepared data set holds.
            option: that named it.

        Raises:
            UserError: both rates are known, and they differ.
        """
        if self.sample_rate and given.sample_rate not in (0, self.sample_rate):
            wanted = f"recordings at {self.sample_rate} Hz, as the model was trained on"
            remedy = f"Prepare it with --sample-rate {self.sample_rate}."
            raise must(option, wanted, given.sample_rate, remedy=remedy)

    def invalid(self, values: np.ndarray) -> np.ndarray:
        """(n,) bool: samples that cannot be scored, because a value is missing, infinite or beyond float32."""
        if values.dtype.kind != "f":
            return np.zeros(len(values), dtype=bool)
        flat = values.reshape(len(values), math.prod(values.shape[1:]))
        bad = np.isinf(flat).any(axis=1)
        return bad | (np.isnan(flat).all(axis=1) if self.missing == "mask" else np.isnan(flat).any(axis=1))

    def _folds(self, shape: tuple[int, ...]) -> bool:
        """Whether only the axis of one channel is missing, or everything is in one row."""
        same_size = math.prod(shape[1:]) == math.prod(self.shape)
        return same_size and (shape[1:] == self.shape[1:] or len(shape) == 2)

    def _whole(self, table: Any) -> np.ndarray:
        """The samples of a column that holds one in each row."""
        if TENSOR_COLUMN not in table:
            raise must("Columns", f"'{TENSOR_COLUMN}' with the samples", sorted(map(str, table.columns)))
        return _array([np.asarray(row) for row in table[TENSOR_COLUMN].to_list()])

    def _typed(self, values: np.ndarray) -> np.ndarray:
        """Images and recordings in the type of the source: integers of another type are the same, fractions are not."""
        wanted = np.dtype(self.dtype)
        if values.dtype == wanted:
            return values
        if values.dtype.kind in "iu" and wanted.kind in "iu":
            low, high = int(np.iinfo(wanted).min), int(np.iinfo(wanted).max)
            if low <= values.min() and values.max() <= high:
                return values.astype(wanted)
            raise must("Samples", f"{self.dtype}, from {low} to {high}", f"{values.min()} to {values.max()}")
        raise must("Samples", self.dtype, str(values.dtype), remedy="Give them as the source has them, unscaled.")

    def _columns(self, table: Any) -> np.ndarray:
        from pandas.api.types import infer_dtype, is_numeric_dtype

        assert self.columns is not None
        missing = [name for name in self.columns if name not in table]
        if missing:
            listed = some(map(repr, missing), 5)
            raise DataError(f"Columns {listed} must be there. Got {', '.join(map(str, table.columns))}. {ABSENT}")
        part = table[list(self.columns)]
        for name in part.columns[part.columns.duplicated()]:
            raise must(f"Column '{name}'", "there once", f"{list(part.columns).count(name)} of that name")
        for name, kind in part.dtypes.items():
            if kind.kind == "c" or not is_numeric_dtype(kind) and infer_dtype(part[name]) not in _NUMBERS:
                raise must(f"Column '{name}'", "numbers", str(kind))
        if "O" in [kind.kind for kind in part.dtypes]:  # `to_numpy` looks for what is missing in typed columns only
            part = part.where(part.notna(), np.nan)
        return narrowed(part.to_numpy(dtype=np.float64, na_value=np.nan), self.dtype)  # as training has read them


def _is_table(samples: Any) -> bool:
    """A DataFrame, without importing pandas where training does not need it."""
    return hasattr(samples, "columns") and hasattr(samples, "dtypes")


def _array(samples: Any) -> np.ndarray:
    """Numbers in rows, from arrays, lists and tensors."""
    if isinstance(samples, torch.Tensor):
        return samples.detach().cpu().numpy()
    try:
        return np.asarray(samples)
    except ValueError:
        raise must("Samples", "an array", "rows of several lengths") from None


def _nan_for_none(values: np.ndarray) -> np.ndarray:
    """Numbers with gaps, as JSON has them (null); anything else stays as it is."""
    from pandas import isna
    from pandas.api.types import infer_dtype

    if infer_dtype(values.ravel()) not in _NUMBERS:
        return values
    return np.where(isna(values), np.nan, values).astype(np.float64)


def narrowed(values: np.ndarray, dtype: str) -> np.ndarray:
    """In the type of the source; what does not fit becomes infinite, which is refused as such."""
    with np.errstate(over="ignore"):
        return values.astype(dtype)
