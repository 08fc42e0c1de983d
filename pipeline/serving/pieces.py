"""The input of a batch prediction, cut into pieces of whole row groups; one output file is made of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, UserError, line_of, must
from pipeline.prepared.samples import InputSpec
from pipeline.serving.readable import check_schema

PIECE_ROWS = 100_000


@dataclass(frozen=True)
class Piece:
    """Row groups of an input file, and where their answers go.

    Attributes:
        file: the input.
        first, last: row groups [first, last).
        start: number of the first row in the file.
        offset: number of the first row in the whole input: its key, where there is no column with keys.
        rows: how many.
        name: of the output, below the output directory, without an ending.
    """

    file: str
    first: int
    last: int
    start: int
    offset: int
    rows: int
    name: str


def cut_input(source: Path, spec: InputSpec, key_column: str, piece_rows: int) -> tuple[list[Piece], bool]:
    """Cuts the input, and says whether it has keys. All files are looked at before anything is computed.

    Raises:
        DataError: a file cannot be read, or has not the columns it must have.
    """
    files = _files(source)
    pieces: list[Piece] = []
    keys: dict[str, str] = {}
    offset = 0
    for path in files:
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            if path.suffix != ".parquet":
                raise _unprepared(path) from None
            reason = f"{path} cannot be read as parquet: {line_of(error)[:160]}"
            raise DataError(f"--input must be a parquet file or a folder of such. {reason}") from None
        check_schema(file.schema_arrow, spec, str(path))
        known = file.schema_arrow.names
        keys[str(path)] = str(file.schema_arrow.field(key_column).type) if key_column in known else ""
        stem = path.relative_to(source).with_suffix("") if source.is_dir() else Path(path.stem)
        start = 0
        for number, (first, last, rows) in enumerate(_groups(file.metadata, piece_rows)):
            name = f"{stem.as_posix()}-{number:05d}"
            pieces.append(Piece(str(path.absolute()), first, last, start, offset, rows, name))
            start, offset = start + rows, offset + rows
    if len(set(keys.values())) > 1:
        odd = next(path for path, kind in keys.items() if kind != keys[str(files[0])])
        raise DataError(f"{odd}: column '{key_column}' must be as in {files[0]}. Use --key-column to name another one.")
    return pieces, bool(keys[str(files[0])])


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = [path for path in sorted(source.rglob("*.parquet")) if path.is_file() and not _set_aside(path, source)]
    if not found:
        raise _unprepared(source)
    return found


def _set_aside(path: Path, source: Path) -> bool:
    """What other tools have put there: a file or folder whose name begins with a dot or an underscore."""
    return any(part.startswith((".", "_")) for part in path.relative_to(source).parts)


def _unprepared(source: Path) -> UserError:
    remedy = "Other files are prepared first: jobs.prepare ... --test-fraction 0 --out DIR, then --input DIR/train."
    return must("--input", "a parquet file or a folder of such", str(source), remedy=remedy)


def _groups(metadata: pq.FileMetaData, piece_rows: int) -> Iterator[tuple[int, int, int]]:
    """(first, last, rows) of neighbouring row groups with at least so many rows together."""
    first = rows = 0
    for number in range(metadata.num_row_groups):
        rows += metadata.row_group(number).num_rows
        if rows >= piece_rows or number == metadata.num_row_groups - 1:
            yield first, number + 1, rows
            first, rows = number + 1, 0
    if metadata.num_row_groups == 0:
        yield 0, 0, 0
