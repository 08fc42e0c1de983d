"""Samples out of parquet files that a user brings: which columns they must have, which rows can be read.

Axes: n rows of a batch.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError
from pipeline.samples import TENSOR_COLUMN, InputSpec


def check_schema(schema: pa.Schema, spec: InputSpec, where: str) -> list[str]:
    """The columns that hold the samples, in the order of the model.

    Raises:
        DataError: one is missing, or has no numbers.
    """
    if spec.columns is None or TENSOR_COLUMN in schema.names:
        if TENSOR_COLUMN not in schema.names:
            raise DataError(f"{where}: column '{TENSOR_COLUMN}' must be there. Got {', '.join(schema.names)}.")
        kind = _element(schema.field(TENSOR_COLUMN).type)
        if kind is None or (spec.kind != "table" and str(kind) != spec.dtype):
            got = schema.field(TENSOR_COLUMN).type
            must = f"{spec.dtype} of shape {spec.shape}"
            raise DataError(f"{where}: column '{TENSOR_COLUMN}' must hold {must}. Got {got}.")
        return [TENSOR_COLUMN]
    missing = [name for name in spec.columns if name not in schema.names]
    if missing:
        some = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{where}: columns {some} must be there. Got {', '.join(schema.names)}.")
    for name in spec.columns:
        kind = schema.field(name).type
        if not _number(kind):
            raise DataError(f"{where}: column '{name}' must hold numbers. Got {kind}.")
    return list(spec.columns)


def samples_of(batch: pa.RecordBatch, spec: InputSpec) -> tuple[np.ndarray, list[str | None]]:
    """The rows that can be scored, and for each row why it cannot, or None.

    Returns:
        (m, *shape) samples, m <= n, and n reasons.
    """
    if TENSOR_COLUMN in batch.schema.names:
        values, reasons = _tensors(batch.column(TENSOR_COLUMN), spec)
    else:
        assert spec.columns is not None
        arrays = [batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in spec.columns]
        values, reasons = np.stack(arrays, axis=1).astype(spec.dtype), [None] * batch.num_rows
    bad = spec.invalid(values)
    places = [place for place, reason in enumerate(reasons) if reason is None]
    for place, wrong in zip(places, bad, strict=True):
        if wrong:
            reasons[place] = "a value is missing or infinite"
    return values[~bad], reasons


def _tensors(column: pa.Array, spec: InputSpec) -> tuple[np.ndarray, list[str | None]]:
    """Rows of a tensor or list column that have the right size."""
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    size = int(np.prod(spec.shape))
    lengths = storage.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_fixed_size_list(storage.type):
        lengths *= storage.type.list_size
    else:
        lengths *= storage.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    good = lengths == size
    reasons: list[str | None] = [
        None if fine else ("the sample is missing" if length == 0 else f"{length} values instead of {size}")
        for fine, length in zip(good, lengths, strict=True)
    ]
    kept = storage if good.all() else storage.filter(pa.array(good))
    flat = kept.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(kept), *spec.shape).astype(spec.dtype, copy=False), reasons


def _element(kind: pa.DataType) -> pa.DataType | None:
    """What a tensor or list column is made of, if these are numbers."""
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    listed = pa.types.is_fixed_size_list(storage) or pa.types.is_list(storage) or pa.types.is_large_list(storage)
    return storage.value_type if listed and _number(storage.value_type) else None


def _number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
