"""What samples a model takes, in the units of the source, and how they are read from tables and arrays.

Axes: n samples, D features.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import DataError, must
from pipeline.manifest import Manifest
from pipeline.scaling import Scaling
from pipeline.shards import Dataset

TENSOR_COLUMN = "features"


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
            samples: of tables a DataFrame with the columns of the source, in any order; else an array, or a
                DataFrame with one column `features`.

        Raises:
            UserError: a column is missing or has no numbers, or the shape or type is another one.
        """
        if _is_table(samples) and self.columns and TENSOR_COLUMN not in samples:
            return self._columns(samples)
        values = samples
        if _is_table(samples):
            if TENSOR_COLUMN not in samples:
                raise must("Columns", f"'{TENSOR_COLUMN}' with the samples", sorted(map(str, samples.columns)))
            rows = samples[TENSOR_COLUMN].to_list()
            values = np.stack([np.asarray(row) for row in rows]) if rows else np.empty((0, *self.shape), self.dtype)
        values = np.asarray(values)
        if values.shape[1:] != self.shape and values[:1].size == int(np.prod(self.shape)) and self._folds(values.shape):
            values = values.reshape(len(values), *self.shape)
        if values.ndim == 0 or (values.shape[1:] != self.shape and len(values)):
            raise must("Samples", f"of shape (n, {', '.join(map(str, self.shape))})", values.shape)
        if self.kind != "table" and values.dtype != np.dtype(self.dtype):
            raise must("Samples", self.dtype, str(values.dtype), remedy="Give them as the source has them, unscaled.")
        if values.dtype.kind not in "iufb":
            raise must("Samples", "numbers", str(values.dtype))
        return values.astype(self.dtype) if self.kind == "table" else values

    def seen_by_model(self, dataset: Dataset) -> Dataset:
        """A prepared data set as the model takes it: tables in the scaling and order of columns of its training data.

        Raises:
            UserError: samples of another kind, shape or sample rate, or without one of the columns.
        """
        given = InputSpec.of(dataset.manifest)
        if (given.kind, given.shape) != (self.kind, self.shape):
            wanted = f"{self.kind} samples of shape {self.shape}, as the model was trained on"
            raise must("--data", f"a data set of {wanted}", f"{given.kind} {given.shape}")
        self.refuse_other_rate(given, "--data")
        if self.kind != "table":
            return dataset
        columns, named = self.columns or (), given.columns or ()
        missing = [name for name in columns if name not in named]
        if missing and named:
            some = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise must("--data", f"a table with the columns of the model, {some} too", ", ".join(named[:8]))
        order = [named.index(name) for name in columns] if columns and named else range(self.shape[0])
        return dataset.seen_as(Scaling(self.low, self.high), order)

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
        """(n,) bool: samples that cannot be scored, because a value is missing or infinite."""
        if values.dtype.kind != "f":
            return np.zeros(len(values), dtype=bool)
        flat = values.reshape(len(values), math.prod(values.shape[1:]))
        bad = np.isinf(flat).any(axis=1)
        return bad | (np.isnan(flat).all(axis=1) if self.missing == "mask" else np.isnan(flat).any(axis=1))

    def _folds(self, shape: tuple[int, ...]) -> bool:
        """Whether only the axis of one channel is missing, or everything is in one row."""
        return shape[1:] == self.shape[1:] or len(shape) == 2

    def _columns(self, table: Any) -> np.ndarray:
        from pandas.api.types import is_numeric_dtype

        assert self.columns is not None
        missing = [name for name in self.columns if name not in table]
        if missing:
            some = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise DataError(f"Columns {some} must be there. Got {', '.join(map(str, table.columns))}.")
        part = table[list(self.columns)]
        for name, kind in part.dtypes.items():
            if not is_numeric_dtype(kind):
                raise must(f"Column '{name}'", "numbers", str(kind))
        return part.to_numpy(dtype=np.float64, na_value=np.nan).astype(self.dtype)  # as training has read them


def _is_table(samples: Any) -> bool:
    """A DataFrame, without importing pandas where training does not need it."""
    return hasattr(samples, "columns") and hasattr(samples, "dtypes")
