"""Samples out of parquet files that a user brings: which columns they must have, which rows can be read.

Axes: n rows of a batch.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, UserError, must, some
from pipeline.places import is_data_set
from pipeline.prepared.manifest import Manifest
from pipeline.prepared.samples import ABSENT, TENSOR_COLUMN, WRONG_VALUE, InputSpec, narrowed
from pipeline.sources.readers import holds_numbers


def check_schema(schema: pa.Schema, spec: InputSpec, where: str) -> list[str]:
    """The columns that hold the samples, in the order of the model.

    Raises:
        DataError: one is missing, twice there, or has no numbers.
    """
    for name, count in Counter(schema.names).items():
        if count > 1 and name in (TENSOR_COLUMN, *(spec.columns or ())):
            raise DataError(f"{where}: column '{name}' must be there once. Got {count} of that name.")
    if not spec.by_name(schema.names):
        if TENSOR_COLUMN not in schema.names:
            raise DataError(f"{where}: column '{TENSOR_COLUMN}' must be there. Got {', '.join(schema.names)}.")
        kind = _element(schema.field(TENSOR_COLUMN).type)
        if kind is None or (spec.kind != "table" and str(kind) != spec.dtype):
            got = schema.field(TENSOR_COLUMN).type
            wanted = f"{spec.dtype} of shape {spec.shape}"
            raise DataError(f"{where}: column '{TENSOR_COLUMN}' must hold {wanted}. Got {got}.")
        return [TENSOR_COLUMN]
    assert spec.columns is not None
    missing = [name for name in spec.columns if name not in schema.names]
    if missing:
        listed = some(map(repr, missing), 5)
        raise DataError(f"{where}: columns {listed} must be there. Got {', '.join(schema.names)}. {ABSENT}")
    for name in spec.columns:
        kind = schema.field(name).type
        if not holds_numbers(kind):
            raise DataError(f"{where}: column '{name}' must hold numbers. Got {kind}.")
    return list(spec.columns)


def refuse_prepared_otherwise(source: Path, spec: InputSpec) -> None:
    """The shards of a data set tell neither names nor a rate: both must be the model's.

    Args:
        source: a data set, one of its splits, a file of it, or what lies in none.
        spec: of the model.

    Raises:
        UserError: the columns of a table are others or in another order, or recordings have another sample rate.
    """
    for folder in (source, *source.absolute().parents[:2]):
        if is_data_set(folder):
            given = InputSpec.of(Manifest.load(folder))
            spec.refuse_other_rate(given, "--input")
            columns = given.columns
            if spec.columns and columns and columns != spec.columns:
                raise _other_columns(spec.columns, columns)
            return


def _other_columns(wanted: tuple[str, ...], columns: tuple[str, ...]) -> UserError:
    """Names the first column that is another; only the order may be."""
    if sorted(wanted) == sorted(columns):
        order = some(wanted, 8)
        remedy = f"Prepare it with the columns in the order of the model: {order}."
    else:
        lacking = [name for name in wanted if name not in columns]
        more = "It has more columns: leave them out."
        remedy = f"It lacks {', '.join(lacking[:8])}. {ABSENT}" if lacking else more
    place = next((i for i, pair in enumerate(zip(wanted, columns, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return must("--input", f"a table of {len(wanted)} columns", f"{len(columns)}", remedy=remedy)
    return must("--input", f"a table whose column {place + 1} is '{wanted[place]}'", columns[place], remedy=remedy)


def refuse_another_kind(files: list[str], spec: InputSpec) -> None:
    """A row of another size is set aside; where every row is of another size, the model was made for other data."""
    size, fits, odd = math.prod(spec.shape), False, None
    for path in files:
        schema = pq.read_schema(path)
        if spec.by_name(schema.names):
            continue
        kind = schema.field(TENSOR_COLUMN).type
        storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        if pa.types.is_fixed_size_list(storage):
            if storage.list_size != size:
                raise _another_kind(path, storage.list_size, spec)
        elif not fits:
            sizes = _first_sizes(path)
            fits = size in sizes
            odd = odd or (path, sizes[0]) if sizes else odd
    if odd and not fits:
        raise _another_kind(*odd, spec)


def _first_sizes(path: str) -> list[int]:
    """Values of each of the first samples of a column of lists; of samples that are there."""
    for batch in pq.ParquetFile(path).iter_batches(1024, columns=[TENSOR_COLUMN]):
        column = batch.column(0)
        storage = column.storage if isinstance(column, pa.ExtensionArray) else column
        return list(storage.value_lengths().drop_null().to_pylist())
    return []


def _another_kind(path: str, got: int, spec: InputSpec) -> DataError:
    columns = spec.columns or ()
    listed = some(map(repr, columns), 5)
    what = (
        f"a table with the columns {listed}" if columns else f"{spec.kind} samples, {spec.dtype} of shape {spec.shape}"
    )
    return DataError(
        f"{path}: column '{TENSOR_COLUMN}' must have {math.prod(spec.shape)} values in a row: "
        f"the model was trained on {what}. Got {got}. {spec.how_long}".rstrip()
    )


def samples_of(batch: pa.RecordBatch, spec: InputSpec) -> tuple[np.ndarray, list[str | None]]:
    """The rows that can be scored, and for each row why it cannot, or None.

    Returns:
        (m, *shape) samples, m <= n, and n reasons.
    """
    values: np.ndarray
    reasons: list[str | None] = [None] * batch.num_rows
    if spec.by_name(batch.schema.names):
        assert spec.columns is not None
        arrays = [
            batch.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for name in spec.columns
        ]
        values = narrowed(np.stack(arrays, axis=1), spec.dtype)
    else:
        values, reasons = _tensors(batch.column(TENSOR_COLUMN), spec)
    bad = spec.invalid(values)
    places = [place for place, reason in enumerate(reasons) if reason is None]
    for place, wrong in zip(places, bad, strict=True):
        if wrong:
            reasons[place] = WRONG_VALUE
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
    values = kept.flatten()
    if values.null_count and np.dtype(spec.dtype).kind != "f":  # no integer says that it is missing, as NaN does
        whole = values.is_valid().to_numpy(zero_copy_only=False).reshape(len(kept), size).all(axis=1)
        for place in np.flatnonzero(good)[~whole]:
            reasons[place] = WRONG_VALUE
        values = kept.filter(pa.array(whole)).flatten()
    flat = values.to_numpy(zero_copy_only=False)
    return flat.reshape(-1, *spec.shape).astype(spec.dtype, copy=False), reasons


def _element(kind: pa.DataType) -> pa.DataType | None:
    """What a tensor or list column is made of, if these are numbers."""
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    listed = pa.types.is_fixed_size_list(storage) or pa.types.is_list(storage) or pa.types.is_large_list(storage)
    return storage.value_type if listed and holds_numbers(storage.value_type) else None
